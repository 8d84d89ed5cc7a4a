"""Curves as braille: pure functions from values a pixel column to rows of text; used by the chart.

A cell is two pixel columns wide and four pixel rows high. A column is drawn from its lowest to its highest value and
joined to its neighbour, so that a spike of one sample in a million still shows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

_LEFT_BITS = (0x01, 0x02, 0x04, 0x40)
_RIGHT_BITS = (0x08, 0x10, 0x20, 0x80)


def _glyph_bits(bits: Sequence[int]) -> list[int]:
    return [sum(bit for position, bit in enumerate(bits) if nibble >> position & 1) for nibble in range(16)]


_LEFT, _RIGHT = _glyph_bits(_LEFT_BITS), _glyph_bits(_RIGHT_BITS)

Span = tuple[float, float] | None
"""Lowest and highest value in a pixel column, None where there is none."""


def pixel_masks(spans: Sequence[Span], height: int, low: float, high: float) -> list[int]:
    """The lit pixels of each pixel column as an integer, bit 0 the topmost.

    Args:
        spans: a value range a pixel column; ranges outside [low, high] are clipped.
        height: pixel rows.
        low: value of the bottom row.
        high: value of the top row.
    """
    scale = (height - 1) / (high - low) if high > low else 0.0
    masks = []
    previous: tuple[int, int] | None = None
    for span in spans:
        if span is None or not (math.isfinite(span[0]) and math.isfinite(span[1])):
            masks.append(0)
            previous = None
            continue
        top = min(max(round((high - span[1]) * scale), 0), height - 1)
        bottom = min(max(round((high - span[0]) * scale), 0), height - 1)
        first, last = top, bottom
        if previous is not None:
            if previous[1] < top:
                first = previous[1] + 1
            elif previous[0] > bottom:
                last = previous[0] - 1
        masks.append(((1 << (last - first + 1)) - 1) << first)
        previous = top, bottom
    return masks


def bridge(spans: Sequence[Span]) -> list[Span]:
    """`spans` with the gaps between two values filled by a straight line; the ends stay empty."""
    filled = list(spans)
    known = [position for position, span in enumerate(spans) if span is not None]
    for left, right in pairwise(known):
        a, b = spans[left], spans[right]
        assert a is not None
        assert b is not None
        start, stop = (a[0] + a[1]) / 2, (b[0] + b[1]) / 2
        for position in range(left + 1, right):
            value = start + (stop - start) * (position - left) / (right - left)
            filled[position] = (value, value)
    return filled


def braille(masks: Sequence[int], height: int) -> list[str]:
    """Rows of braille from pixel masks; an unlit cell is a space.

    Args:
        masks: two a cell column, as `pixel_masks` makes them.
        height: cell rows.
    """
    rows = []
    for row in range(height):
        shift = 4 * row
        cells = []
        for left, right in zip(masks[::2], masks[1::2], strict=True):
            code = _LEFT[left >> shift & 15] | _RIGHT[right >> shift & 15]
            cells.append(chr(0x2800 + code) if code else " ")
        rows.append("".join(cells))
    return rows


def ascii_rows(masks: Sequence[int], height: int) -> list[str]:
    """The same with `*` for every cell that holds a lit pixel, for terminals without braille."""
    return ["".join("*" if cell != " " else " " for cell in row) for row in braille(masks, height)]
