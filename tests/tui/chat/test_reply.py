"""A reply: filled token by token, finished by the worker's document, stopped, continued."""

from __future__ import annotations

from typing import Any

from tui_trainer.tui.chat.colours import DIFFERENCE, LOGPROB, MODES, RANK, band_of, coloured, legend, next_mode
from tui_trainer.tui.chat.reply import Opening, Reply, Token

DOCUMENT: dict[str, Any] = {
    "knobs": {"max_tokens": {"value": 256, "source": "default"}},
    "tokens_per_second": 41.26,
    "seconds_to_first_token": 0.115,
    "seed": 7,
    "ignored_reasons": {"top_p": "temperature 0 always takes the most probable token", "seed": "temperature 0"},
    "model": {"device": "cpu", "step": 120},
    "prompt_ids": [1, 2],
}


def grown(*pieces: tuple[int, str]) -> Reply:
    reply = Reply(is_streaming=True)
    for token, text in pieces:
        reply.take({"id": token, "text": text, "logprob": -0.5, "rank": 1})
    return reply


def test_the_note_says_how_it_came_about() -> None:
    reply = grown((5, "Hi"), (2, ""))
    reply.finish(DOCUMENT, {"text": "Hi", "finish_reason": "stop", "stop_reason": 2})
    assert reply.note() == (
        "stop · 2/256 tokens · 41.3 tok/s · first token 0.12 s · seed 7 · step 120 · "
        "ignored: top_p (temperature 0 always takes the most probable token) · ignored: seed (temperature 0)"
    )


def test_the_text_that_stopped_it_is_named() -> None:
    reply = grown((5, "Hi"))
    reply.finish(DOCUMENT, {"text": "Hi", "finish_reason": "stop", "stop_reason": "\n\n"})
    assert reply.note().startswith("stop at '\\n\\n'")


def test_a_stopped_reply_keeps_its_tokens_and_can_go_on() -> None:
    reply = grown((5, "Once"), (6, " upon"))
    reply.stop()
    assert reply.text == "Once upon"
    assert reply.note().startswith("stopped by you · 2 tokens")
    assert reply.continued().request == {"prefill": "Once upon", "prefill_ids": [5, 6]}


def test_what_a_server_said_without_ids_goes_on_from_its_text() -> None:
    reply = Reply()
    for text in ("Once", " upon"):
        reply.take({"candidate": 0, "id": None, "text": text, "logprob": -0.1})
    reply.finish(DOCUMENT, {"text": "Once upon", "finish_reason": "length"})
    assert (reply.ids, len(reply.all_tokens)) == ([], 2)
    assert reply.continued().request == {"prefill": "Once upon"}


def test_what_goes_on_leaves_the_end_token_out() -> None:
    reply = grown((5, "Hi"), (2, ""))
    reply.finish(DOCUMENT, {"text": "Hi", "finish_reason": "stop", "stop_reason": 2})
    assert reply.continued().request == {"prefill": "Hi", "prefill_ids": [5]}


def test_after_a_stop_text_the_text_is_what_goes_on() -> None:
    reply = grown((5, "Hi"), (6, ""))
    reply.finish(DOCUMENT, {"text": "Hi", "finish_reason": "stop", "stop_reason": "!"})
    assert reply.continued().request == {"prefill": "Hi"}


def test_a_longer_reply_begins_with_the_old_one() -> None:
    reply = Reply(opening=Opening("Hi", (Token(5, "Hi"),)))
    reply.take({"id": 6, "text": " there"})
    reply.finish(DOCUMENT | {"prefill": {"text": "Hi", "ids": [5]}}, {"text": " there", "finish_reason": "length"})
    assert (reply.text, reply.ids) == ("Hi there", [5, 6])


