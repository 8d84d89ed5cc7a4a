"""What every dataset is to the rest of the engine: numbered rows, some of which may be broken.

`sources` implement `RowSource`; `mixture` puts several together; `pipeline` reads `Record`s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tui_trainer.engine.data.problems import Code

Row = dict[str, Any]
"""A row as JSON values: column to value."""

Heartbeat = Callable[[int], None]
"""Called with the number of rows counted so far; it may raise to end the counting."""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that could not be read; the rows around it are whole.

    Attributes:
        code: the kind of problem.
        message: what is wrong with it, with the position inside the row where that is known.
    """

    code: Code
    message: str


class RowSource(Protocol):
    """One split of one dataset."""

    @property
    def name(self) -> str:
        """What messages call it: the path of the file, or a hub id with its split."""

    @property
    def num_rows(self) -> int | None:
        """Number of rows; None until they have been counted."""

    @property
    def features(self) -> dict[str, str]:
        """Column to type, as far as the first rows show."""

    @property
    def fingerprint(self) -> str:
        """Changes when the data changes."""

    def rows(self, start: int, stop: int) -> Sequence[Row | BadRow]:
        """The rows from `start` up to `stop`, fewer at the end of the data; reads nothing that lies before them twice.

        Raises:
            WorkbenchError: the data is gone or was changed since it was opened.
        """

    def count(self, heartbeat: Heartbeat = ...) -> int:
        """Count the rows to the end, once."""

    def where(self, row: int) -> str:
        """Where a row stands, as a message says it: "train.jsonl:18"."""


@dataclass(frozen=True, slots=True)
class Record:
    """A row on its way through the pipeline.

    Attributes:
        row: its number in the whole, 0 is the first.
        part: which part of the mixture it comes from.
        value: the row itself.
        where: where it stands.
    """

    row: int
    part: int
    value: Row | BadRow
    where: str


def no_heartbeat(count: int) -> None:
    """A heartbeat nobody listens to."""


def value_type(value: Any) -> str:
    """The name of a JSON value's type, in the words of Arrow."""
    match value:
        case None:
            return "null"
        case bool():
            return "bool"
        case int():
            return "int64"
        case float():
            return "float64"
        case str():
            return "string"
        case list():
            kinds = list(dict.fromkeys(value_type(item) for item in value[:8]))
            return f"list<{kinds[0] if len(kinds) == 1 else ' | '.join(kinds) or 'null'}>"
        case dict():
            return "struct"
        case _:
            return type(value).__name__


def features_of(rows: Sequence[Row | BadRow]) -> dict[str, str]:
    """Column to type over some rows; a column of several types names them all."""
    types: dict[str, dict[str, None]] = {}
    for row in rows:
        if isinstance(row, dict):
            for column, value in row.items():
                kinds = types.setdefault(column, {})
                if value is not None:
                    kinds.setdefault(value_type(value))
    return {column: " | ".join(kinds) or "null" for column, kinds in types.items()}
