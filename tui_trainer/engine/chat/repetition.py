"""How much an answer repeats itself: the commonest failure of a model that was trained too hard or too little."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

_TIMES = 4
_LONGEST = 64
_FEWEST_TOKENS = 12


def distinct_2(ids: Sequence[int]) -> float | None:
    """Share of the pairs of neighbouring tokens that are unlike all others; None if there is none."""
    pairs = list(itertools.pairwise(ids))
    return len(set(pairs)) / len(pairs) if pairs else None


def ends_in_a_loop(ids: Sequence[int]) -> bool:
    """Whether an answer ends with the same tokens at least four times in a row, over twelve tokens or more."""
    for size in range(1, min(_LONGEST, len(ids) // _TIMES) + 1):
        times = max(_TIMES, -(-_FEWEST_TOKENS // size))
        if len(ids) < times * size:
            continue
        tail = list(ids[len(ids) - times * size :])
        if tail == tail[:size] * times:
            return True
    return False
