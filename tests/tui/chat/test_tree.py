"""The tree of a conversation: nothing that was said is ever lost, and the model is asked what is on the path."""

from __future__ import annotations

import random

from tui_trainer.tui.chat.reply import Reply, Token
from tui_trainer.tui.chat.tree import Conversation, Turn, messages_to, resampled, to_tree


def said(text: str) -> Reply:
    return Reply(generated=text, finish_reason="stop")


def talk(conversation: Conversation, question: str, *answers: str) -> list[Turn]:
    return conversation.answer(conversation.ask(question), [said(answer) for answer in answers])


def texts(conversation: Conversation) -> list[str]:
    return [turn.text for turn in conversation.path]


def test_questions_and_answers_follow_each_other() -> None:
    conversation = Conversation()
    talk(conversation, "one", "1")
    talk(conversation, "two", "2")
    assert messages_to(conversation.tip, "be short") == [
        {"role": "system", "content": "be short"},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": "two"},
        {"role": "assistant", "content": "2"},
    ]


def test_a_retry_is_a_sibling_and_arrows_go_between() -> None:
    conversation = Conversation()
    first = talk(conversation, "one", "1")[0]
    question = conversation.question_of(first)
    assert question is not None
    conversation.answer(question, [said("uno")])
    assert texts(conversation) == ["one", "uno"]
    conversation.step(conversation.tip, -1)
    assert texts(conversation) == ["one", "1"]
    assert conversation.tip.place == (1, 2)
    assert conversation.step(conversation.tip, -1) is first


def test_an_edit_keeps_what_followed_the_old_question() -> None:
    conversation = Conversation()
    talk(conversation, "one", "1")
    talk(conversation, "two", "2")
    old = conversation.path[0]
    new = conversation.edit(old, "eins")
    assert texts(conversation) == ["eins"]
    conversation.step(new, -1)
    assert texts(conversation) == ["one", "1", "two", "2"]


def test_undo_takes_off_the_path_and_enter_brings_back() -> None:
    conversation = Conversation()
    talk(conversation, "one", "1")
    talk(conversation, "two", "2")
    undone = conversation.undo()
    assert undone is not None
    assert undone.text == "two"
    assert texts(conversation) == ["one", "1"]
    assert conversation.enter(conversation.tip) is undone
    assert texts(conversation) == ["one", "1", "two", "2"]
    conversation.undo()
    conversation.undo()
    assert conversation.undo() is None


def test_replies_to_one_request_stand_together_and_later_ones_do_not() -> None:
    conversation = Conversation()
    first, second = talk(conversation, "one", "1", "uno")
    question = conversation.question_of(first)
    assert question is not None
    third = conversation.answer(question, [said("eins")])[0]
    late = conversation.add_reply(third, said("un"))
    assert first.together == [first, second]
    assert third.together == [third, late]
    assert conversation.tip is third


def test_a_question_without_an_answer_is_left_aside() -> None:
    conversation = Conversation()
    conversation.answer(conversation.ask("one"), [Reply(error="out of memory")])
    conversation.ask("two")
    assert messages_to(conversation.tip) == [{"role": "user", "content": "two"}]
    assert [turn.text for _, turn in conversation.walk()] == ["one", "", "two"]


def test_the_tree_names_parents_and_the_path() -> None:
    conversation = Conversation()
    talk(conversation, "one", "1", "uno")
    tree = to_tree(conversation)
    assert [(turn["parent"], turn["content"], turn["on_path"]) for turn in tree] == [
        (None, "one", True),
        (0, "1", True),
        (0, "uno", False),
    ]


def test_depth_grows_where_the_tree_branches() -> None:
    conversation = Conversation()
    talk(conversation, "one", "1", "uno")
    talk(conversation, "two", "2")
    assert [(depth, turn.text) for depth, turn in conversation.walk()] == [
        (0, "one"),
        (1, "1"),
        (1, "two"),
        (1, "2"),
        (1, "uno"),
    ]


def test_nothing_is_lost_whatever_one_does() -> None:
    """Random walks over all operations: every turn that was ever made stays reachable, the path stays a path."""
    for seed in range(30):
        dice, conversation, made = random.Random(seed), Conversation(), set[int]()
        for number in range(60):
            turns = [turn for _, turn in conversation.walk()]
            turn = dice.choice(turns) if turns else None
            what = dice.choice(["talk", "edit", "retry", "step", "undo", "enter", "go"])
            if what == "talk" or turn is None:
                talk(conversation, f"q{number}", f"a{number}")
            elif what == "edit" and turn.role == "user":
                conversation.edit(turn, f"e{number}")
            elif what == "retry" and (question := conversation.question_of(turn)):
                conversation.answer(question, [said(f"r{number}"), said(f"s{number}")])
            elif what == "step":
                conversation.step(turn, dice.choice([-1, 1]))
            elif what == "undo":
                conversation.undo()
            elif what == "enter":
                conversation.enter(conversation.tip)
            else:
                conversation.go_to(turn)
            now = {id(turn) for _, turn in conversation.walk()}
            assert made <= now
            made = now
            for before, after in zip([conversation.root, *conversation.path], conversation.path, strict=False):
                assert after.parent is before


def test_a_resampled_token_keeps_what_is_before_it() -> None:
    reply = Reply(tokens=[Token(5, "The"), Token(6, " cat"), Token(7, " sat")], generated="The cat sat")
    opening = resampled(reply, 1, 9, " dog")
    assert opening.text == "The dog"
    assert opening.request == {"prefill": "The dog", "prefill_ids": [5, 9]}
