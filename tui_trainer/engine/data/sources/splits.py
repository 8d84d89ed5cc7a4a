"""Splits by name and by slice, in the words of `datasets.load_dataset`: train, train[:10%], train[100:200]+test."""

from __future__ import annotations

import bisect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tui_trainer.engine.data.rows import BadRow, Heartbeat, Row, RowSource, no_heartbeat
from tui_trainer.errors import ConfigurationError, Problem

SPLIT_NAMES: dict[str, str] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "eval": "validation",
    "evaluation": "validation",
    "test": "test",
    "testing": "test",
}
"""Names a split goes by, to what it is called."""

_PART = re.compile(r"(?P<name>[^\[\]+]+)(?:\[(?P<start>-?\d+%?)?:(?P<stop>-?\d+%?)?\])?")
_KEY = "data.split"


@dataclass(frozen=True)
class _Part:
    name: str
    start: str
    stop: str


def select_split(splits: Mapping[str, RowSource], wanted: str, where: str, key: str = _KEY) -> RowSource:
    """The rows that a split expression names.

    Args:
        splits: the splits there are.
        wanted: the expression.
        where: what messages call the dataset.
        key: the configuration key the expression comes from.

    Raises:
        ConfigurationError: there is no such split, or the expression is no valid slice.
    """
    chosen = []
    for piece in wanted.split("+"):
        match = _PART.fullmatch(piece.strip())
        if match is None:
            problem = Problem(
                key, f"{wanted!r} is no split or slice", "write it as train, train[:10%] or train[100:200]"
            )
            raise ConfigurationError.of([problem])
        part = _Part(match["name"].strip(), match["start"] or "", match["stop"] or "")
        source = _named(splits, part.name, where, key)
        chosen.append(Slice(source, part.start, part.stop) if part.start or part.stop else source)
    return chosen[0] if len(chosen) == 1 else Joined(chosen, f"{where}: {wanted}")


def has_split(splits: Mapping[str, RowSource], wanted: str) -> bool:
    """Whether the first name in a split expression is one of the splits."""
    name = re.split(r"[\[+]", wanted, maxsplit=1)[0].strip()
    return name in splits or SPLIT_NAMES.get(name.lower(), name) in splits


def _named(splits: Mapping[str, RowSource], name: str, where: str, key: str) -> RowSource:
    for candidate in (name, SPLIT_NAMES.get(name.lower(), name)):
        if candidate in splits:
            return splits[candidate]
    known = ", ".join(splits)
    raise ConfigurationError.of([Problem(key, f"{where} has no split {name!r}", f"its splits are {known}")])


class Slice:
    """Some neighbouring rows of a source; implements `RowSource`.

    Args:
        source: the rows.
        start: first row, as a number or a percentage; from the end where negative.
        stop: row behind the last, the same way.
    """

    def __init__(self, source: RowSource, start: str, stop: str) -> None:
        self._source = source
        self._start, self._stop = start, stop
        self._range: tuple[int, int] | None = None
        self.name = f"{source.name}[{start}:{stop}]"
        self.features = source.features
        self.fingerprint = f"{source.fingerprint}[{start}:{stop}]"

    @property
    def num_rows(self) -> int | None:
        """Number of rows; None until they have been counted."""
        return None if self._range is None and self._find_range() is None else self._size

    def count(self, heartbeat: Heartbeat = no_heartbeat) -> int:
        """Count the rows, no further than the slice reaches."""
        if self._range is None:
            last = _plain(self._stop)
            # a row at its end says that the slice is whole
            if _plain(self._start or "0") is not None and last and self._source.rows(last - 1, last):
                self._range = min(_plain(self._start or "0") or 0, last), last
            else:
                self._source.count(heartbeat)
                self._find_range()
        return self._size

    def where(self, row: int) -> str:
        """Where a row stands."""
        return self._source.where(row + self._first())

    def rows(self, start: int, stop: int) -> Sequence[Row | BadRow]:
        """The rows from `start` up to `stop`."""
        first, last = self._first(), _plain(self._stop)
        if self._range is None and self._stop and last is None:
            self.count()
        if self._range is not None:
            last = self._range[1]
        end = first + stop if last is None else min(first + stop, last)
        return self._source.rows(first + start, end) if first + start < end else []

    @property
    def _size(self) -> int:
        return self._range[1] - self._range[0] if self._range else 0

    def _first(self) -> int:
        """The first row; needs no counting unless the slice begins at a share or from the end."""
        if self._range is None:
            first = _plain(self._start or "0")
            if first is not None:
                return first
            self.count()
        return self._range[0] if self._range else 0

    def _find_range(self) -> tuple[int, int] | None:
        total = self._source.num_rows
        if total is not None:
            first = _position(self._start, total, 0)
            self._range = first, max(_position(self._stop, total, total), first)
        return self._range


def _plain(text: str) -> int | None:
    """A bound that is a row number counted from the begin; None for shares, and for numbers from the end."""
    return int(text) if text.isdecimal() else None


def _position(text: str, total: int, default: int) -> int:
    """A row number from a bound; percentages are rounded to the nearest row."""
    if not text:
        return default
    number = round(total * int(text[:-1]) / 100) if text.endswith("%") else int(text)
    return min(max(number + total if text.startswith("-") else number, 0), total)


class Joined:
    """Several sources one behind the other, as the shards of a split; implements `RowSource`."""

    def __init__(self, sources: Sequence[RowSource], name: str) -> None:
        self._sources = list(sources)
        self._firsts = [0]
        self.name = name
        self.features = {column: kind for source in reversed(self._sources) for column, kind in source.features.items()}
        self.fingerprint = "+".join(source.fingerprint for source in self._sources)

    @property
    def num_rows(self) -> int | None:
        """Number of rows; None until all parts have been counted."""
        counts = [source.num_rows for source in self._sources]
        return None if None in counts else sum(count or 0 for count in counts)

    def count(self, heartbeat: Heartbeat = no_heartbeat) -> int:
        """Count the rows of all parts."""
        total = 0
        for source in self._sources:
            total += source.count(_beginning_at(total, heartbeat))
        return total

    def where(self, row: int) -> str:
        """Where a row stands, in its own part."""
        part = self._part_of(row)
        return self._sources[part].where(row - self._firsts[part])

    def rows(self, start: int, stop: int) -> Sequence[Row | BadRow]:
        """The rows from `start` up to `stop`; counts the parts before them."""
        rows: list[Row | BadRow] = []
        while start < stop:
            part = self._part_of(start)
            if part == len(self._sources):
                break
            first = self._firsts[part]
            found = self._sources[part].rows(start - first, stop - first)
            if not found:
                break
            rows.extend(found)
            start += len(found)
        return rows

    def _part_of(self, row: int) -> int:
        while self._firsts[-1] <= row and len(self._firsts) <= len(self._sources):
            source = self._sources[len(self._firsts) - 1]
            if not source.rows(row - self._firsts[-1], row - self._firsts[-1] + 1):
                self._firsts.append(self._firsts[-1] + source.count())
            else:
                return len(self._firsts) - 1
        return bisect.bisect_right(self._firsts, row) - 1


def _beginning_at(num_before: int, heartbeat: Heartbeat) -> Heartbeat:
    """A heartbeat for one of several parts, which counts from its own beginning."""
    return lambda count: heartbeat(num_before + count)
