"""What a cutoff of row lengths would cost: cut rows, padding, packing. Arithmetic on counts, for any number of rows."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

_MOST_SIZES = 2048
"""Sizes that packing tells apart; with more of them neighbouring lengths are taken for the greater one."""


@dataclass(frozen=True)
class LengthCosts:
    """What becomes of the rows at a cutoff.

    Attributes:
        num_rows: rows with any token.
        num_cut: rows that are longer.
        share_lost: share of all tokens that is cut off.
        padding: expected share of padding where batches are drawn at random.
        num_packed: packed rows, as best-fit decreasing fills them.
        packing: how full those are.
    """

    num_rows: int
    num_cut: int
    share_lost: float
    padding: float
    num_packed: int
    packing: float


class Lengths:
    """Row lengths as counts.

    Args:
        counts: how many rows have how many tokens, as (tokens, rows).
    """

    def __init__(self, counts: Sequence[tuple[int, int]]) -> None:
        # rows that could not be read have no tokens and never come into a batch
        self._counts = sorted((int(length), int(count)) for length, count in counts if length and count)
        self._lengths = [length for length, _ in self._counts]
        self._upto = list(accumulate(count for _, count in self._counts))

    @property
    def num_rows(self) -> int:
        """Rows in all."""
        return self._upto[-1] if self._upto else 0

    @property
    def longest(self) -> int:
        """Length of the longest row."""
        return self._lengths[-1] if self._lengths else 0

    def quantile(self, share: float) -> int:
        """The length that so many of the rows do not reach."""
        return self._lengths[bisect.bisect_right(self._upto, min(int(self.num_rows * share), self.num_rows - 1))]

    def histogram(self, num_bars: int, longest: int) -> list[int]:
        """Rows in each of some bars of equal width from 0 to a length."""
        bars = [0] * num_bars
        for length, count in self._counts:
            bars[min(length * num_bars // (longest + 1), num_bars - 1)] += count
        return bars

    def costs(self, cutoff: int, batch_size: int) -> LengthCosts:
        """What a cutoff would cost.

        Args:
            cutoff: tokens of the longest example.
            batch_size: rows a batch.
        """
        kept = self._kept(cutoff)
        total, before = (sum(length * count for length, count in rows) for rows in (kept, self._counts))
        num_packed = num_bins(kept, cutoff)
        return LengthCosts(
            num_rows=self.num_rows,
            num_cut=sum(count for length, count in self._counts if length > cutoff),
            share_lost=1 - total / max(before, 1),
            padding=1 - total / max(expected_padded(kept, batch_size), 1),
            num_packed=num_packed,
            packing=total / max(num_packed * cutoff, 1),
        )

    def _kept(self, cutoff: int) -> list[tuple[int, int]]:
        """The counts once longer rows are cut."""
        at = bisect.bisect_left(self._lengths, cutoff)
        rest = self.num_rows - (self._upto[at - 1] if at else 0)
        return [*self._counts[:at], *([(cutoff, rest)] if rest else [])]


def expected_padded(counts: Sequence[tuple[int, int]], batch_size: int) -> float:
    """Expected tokens with padding when batches are drawn at random: batches x the mean greatest of `batch_size` draws.

    Args:
        counts: (tokens, rows), ascending.
        batch_size: rows a batch.
    """
    number = sum(count for _, count in counts)
    greatest, below = 0.0, 0
    for length, count in counts:
        above = below + count
        greatest += length * ((above / number) ** batch_size - (below / number) ** batch_size)
        below = above
    return greatest * batch_size * -(-number // batch_size)


def num_bins(counts: Sequence[tuple[int, int]], capacity: int) -> int:
    """Packed rows that best-fit decreasing makes; exact for up to 2,048 lengths, else a little high.

    Args:
        counts: (tokens, rows), none longer than the capacity.
        capacity: tokens of a packed row.
    """
    grain = -(-capacity // _MOST_SIZES) if len(counts) > _MOST_SIZES else 1
    sizes: Counter[int] = Counter()
    for length, count in counts:
        sizes[min(-(-length // grain), capacity // grain)] += count
    bins = _Bins(capacity // grain)
    for size in sorted(sizes, reverse=True):
        bins.place(size, sizes[size])
    return bins.number


class _Bins:
    """Packed rows on their way; those with the same room left are alike and only counted.

    Args:
        capacity: tokens of an empty one.

    Attributes:
        number: how many there are.
    """

    def __init__(self, capacity: int) -> None:
        self.number = 0
        self._capacity = capacity
        self._rooms: list[int] = []  # ascending, so that the tightest fit is found by bisection
        self._num_with: dict[int, int] = {}

    def place(self, size: int, count: int) -> None:
        """Put examples of one size where they fit most tightly, and what fits nowhere into new rows."""
        while count:
            at = bisect.bisect_left(self._rooms, size)
            if at == len(self._rooms):
                self._open(size, count)
                return
            room = self._rooms[at]
            taken = min(count, self._num_with[room])
            self._num_with[room] -= taken
            if not self._num_with[room]:
                del self._num_with[room], self._rooms[at]
            self._add(room - size, taken)
            count -= taken

    def _open(self, size: int, count: int) -> None:
        each = self._capacity // size
        whole, rest = divmod(count, each)
        self.number += whole + bool(rest)
        self._add(self._capacity - each * size, whole)
        if rest:
            self._add(self._capacity - rest * size, 1)

    def _add(self, room: int, number: int) -> None:
        """Note rows that have this room left; full ones take nothing more and are forgotten."""
        if room and number:
            if room not in self._num_with:
                bisect.insort(self._rooms, room)
                self._num_with[room] = 0
            self._num_with[room] += number