def test_a_typed_beginning_is_in_front_and_its_ids_are_learnt() -> None:
    reply = Reply(opening=Opening("Sure"))
    assert reply.opening.request == {"prefill": "Sure"}
    reply.take({"id": 6, "text": "!"})
    reply.finish(DOCUMENT | {"prefill": {"text": "Sure", "ids": [40, 41]}}, {"text": "!", "finish_reason": "length"})
    assert (reply.text, reply.ids) == ("Sure!", [40, 41, 6])
    assert reply.continued().request == {"prefill": "Sure!"}
    assert [text for text, _ in coloured(reply, LOGPROB)] == ["Sure", "!"]


def test_an_answer_of_beams_has_its_tokens_from_the_document() -> None:
    reply, scored = Reply(), [{"id": 5, "text": "Hi", "logprob": -0.5, "rank": 1}, {"id": 2, "text": "<end>"}]
    reply.finish(DOCUMENT, {"text": "Hi", "finish_reason": "stop", "stop_reason": 2, "logprobs": scored})
    assert [(token.id, token.text, token.rank) for token in reply.tokens] == [(5, "Hi", 1), (2, "", None)]
    assert [text for text, _ in coloured(reply, LOGPROB)] == ["Hi", ""]
    assert reply.continued().request == {"prefill": "Hi", "prefill_ids": [5]}


def test_thinking_and_tool_calls_are_taken_over() -> None:
    reply = Reply()
    candidate = {
        "text": "<think>hm</think>4",
        "finish_reason": "stop",
        "thinking": {"text": "hm", "is_closed": True},
        "answer": "4",
        "tool_calls": [{"name": "add", "arguments": {"a": 1}}],
    }
    reply.finish(DOCUMENT, candidate)
    assert (reply.thinking, reply.answer, reply.tool_calls[0]["name"]) == ("hm", "4", "add")


def test_bands_follow_probability_rank_and_difference() -> None:
    assert band_of(LOGPROB, -0.1, None, None).label == "over 50 %"
    assert band_of(LOGPROB, -3.0, None, None).label == "over 1 %"
    assert band_of(LOGPROB, -30.0, None, None).label == "less"
    assert band_of(LOGPROB, None, 1, None).label == "not known"
    assert [band_of(RANK, None, rank, None).label for rank in (1, 2, 4, 11)] == ["first", "2–3", "4–10", "beyond"]
    assert [band_of(DIFFERENCE, None, None, d).label for d in (3.0, 1.0, 0.0, -1.0, -9.0)] == [
        "B far more likely",
        "more",
        "alike",
        "less",
        "far less",
    ]


def test_every_band_differs_by_more_than_colour() -> None:
    """Without colour the worst bands still stand out from the best: by line, weight or reversal."""
    for mode in (LOGPROB, RANK, DIFFERENCE):
        cues = [frozenset({"bold", "underline", "reverse"} & set(band.style.split())) for band in legend(mode)]
        assert frozenset() in cues
        assert frozenset({"bold", "reverse"}) in cues
        assert frozenset({"underline"}) in cues


def test_the_difference_is_offered_only_with_two_models() -> None:
    mode, seen = MODES[0], []
    for _ in MODES:
        mode = next_mode(mode, has_other=False)
        seen.append(mode)
    assert DIFFERENCE not in seen
    assert next_mode(RANK, has_other=True) == DIFFERENCE


def test_tokens_with_half_a_character_are_shown_as_bytes_where_tokens_are_coloured() -> None:
    reply = Reply(is_streaming=True)
    reply.take({"id": 5, "text": "", "bytes": "<0xC3>", "logprob": -0.1, "rank": 1})
    reply.take({"id": 6, "text": "é", "logprob": -0.1, "rank": 1})
    assert [text for text, _ in coloured(reply, LOGPROB)] == ["<0xC3>", "é"]
    assert [text for text, _ in coloured(reply, MODES[0])] == ["", "é"]
    assert reply.text == "é"


def test_a_servers_word_that_it_has_ended_is_no_token() -> None:
    reply = Reply(slot="a", model="server", is_streaming=True)
    reply.take({"candidate": 0, "text": "Hi", "id": None, "logprob": None})
    reply.take({"candidate": 0, "text": "", "id": None, "logprob": None, "finish_reason": "length"})
    assert (reply.text, len(reply.tokens)) == ("Hi", 1)
