"""How a CSV or TSV file is written: its delimiter, its quotes, whether it has a header."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tui_trainer.engine.data.formats.roles import is_known_column

_DELIMITERS = (",", ";", "\t", "|")
_MAX_NAME_LENGTH = 64
_SAMPLE_ROWS = 50


@dataclass(frozen=True)
class Dialect:
    """How to read the file.

    Attributes:
        delimiter: between two cells.
        has_quotes: whether quotes around a cell are no part of it.
        columns: the names of the columns; made up where there is no header.
        has_header: whether the first record holds the names.
    """

    delimiter: str
    has_quotes: bool
    columns: tuple[str, ...]
    has_header: bool

    @property
    def reader_options(self) -> dict[str, object]:
        """Keyword arguments of `csv.reader`."""
        quoting = csv.QUOTE_MINIMAL if self.has_quotes else csv.QUOTE_NONE
        return {"delimiter": self.delimiter, "quoting": quoting, "strict": False}


def detect_dialect(head: str, *, is_tab_separated: bool, is_whole: bool) -> Dialect:
    """Tell the dialect from the first characters of a file.

    Args:
        head: the begin of the text.
        is_tab_separated: what the file's name says.
        is_whole: whether `head` is the whole file.
    """
    text = head if is_whole else head[: head.rfind("\n") + 1] or head
    delimiters = ("\t",) if is_tab_separated else _DELIMITERS
    best = max((_score(text, delimiter), -order, delimiter) for order, delimiter in enumerate(delimiters))
    delimiter = best[2]
    has_quotes = _has_quotes(text, delimiter)
    records = _records(text, delimiter, has_quotes)
    first = records[0] if records else []
    has_header = _is_header(records)
    columns = _unique([cell.strip() for cell in first]) if has_header else _numbered(len(first))
    return Dialect(delimiter, has_quotes, tuple(columns), has_header)


def is_table(head: str) -> bool:
    """Whether a text whose name does not say so is a table: its first line names columns that have a meaning to us."""
    for delimiter in _DELIMITERS:
        records = _records(head[: head.rfind("\n") + 1], delimiter, has_quotes=True)
        names = [cell.strip() for cell in records[0]] if len(records) > 1 else []
        if len(names) > 1 and len(records[1]) == len(names) and any(map(is_known_column, names)):
            return True
    return False


def _records(text: str, delimiter: str, has_quotes: bool) -> list[list[str]]:
    options: Any = {"delimiter": delimiter, "quoting": csv.QUOTE_MINIMAL if has_quotes else csv.QUOTE_NONE}
    records = []
    try:
        for record in csv.reader(io.StringIO(text, newline=""), **options):
            if record:
                records.append(record)
            if len(records) == _SAMPLE_ROWS:
                break
    except csv.Error:
        pass
    return records


def _score(text: str, delimiter: str) -> float:
    """How well the delimiter cuts all records into the same number of cells, more than one."""
    records = _records(text, delimiter, has_quotes=True)
    if not records:
        return 0.0
    width = len(records[0])
    alike = sum(len(record) == width for record in records) / len(records)
    return alike * min(width, 10) if width > 1 else 0.0


def _has_quotes(text: str, delimiter: str) -> bool:
    """Whether cells stand in quotes: some cell has to begin with one and end with one."""
    return f'{delimiter}"' in text or f'"{delimiter}' in text or text.startswith('"') or '\n"' in text


def _is_header(records: Sequence[Sequence[str]]) -> bool:
    if not records:
        return False
    first = [cell.strip() for cell in records[0]]
    if any(is_known_column(cell) for cell in first):
        return True
    looks_like_names = all(
        cell and len(cell) <= _MAX_NAME_LENGTH and "\n" not in cell and not _is_number(cell) and cell[-1] not in ".?!"
        for cell in first
    )
    return looks_like_names and len(set(first)) == len(first)


def _is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", ""))
    except ValueError:
        return False
    return True


def _numbered(count: int) -> list[str]:
    return [f"column_{number}" for number in range(count)]


def _unique(names: Sequence[str]) -> list[str]:
    """Names without gaps and repetitions."""
    unique: list[str] = []
    for number, name in enumerate(names):
        candidate = name or f"column_{number}"
        while candidate in unique:
            candidate += "_"
        unique.append(candidate)
    return unique
