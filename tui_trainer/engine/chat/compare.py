"""Two models on the same question: the same knobs and seed, both answers, and where their tokens part ways."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from difflib import SequenceMatcher
from typing import Any

from tui_trainer.engine.chat.question import Question
from tui_trainer.engine.chat.session import ChatSession

_KINDS = {"equal": "same", "replace": "changed", "delete": "only_a", "insert": "only_b"}


def compare(
    a: ChatSession, b: ChatSession, question: Question, is_cancelled: Callable[[], bool]
) -> Generator[dict[str, Any], None, dict[str, Any]]:
    """Ask two models the same.

    Yields:
        The items of `ChatSession.answer` with "slot", "a" or "b".

    Returns:
        {"a", "b": documents, "same_prompt", "in_one_batch", "seconds", "diff"}.

    Raises:
        WorkbenchError: as `ChatSession.answer`.
    """
    started = time.perf_counter()
    documents: dict[str, dict[str, Any]] = {}
    for slot, session in (("a", a), ("b", b)):
        asked = question if slot == "a" else _with_seed(question, documents["a"]["seed"])
        answer = session.answer(asked, is_cancelled)
        while True:
            try:
                yield next(answer) | {"slot": slot}
            except StopIteration as end:
                documents[slot] = end.value
                break
    first_ids = [documents[slot]["candidates"][0]["ids"] for slot in ("a", "b")]
    return {
        **documents,
        "same_prompt": documents["a"]["prompt_ids"] == documents["b"]["prompt_ids"],
        "in_one_batch": False,
        "seconds": time.perf_counter() - started,
        "diff": token_diff(*first_ids),
    }


def token_diff(a: Sequence[int], b: Sequence[int]) -> list[dict[str, Any]]:
    """Where two lists of tokens agree and where not.

    Returns:
        {"kind", "a", "b"} in order; kind is same, changed, only_a or only_b, the ranges are half open.
    """
    matcher = SequenceMatcher(None, list(a), list(b), autojunk=False)
    return [
        {"kind": _KINDS[tag], "a": [a_from, a_to], "b": [b_from, b_to]}
        for tag, a_from, a_to, b_from, b_to in matcher.get_opcodes()
    ]


def _with_seed(question: Question, seed: int | None) -> Question:
    """The question with the seed that was drawn for the first model, so that both draw the same numbers."""
    if seed is None or "seed" in question.params:
        return question
    return Question(**{**vars(question), "params": {**question.params, "seed": seed}})
