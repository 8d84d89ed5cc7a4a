"""A row as the Data screen shows it: its tokens a window at a time, its spans, what the template added, the record.

A row may have a million tokens and megabytes of text; what is handed over at once stays small whatever it holds.
"""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from tui_trainer.engine.data.cells import described
from tui_trainer.engine.data.example import Example
from tui_trainer.engine.data.problems import RowProblem
from tui_trainer.engine.data.rows import BadRow, Record
from tui_trainer.engine.data.session import DataSession
from tui_trainer.engine.data.tokenizer import TextTokenizer

WINDOW = 8192
"""Tokens handed over at a time."""

_MAX_TEXT = 100_000
"""Characters of the record, and of all turns together, that are handed over; `whole_text` has the rest."""

_WORD = re.compile(r"\w+")
_MIN_WORDS = 3
"""Words from which on what a template adds is more than a role's name."""

_KEPT_ROWS = 4


class Samples:
    """The rows of a session that were looked at last, tokenised; may be used from several threads.

    Args:
        session: the data.
    """

    def __init__(self, session: DataSession) -> None:
        self._session = session
        self._kept: OrderedDict[int, tuple[Record, list[Example]]] = OrderedDict()
        self._lock = threading.Lock()

    def document(self, row: int, piece: int = 0) -> dict[str, Any]:
        """All of a row, or of one of the pieces it is split into, but those of its tokens that are outside the window.

        The window is the one in which the first trained token is. Past the last piece it is the last.
        """
        record, examples = self._row(row)
        piece = min(piece, len(examples) - 1)
        example = examples[piece]
        tokenizer = self._session.pipeline().tokenizer
        raw = raw_text(record)
        first = example.trained[0][0] if example.trained else 0
        return {
            "row": row,
            "where": record.where,
            "num_tokens": example.num_tokens,
            "num_tokens_before": example.num_tokens_before,
            "num_trained": example.num_trained,
            "piece": piece,
            "num_pieces": len(examples),
            "truncated": example.is_truncated,
            "usable": example.is_usable,
            "problems": [self._problem(problem, example, piece) for problem in example.problems],
            "spans": list(_spans(example)),
            "added": [list(stretch) for stretch in added_texts(example, tokenizer)],
            "raw": raw[:_MAX_TEXT],
            "raw_characters": len(raw),
            "template": self._session.template(),
            "stand_in": self._session.is_stand_in,
            **_window(example, tokenizer, max(first - WINDOW // 2, 0) if example.num_tokens > WINDOW else 0),
        }

    def tokens(self, row: int, start: int, piece: int = 0) -> dict[str, Any]:
        """The tokens of a row, or of a piece of it, from `start` on, a window of them."""
        examples = self._row(row)[1]
        return _window(examples[min(piece, len(examples) - 1)], self._session.pipeline().tokenizer, start)

    def whole(self, row: int, what: str, piece: int = 0) -> str:
        """All of a row's `record`, or of the `ids` or (anything else) text of a piece of it, to be copied."""
        record, examples = self._row(row)
        if what == "record":
            return raw_text(record)
        ids = examples[min(piece, len(examples) - 1)].input_ids
        return json.dumps(ids) if what == "ids" else self._session.pipeline().tokenizer.decode(ids)

    def _row(self, row: int) -> tuple[Record, list[Example]]:
        with self._lock:
            if row in self._kept:
                self._kept.move_to_end(row)
                return self._kept[row]
        record = self._session.record(row)
        found = record, self._session.examples([record])
        with self._lock:
            self._kept[row] = found
            while len(self._kept) > _KEPT_ROWS:
                self._kept.popitem(last=False)
        return found

    def _problem(self, problem: RowProblem, example: Example, piece: int) -> dict[str, Any]:
        """The problem, its token counted in what is left of the example; without it if it was cut off."""
        document = problem.to_dict()
        data = self._session.config.data
        is_left = data.truncation == "left" and example.is_truncated
        if problem.token is not None:
            before = example.num_tokens_before - example.num_tokens if is_left else piece * data.max_length
            token = problem.token - before
            document["token"] = token if 0 <= token < example.num_tokens else None
        return document


def raw_text(record: Record) -> str:
    """The record as JSON text, or what is wrong with it."""
    if isinstance(record.value, BadRow):
        return f"{record.where}: {record.value.message}"
    return json.dumps(record.value, ensure_ascii=False, indent=2, default=described)


def added_texts(example: Example, tokenizer: TextTokenizer) -> Iterator[tuple[int, int]]:
    """Stretches of tokens with words that no row has: a system prompt or a date that the template puts in by itself."""
    added = set(tokenizer.added_tokens.values())
    for span in example.spans:
        if span.role != "template":
            continue
        borders = [at for at in range(span.start, span.end) if example.input_ids[at] in added]
        for start, end in zip([span.start, *(at + 1 for at in borders)], [*borders, span.end], strict=True):
            if len(_WORD.findall(tokenizer.decode(example.input_ids[start:end]))) >= _MIN_WORDS:
                yield start, end


def _spans(example: Example) -> Iterator[dict[str, Any]]:
    """The spans, the later ones without their text once there is too much of it."""
    room = _MAX_TEXT
    for span in example.spans:
        yield {**span.to_dict(), "text": span.text[: max(room, 0)], "num_characters": len(span.text)}
        room -= len(span.text)


def _window(example: Example, tokenizer: TextTokenizer, start: int) -> dict[str, Any]:
    ids = example.input_ids[start : start + WINDOW]
    return {
        "first": start,
        "input_ids": ids,
        "tokens": tokenizer.token_texts(ids),
        "special_ids": sorted(set(tokenizer.added_tokens.values()).intersection(ids)),
    }
