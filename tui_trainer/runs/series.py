"""A metric over a run of any length in bounded memory: what the plots draw.

Buckets hold minimum, maximum, sum and count of their samples; when all are full, neighbours are joined and each holds
twice as many. A spike is never lost (minimum and maximum are kept), memory does not grow with the run, and bucket
borders lie at fixed sample numbers, so that the picture does not jump between two looks.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass

NUM_BUCKETS = 4096


@dataclass(frozen=True, slots=True)
class Column:
    """What lies in one column of a plot.

    Attributes:
        low, high: least and greatest finite value; NaN if there is none.
        mean: mean of the finite values.
        num_bad: how many values were not finite.
    """

    low: float
    high: float
    mean: float
    num_bad: int


class Series:
    """Samples (x, y) with rising x, appended one by one.

    Args:
        num_buckets: most buckets to hold; even.
    """

    def __init__(self, num_buckets: int = NUM_BUCKETS) -> None:
        self._num_buckets = num_buckets
        self._per_bucket = 1
        self._in_last = 0
        self._first_x, self._last_x = array("d"), array("d")
        self._low, self._high, self._sum = array("d"), array("d"), array("d")
        self._num_good, self._num_bad = array("q"), array("q")
        self.num_samples = 0
        self.last: tuple[float, float] | None = None
        self.low, self.high = math.inf, -math.inf

    def __len__(self) -> int:
        return len(self._low)

    def append(self, x: float, y: float) -> None:
        """Add a sample; a `y` that is not finite is counted and kept out of the range."""
        if self._in_last == self._per_bucket or not self._low:
            if len(self._low) == self._num_buckets:
                self._join_neighbours()
            self._new_bucket(x)
        self._in_last += 1
        self._last_x[-1] = x
        if math.isfinite(y):
            self._low[-1] = min(self._low[-1], y)
            self._high[-1] = max(self._high[-1], y)
            self._sum[-1] += y
            self._num_good[-1] += 1
            self.low, self.high = min(self.low, y), max(self.high, y)
        else:
            self._num_bad[-1] += 1
        self.num_samples += 1
        self.last = (x, y)

    def forget_after(self, x: float) -> None:
        """Drop the samples beyond `x`, because what follows was done again.

        A bucket that `x` lies in is kept whole and closed at `x`, so that none of what follows is taken for old.
        """
        keep = bisect_right(self._first_x, x)
        if keep == len(self._low):
            return
        self.num_samples = sum(self._num_good[:keep]) + sum(self._num_bad[:keep])
        for values in (self._first_x, self._last_x, self._low, self._high, self._sum, self._num_good, self._num_bad):
            del values[keep:]
        self._in_last = self._per_bucket
        if keep:
            self._last_x[-1] = min(self._last_x[-1], x)
        self.low, self.high = min(self._low, default=math.inf), max(self._high, default=-math.inf)
        self.last = (self._last_x[-1], self._column(keep - 1).mean) if keep else None

    def _new_bucket(self, x: float) -> None:
        self._first_x.append(x)
        self._last_x.append(x)
        self._low.append(math.inf)
        self._high.append(-math.inf)
        self._sum.append(0.0)
        self._num_good.append(0)
        self._num_bad.append(0)
        self._in_last = 0

    def _join_neighbours(self) -> None:
        self._first_x = self._first_x[::2]
        self._last_x = self._last_x[1::2]
        self._low = array("d", map(min, self._low[::2], self._low[1::2]))
        self._high = array("d", map(max, self._high[::2], self._high[1::2]))
        self._sum = array("d", (a + b for a, b in zip(self._sum[::2], self._sum[1::2], strict=True)))
        self._num_good = array("q", (a + b for a, b in zip(self._num_good[::2], self._num_good[1::2], strict=True)))
        self._num_bad = array("q", (a + b for a, b in zip(self._num_bad[::2], self._num_bad[1::2], strict=True)))
        self._per_bucket *= 2

    def __iter__(self) -> Iterator[tuple[float, float, Column]]:
        """First and last x and the contents of each bucket."""
        for index in range(len(self._low)):
            yield self._first_x[index], self._last_x[index], self._column(index)

    def _column(self, index: int) -> Column:
        good = self._num_good[index]
        if not good:
            return Column(math.nan, math.nan, math.nan, self._num_bad[index])
        return Column(self._low[index], self._high[index], self._sum[index] / good, self._num_bad[index])

    @property
    def first_x(self) -> float:
        """The x of the first sample; 0 if there is none."""
        return self._first_x[0] if self._first_x else 0.0

    @property
    def last_x(self) -> float:
        """The x of the last sample; 0 if there is none."""
        return self._last_x[-1] if self._last_x else 0.0

    def columns(self, start: float, stop: float, count: int) -> list[Column | None]:
        """The samples with start <= x <= stop, spread over `count` columns; None where a column is empty."""
        width = (stop - start) / count if stop > start else 1.0
        low, high = [math.inf] * count, [-math.inf] * count
        total, good, bad = [0.0] * count, [0] * count, [0] * count
        for index in range(len(self._low)):
            middle = (self._first_x[index] + self._last_x[index]) / 2
            if middle < start or middle > stop:
                continue
            at = min(int((middle - start) / width), count - 1)
            low[at] = min(low[at], self._low[index])
            high[at] = max(high[at], self._high[index])
            total[at] += self._sum[index]
            good[at] += self._num_good[index]
            bad[at] += self._num_bad[index]
        return [
            Column(low[at], high[at], total[at] / good[at], bad[at])
            if good[at]
            else (Column(math.nan, math.nan, math.nan, bad[at]) if bad[at] else None)
            for at in range(count)
        ]

    def at(self, x: float) -> float:
        """The value of a rising series at `x`, on a straight line between two samples; from (0, 0) to the first one."""
        index = bisect_right(self._first_x, x) - 1
        if not self._low or (index + 1 == len(self._low) and x > self._last_x[index]):
            return self._high[-1] if self._low else 0.0
        if index < 0:
            left, right = (0.0, 0.0), (self._first_x[0], self._low[0])
        elif x <= self._last_x[index]:
            left, right = (self._first_x[index], self._low[index]), (self._last_x[index], self._high[index])
        else:
            left, right = (self._last_x[index], self._high[index]), (self._first_x[index + 1], self._low[index + 1])
        share = (x - left[0]) / (right[0] - left[0]) if right[0] > left[0] else 1.0
        return left[1] + share * (right[1] - left[1])

    def along(self, axis: Series, scale: float = 1.0) -> Series:
        """The same samples over another x: what a rising series says at each, as the tokens seen until a step.

        Args:
            axis: the new x by the old one.
            scale: what its values are multiplied by.
        """
        other = copy(self)
        other._first_x = array("d", (scale * axis.at(x) for x in self._first_x))
        other._last_x = array("d", (scale * axis.at(x) for x in self._last_x))
        return other

    def central_range(self, share: float) -> tuple[float, float]:
        """The range that holds all but the outermost `share` of the buckets at either end."""
        lows = sorted(low for low in self._low if math.isfinite(low))
        highs = sorted(high for high in self._high if math.isfinite(high))
        if not lows:
            return math.inf, -math.inf
        cut = int(share * len(lows))
        return lows[cut], highs[-1 - cut]

    def value_at(self, x: float) -> float | None:
        """Mean of the bucket nearest to `x`; None if there is none."""
        if not self._low:
            return None
        nearest = min(range(len(self._low)), key=lambda index: abs(self._first_x[index] - x))
        return self._column(nearest).mean
