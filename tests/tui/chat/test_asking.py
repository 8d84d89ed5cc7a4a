"""What is asked of the worker, and the replies that grow while it answers."""

from __future__ import annotations

from typing import Any

import pytest

from tui_trainer.tui.chat.asking import Growing, Manner, asked_for, take_scores
from tui_trainer.tui.chat.reply import Opening, Reply, Token
from tui_trainer.tui.chat.tree import Conversation


def document(*texts: str, **more: Any) -> dict[str, Any]:
    candidates = [{"text": text, "finish_reason": "stop", "index": at} for at, text in enumerate(texts)]
    return {"candidates": candidates, "seed": 1, **more}


def grow(*slots: str) -> tuple[Conversation, Growing]:
    conversation = Conversation()
    question = conversation.ask("hi")
    return conversation, Growing(conversation, question, Opening(), {slot: slot for slot in slots}, lambda: None)


def test_both_models_get_what_a_asks_for_and_what_was_set_above_it() -> None:
    conversation = Conversation()
    question = conversation.ask("hi")
    manner = Manner({"top_k": 5}, "Be short.", asked_for={"temperature": 0.0, "top_k": 9})
    assert manner.request(question, Opening())["params"] == {"top_k": 5, "logprobs": 0}
    both = manner.request(question, Opening("Sure"), of_both=True)
    assert both["params"] == {"temperature": 0.0, "top_k": 5, "logprobs": 0}
    assert both["prefill"] == "Sure"
    assert [message["role"] for message in both["messages"]] == ["system", "user"]


def test_a_reply_that_had_ended_is_not_ended_at_once_again() -> None:
    question = Conversation().ask("hi")
    ended = Reply(tokens=[Token(5, "Hi"), Token(2, "")], generated="Hi", finish_reason="stop", stop_reason=2)
    cut = Reply(tokens=[Token(5, "Hi")], generated="Hi", finish_reason="length")
    assert Manner().request(question, ended.continued())["params"] == {"logprobs": 0, "min_tokens": 1}
    assert Manner().request(question, cut.continued())["params"] == {"logprobs": 0}


@pytest.mark.parametrize(
    ("template", "has_template", "takes_messages"),
    [
        (None, True, True),
        (None, False, False),
        ("model", False, False),
        ("none", True, False),
        ("chatml", False, True),
        ("own.jinja", False, True),
    ],
)
def test_a_chosen_template_counts_whatever_the_model_has(
    template: str | None, has_template: bool, takes_messages: bool
) -> None:
    manner = Manner(template=template, template_kwargs={"mood": "calm"}, has_template=has_template)
    request = manner.prompt_to(Conversation().ask("hi"))
    assert ("messages" in request) is takes_messages
    assert request.get("template") == (template if takes_messages else None)


def test_without_a_template_the_question_is_plain_text() -> None:
    question = Conversation().ask("hi")
    request = Manner({"logprobs": 5}, has_template=False).request(question, Opening())
    assert request == {"prompt": "hi", "params": {"logprobs": 5}}


def test_what_a_model_asks_for_is_told_from_what_was_set() -> None:
    knobs = {"temperature": ("model", 0.6), "max_tokens": ("run", 40), "seed": ("you", 3), "n": ("default", 1)}
    answer = {"knobs": {name: {"value": value, "source": source} for name, (source, value) in knobs.items()}}
    assert asked_for(answer) == {"temperature": 0.6, "max_tokens": 40}


def test_tokens_go_to_the_candidate_and_model_they_belong_to() -> None:
    conversation, growing = grow("a", "b")
    for slot, candidate, text in (("a", 0, "x"), ("b", 0, "y"), ("a", 1, "z")):
        growing.take({"slot": slot, "candidate": candidate, "id": 1, "text": text})
    assert sorted((reply.slot, reply.text) for reply in growing.replies) == [("a", "x"), ("a", "z"), ("b", "y")]
    assert len(conversation.tip.together) == 3


def test_what_best_of_threw_away_is_no_branch() -> None:
    conversation, growing = grow("a")
    for candidate, text in enumerate(("bad", "good", "worse")):
        growing.take({"candidate": candidate, "id": candidate, "text": text})
    kept = [{"text": "good", "index": 1}, {"text": "bad", "index": 0}]
    growing.finish({"a": {"candidates": kept}})
    replies = [turn.reply for turn in conversation.path[0].children if turn.reply is not None]
    assert [(reply.text, [token.id for token in reply.tokens]) for reply in replies] == [("good", [1]), ("bad", [0])]


def test_a_document_without_candidates_still_ends_the_reply() -> None:
    _, growing = grow("a")
    growing.finish({"a": {"candidates": []}})
    assert not growing.replies[0].is_streaming


def test_differences_are_marked_on_both_sides() -> None:
    _, growing = grow("a", "b")
    growing.finish({"a": document("x"), "b": document("y")})
    growing.mark_differences(
        [
            {"kind": "same", "a": [0, 2], "b": [0, 2]},
            {"kind": "changed", "a": [2, 3], "b": [2, 4]},
            {"kind": "only_b", "a": [3, 3], "b": [4, 5]},
        ]
    )
    assert [sorted(reply.different) for reply in growing.replies] == [[2], [2, 3, 4]]


def test_scores_make_a_typed_beginning_known_token_by_token() -> None:
    reply = Reply(opening=Opening("Sure"), opening_ids=[7], tokens=[Token(8, "!")], generated="!")
    side = {"logprob": -0.5, "rank": 2}
    scored = [{"id": 7, "text": "Sure", "a": side, "difference": 1.5}, {"id": 8, "text": "!", "a": side}]
    take_scores(reply, {"tokens": scored, "a": {"perplexity": 1.65}, "b": None, "mean_kl": None})
    assert [(token.id, token.rank) for token in reply.all_tokens] == [(7, 2), (8, None)]
    assert reply.differences == [1.5, None]
    assert reply.judged == "perplexity A 1.65"
