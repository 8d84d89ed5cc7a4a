"""The shapes in which one JSON value holds rows: lists inside an object, and what pandas' `to_json` writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tui_trainer.engine.data.problems import Code
from tui_trainer.engine.data.rows import BadRow, Heartbeat, Row, features_of, no_heartbeat
from tui_trainer.engine.data.sources.splits import SPLIT_NAMES
from tui_trainer.errors import DataError

_ROW_KEYS = ("data", "rows", "records", "examples", "instances", "items", "train", "conversations", "dataset")
_FEATURE_ROWS = 100


def rows_of_value(value: Any, name: str) -> list[Row | BadRow]:
    """The rows in a JSON value.

    Args:
        value: the whole value of a file.
        name: what messages call the file.

    Raises:
        DataError: no rows are to be found in it.
    """
    if isinstance(value, list):
        return _from_lists(value) if value and isinstance(value[0], list) else [_checked(item) for item in value]
    if not isinstance(value, dict) or not value:
        raise DataError("holds no rows", where=name, remedy="Rows are objects in braces, one a line or in one array.")
    columns = value.get("columns")
    if isinstance(columns, list) and isinstance(value.get("data"), list):
        return _from_lists(value["data"], [str(column) for column in columns])
    lists = {key: inner for key, inner in value.items() if _is_rows(inner)}
    if lists and not _is_one_conversation(value):
        return [_checked(item) for item in lists[_row_key(lists, name)]]
    if len(value) > 1 or _is_digit(next(iter(value))):
        if all(isinstance(inner, dict) for inner in value.values()):
            return _from_tables(value)
        if _is_columns(value):
            return [dict(zip(value, cells, strict=True)) for cells in zip(*value.values(), strict=True)]
    return [value]


def other_splits(value: Any) -> dict[str, list[Row | BadRow]]:
    """The rows of the splits that a JSON object holds beside "train", by the usual names of splits."""
    if not isinstance(value, dict) or _is_one_conversation(value):
        return {}
    lists = {key: inner for key, inner in value.items() if _is_rows(inner)}
    if len(lists) < 2 or next((key for key in _ROW_KEYS if key in lists), "") != "train":
        return {}
    return {
        SPLIT_NAMES[key.lower()]: [_checked(item) for item in inner]
        for key, inner in lists.items()
        if key != "train" and SPLIT_NAMES.get(key.lower(), "train") != "train"
    }


class ListRows:
    """Rows that are in memory; implements `RowSource`.

    Args:
        rows: the rows.
        name: what messages call them.
        fingerprint: changes when they change.
    """

    def __init__(self, rows: Sequence[Row | BadRow], name: str, fingerprint: str) -> None:
        self._rows = rows
        self.name = name
        self.fingerprint = fingerprint
        self.num_rows = len(rows)
        self.features = features_of(list(rows[:_FEATURE_ROWS]))

    def count(self, heartbeat: Heartbeat = no_heartbeat) -> int:
        """The number of rows."""
        heartbeat(self.num_rows)
        return self.num_rows

    def where(self, row: int) -> str:
        """File, split and number of a row."""
        return f"{self.name}: row {row}"

    def rows(self, start: int, stop: int) -> Sequence[Row | BadRow]:
        """The rows from `start` up to `stop`."""
        return self._rows[start:stop]


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _is_one_conversation(value: dict[str, Any]) -> bool:
    """Whether the object is a row whose list holds messages, not a list of rows."""
    first: dict[str, Any] = next((inner[0] for inner in value.values() if _is_rows(inner)), {})
    return "role" in first or "from" in first


def _row_key(lists: dict[str, list[Any]], name: str) -> str:
    if len(lists) == 1:
        return next(iter(lists))
    preferred = [key for key in _ROW_KEYS if key in lists]
    if not preferred:
        raise DataError(
            f"holds several lists of rows: {', '.join(lists)}",
            where=name,
            remedy="Keep one of them, or write each to a file of its own.",
        )
    return preferred[0]


def _is_columns(value: dict[str, Any]) -> bool:
    """Whether each key holds a list of cells, all of one length."""
    return all(isinstance(inner, list) for inner in value.values()) and len({len(x) for x in value.values()}) == 1


def _is_digit(key: str) -> bool:
    return key.isdecimal()


def _from_tables(value: dict[str, dict[str, Any]]) -> list[Row | BadRow]:
    """Rows of pandas' orients "index" (row to columns) and "columns" (column to rows)."""
    if all(map(_is_digit, value)):
        return list(value.values())
    indices = list(next(iter(value.values())))
    if all(map(_is_digit, indices)) and indices:
        return [{column: cells.get(index) for column, cells in value.items()} for index in indices]
    return [value]


def _from_lists(rows: Sequence[Any], columns: Sequence[str] = ()) -> list[Row | BadRow]:
    names = list(columns) or [f"column_{number}" for number in range(len(rows[0]))]
    return [
        dict(zip(names, cells, strict=True))
        if isinstance(cells, list) and len(cells) == len(names)
        else BadRow(Code.SCHEMA, f"does not have the {len(names)} cells of the first row")
        for cells in rows
    ]


def _checked(item: Any) -> Row | BadRow:
    return item if isinstance(item, dict) else BadRow(Code.SCHEMA, "is not an object with columns")
