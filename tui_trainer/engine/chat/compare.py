"""Two models on the same question: the same knobs and seed, both answers, and where their tokens part ways."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from typing import Any

from tui_trainer.engine.chat.question import Question
from tui_trainer.engine.chat.server.session import ServerSession
from tui_trainer.engine.chat.session import Asked, ChatSession
from tui_trainer.engine.generate.candidates import TokenStep
from tui_trainer.engine.generate.engine import Generation
from tui_trainer.engine.generate.side_by_side import can_go_together, together

_KINDS = {"equal": "same", "replace": "changed", "delete": "only_a", "insert": "only_b"}


def compare(
    a: ChatSession | ServerSession,
    b: ChatSession | ServerSession,
    question: Question,
    is_cancelled: Callable[[], bool],
) -> Generator[dict[str, Any], None, dict[str, Any]]:
    """Ask two models the same.

    Yields:
        The items of `ChatSession.answer` with "slot", "a" or "b".

    Returns:
        {"a", "b": documents, "same_prompt", "in_one_batch", "seconds", "diff", "diff_of": tokens or words}.

    Raises:
        WorkbenchError: as `ChatSession.answer`.
    """
    started = time.perf_counter()
    if a.kind == "server" or b.kind == "server":
        documents, in_one_batch = (yield from _asked_in_turn(a, b, question, is_cancelled)), False
    else:
        documents, in_one_batch = yield from _asked_at_once(a, b, question, is_cancelled)
    return {
        **documents,
        "same_prompt": documents["a"]["prompt_ids"] == documents["b"]["prompt_ids"],
        "in_one_batch": in_one_batch,
        "seconds": time.perf_counter() - started,
        **_difference(*(documents[slot]["candidates"][0] for slot in ("a", "b"))),
    }


def _asked_at_once(
    a: ChatSession, b: ChatSession, question: Question, is_cancelled: Callable[[], bool]
) -> Generator[dict[str, Any], None, tuple[dict[str, dict[str, Any]], bool]]:
    asked_a = a.ask(question, is_cancelled)
    asked_b = b.ask(_with_seed(question, asked_a.generation), is_cancelled)
    in_one_batch = can_go_together([asked_a.generation, asked_b.generation])
    steps = _together(a, asked_a, asked_b) if in_one_batch else _in_turn(a, asked_a, b, asked_b)
    sides = (("a", a, asked_a), ("b", b, asked_b))
    for number, step in steps:
        slot, session, asked = sides[number]
        asked.clock.tick()
        yield session.documents.item(step) | {"slot": slot}
    return {slot: session.document(asked) for slot, session, asked in sides}, in_one_batch


def _asked_in_turn(
    a: ChatSession | ServerSession,
    b: ChatSession | ServerSession,
    question: Question,
    is_cancelled: Callable[[], bool],
) -> Generator[dict[str, Any], None, dict[str, dict[str, Any]]]:
    documents: dict[str, dict[str, Any]] = {}
    for slot, session in (("a", a), ("b", b)):
        answer = session.answer(question, is_cancelled)
        while slot not in documents:
            try:
                yield next(answer) | {"slot": slot}
            except StopIteration as end:
                documents[slot] = end.value
    return documents


def _difference(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    """The difference of two answers over their tokens; over their words where a server sent no tokens."""
    if a["ids"] and b["ids"]:
        return {"diff": diff(a["ids"], b["ids"]), "diff_of": "tokens"}
    words = [re.findall(r"\s*\S+", each["text"]) for each in (a, b)]
    return {"diff": diff(*words), "diff_of": "words"}


def _together(a: ChatSession, asked_a: Asked, asked_b: Asked) -> Iterator[tuple[int, TokenStep]]:
    num_rows = 2 * a.num_rows(asked_a.question)
    with a.guarded(len(asked_a.prompt.ids), num_rows):
        yield from together([asked_a.generation, asked_b.generation])


def _in_turn(a: ChatSession, asked_a: Asked, b: ChatSession, asked_b: Asked) -> Iterator[tuple[int, TokenStep]]:
    for number, (session, asked) in enumerate(((a, asked_a), (b, asked_b))):
        with session.guarded(len(asked.prompt.ids), session.num_rows(asked.question)):
            if number:
                asked.clock.restart()
            yield from ((number, step) for step in asked.generation)


def diff(a: Sequence[Hashable], b: Sequence[Hashable]) -> list[dict[str, Any]]:
    """Where two lists of tokens, or of words, agree and where not.

    Returns:
        {"kind", "a", "b"} in order; kind is same, changed, only_a or only_b, the ranges are half open.
    """
    matcher = SequenceMatcher(None, list(a), list(b), autojunk=False)
    return [
        {"kind": _KINDS[tag], "a": [a_from, a_to], "b": [b_from, b_to]}
        for tag, a_from, a_to, b_from, b_to in matcher.get_opcodes()
    ]


def _with_seed(question: Question, first: Generation) -> Question:
    """The question with the seed that was drawn for the first model, so that both draw the same numbers."""
    if "seed" in question.params or not first.uses_seed:
        return question
    return replace(question, params={**question.params, "seed": first.seed})
