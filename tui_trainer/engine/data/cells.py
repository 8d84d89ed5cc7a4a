"""The rows of the Data screen's table: cells cut to what a table can show, lengths, problems, and what was found."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from tui_trainer.engine.data.judged import Judged
from tui_trainer.engine.data.matching import Matcher, texts_of
from tui_trainer.engine.data.rows import BadRow, Record, Row

MAX_CELL_CHARACTERS = 400
"""Characters of a cell; the record itself is in the sample."""

MAX_COLUMNS = 40
"""Columns of a row unless they are asked for by name."""

_BEFORE_MATCH, _AFTER_MATCH = 24, 200


def cells_document(
    record: Record, columns: Sequence[str] | None, judged: Judged | None, matcher: Matcher | None = None
) -> dict[str, Any]:
    """A row of the table.

    Args:
        record: the row.
        columns: the columns shown; None for the first ones.
        judged: what the verdict knows of the rows, None while it is not there.
        matcher: what was searched for, None if nothing was.
    """
    known = judged.of_row(record.row) if judged else {}
    document = {"row": record.row, "num_tokens": None, "num_trained": None, "problems": [], **known}
    if matcher is not None:
        document["found"] = _found(record.value, matcher)
    if isinstance(record.value, BadRow):
        problems = list(dict.fromkeys((record.value.code.value, *document["problems"])))
        return {**document, "problems": problems, "cells": {}, "error": f"{record.where}: {record.value.message}"}
    names = list(record.value)[:MAX_COLUMNS] if columns is None else columns
    cells = {name: cell_text(record.value[name]) for name in names if name in record.value}
    return {**document, "cells": cells}


def cell_text(value: Any) -> str:
    """A cell: text as it is, messages as who says what, anything else as JSON; cut to a sane length."""
    pieces: list[str] = []
    length = 0
    for piece in _pieces(value, is_top=True):
        pieces.append(piece[:MAX_CELL_CHARACTERS])
        length += len(pieces[-1])
        if length >= MAX_CELL_CHARACTERS:
            break
    return "".join(pieces)[:MAX_CELL_CHARACTERS]


def _pieces(value: Any, *, is_top: bool = False) -> Iterator[str]:
    """The text of a value bit by bit, so that nobody writes out what is not shown."""
    if isinstance(value, str):
        yield value if is_top else json.dumps(value[:MAX_CELL_CHARACTERS], ensure_ascii=False)
    elif isinstance(value, list):
        if is_top and _is_conversation(value):
            yield from _turns(value)
            return
        yield "["
        for number, item in enumerate(value):
            yield ", " if number else ""
            yield from _pieces(item)
        yield "]"
    elif isinstance(value, dict):
        yield "{"
        for number, (key, item) in enumerate(value.items()):
            yield f"{', ' if number else ''}{json.dumps(str(key)[:MAX_CELL_CHARACTERS], ensure_ascii=False)}: "
            yield from _pieces(item)
        yield "}"
    else:
        yield json.dumps(value, default=described)


def _is_conversation(value: list[Any]) -> bool:
    return bool(value) and all(isinstance(turn, dict) and ("role" in turn or "from" in turn) for turn in value[:4])


def _turns(turns: list[Any]) -> Iterator[str]:
    for number, turn in enumerate(turns):
        if not isinstance(turn, dict):
            yield from _pieces(turn)
            continue
        said = turn.get("content", turn.get("value"))
        yield "\n" if number else ""
        yield f"{str(turn.get('role', turn.get('from')))[:40]}: "
        yield from _pieces("" if said is None else said, is_top=True)


def described(value: Any) -> str:
    """A value that JSON does not know, as a date or bytes of a Parquet file."""
    return f"<{type(value).__name__}>" if isinstance(value, (bytes, bytearray)) else str(value)


def _found(value: Row | BadRow, matcher: Matcher) -> dict[str, Any]:
    """The column in which it was found first, the text around it, and where in that text it is."""
    columns = value.items() if isinstance(value, dict) else [("", value)]
    for column, cell in columns:
        for text in texts_of(cell):
            try:
                place = matcher.place(text)
            except TimeoutError:
                place = None
            if place is not None:
                first = max(place[0] - _BEFORE_MATCH, 0)
                last = min(place[1], place[0] + _AFTER_MATCH)
                around = text[first : place[0] + _AFTER_MATCH]
                return {"column": column, "text": around, "start": place[0] - first, "end": last - first}
    return {"column": "", "text": "", "start": 0, "end": 0}
