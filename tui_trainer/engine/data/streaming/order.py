"""The endless order in which streamed rows come: pass after pass over each source, shuffled and mixed by weight.

Rows are read in order, as many at a time as the shuffle buffer holds, and drawn from it at random. Everything random
comes from the seed and the place in the order, so any place can be reached without going through those before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tui_trainer.engine.data.rows import BadRow, Record, Row
from tui_trainer.engine.data.rowset import Part
from tui_trainer.errors import DataError


@dataclass(frozen=True)
class _Block:
    """Rows that are shuffled among themselves.

    Attributes:
        turn: number of the pass over the source, and of the block in it.
        rows: number and value of each, in the order in which they come.
    """

    turn: tuple[int, int]
    rows: list[tuple[int, Row | BadRow]]


class EndlessRows:
    """The rows of one source, pass after pass.

    Args:
        part: the source.
        block_rows: rows that are shuffled among themselves; 1 keeps their order.
        seed: of the shuffling.
    """

    def __init__(self, part: Part, block_rows: int, seed: int) -> None:
        self._part = part
        self._block_rows = block_rows
        self._seed = seed
        self._total = part.source.num_rows
        self._block: _Block | None = None

    def take(self, start: int, count: int) -> list[tuple[Row | BadRow, str]]:
        """The rows from place `start` on, each with where it stands.

        Raises:
            DataError: the source holds no rows.
        """
        source = self._part.source
        found: list[tuple[Row | BadRow, str]] = []
        while len(found) < count:
            turn, at = divmod(start + len(found), self._total) if self._total else (0, start + len(found))
            number, offset = divmod(at, self._block_rows)
            rows = self._loaded(turn, number)
            if offset >= len(rows):
                self._find_total(number, len(rows))
            else:
                chosen = rows[offset : offset + count - len(found)]
                found += [(value, source.where(row)) for row, value in chosen]
        return found

    def _find_total(self, number: int, size: int) -> None:
        """The end of the source was met for the first time, in block `number` or before it."""
        if self._total is not None:
            raise DataError("became shorter while it was open", where=self._part.source.name, remedy="Start again.")
        self._total = number * self._block_rows + size if size else self._part.source.count()
        if not self._total:
            raise DataError("holds no rows", where=self._part.source.name, remedy="Check data.path and data.split.")

    def _loaded(self, turn: int, number: int) -> list[tuple[int, Row | BadRow]]:
        if self._block is None or self._block.turn != (turn, number):
            self._block = None
            first = number * self._block_rows
            values = self._part.source.rows(first, first + self._block_rows)
            seeds = (self._seed, self._part.number, turn, number)
            order = np.random.default_rng(seeds).permutation(len(values)).tolist()
            self._block = _Block((turn, number), [(first + offset, values[offset]) for offset in order])
        return self._block.rows


class StreamOrder:
    """The rows of several sources, each as often as its weight says, in windows of equal size.

    Args:
        parts: the sources.
        block_rows: rows of a source that are shuffled among themselves.
        window_rows: rows of a window.
        seed: of shuffling and mixing.
    """

    def __init__(self, parts: Sequence[Part], block_rows: int, window_rows: int, seed: int) -> None:
        self._rows = [EndlessRows(part, block_rows, seed) for part in parts]
        self._numbers = [part.number for part in parts]
        weights = np.array([part.weight for part in parts])
        self._shares = weights / weights.sum()
        self._window_rows = window_rows
        self._seed = seed
        self._before: dict[int, np.ndarray] = {0: np.zeros(len(parts), dtype=np.int64)}
        """For some windows, how many rows of each source come before them."""

    def window(self, number: int) -> list[Record]:
        """The rows of a window, numbered through in the order in which they come."""
        sources = self._sources(number)
        before = self._drawn_before(number)
        drawn = [
            iter(rows.take(int(before[place]), int((sources == place).sum()))) for place, rows in enumerate(self._rows)
        ]
        first = number * self._window_rows
        return [
            Record(first + offset, self._numbers[place], *next(drawn[place]))
            for offset, place in enumerate(sources.tolist())
        ]

    def _sources(self, number: int) -> np.ndarray:
        """From which source each row of a window comes, shape (window_rows,)."""
        if len(self._rows) == 1:
            return np.zeros(self._window_rows, dtype=np.int64)
        generator = np.random.default_rng((self._seed, number))
        return generator.choice(len(self._rows), self._window_rows, p=self._shares)

    def _drawn_before(self, number: int) -> np.ndarray:
        """How many rows of each source come before a window."""
        if len(self._rows) == 1:
            return np.array([number * self._window_rows])
        known = max(window for window in self._before if window <= number)
        counts = self._before[known]
        for window in range(known, number):
            counts = counts + np.bincount(self._sources(window), minlength=len(self._rows))
        self._before = {0: self._before[0], known: self._before[known], number: counts}
        return counts
