"""The frame of a plot: limits, ticks and the box, drawn by plotext and kept until one of them changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_NICE = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
_TICK_STEPS = (1.0, 2.0, 5.0, 10.0)


def nice_ceiling(value: float) -> float:
    """The least round number that is not below `value` (> 0), so that limits stay put while data grows."""
    if value <= 0 or not math.isfinite(value):
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next((factor * power for factor in _NICE if factor * power >= value * (1 - 1e-12)), 10 * power)


def nice_range(low: float, high: float) -> tuple[float, float]:
    """A round range that holds [low, high], with room above and below where both are equal."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return 0.0, 1.0
    if high <= low:
        margin = abs(low) * 0.1 or 1.0
        low, high = low - margin, high + margin
    step = _tick_step(high - low, 4)
    bottom, top = math.floor(low / step) * step, math.ceil(high / step) * step
    return (0.0 if bottom >= 0 and low >= 0 and bottom < (high - low) * 0.35 else bottom), top


def _tick_step(span: float, count: int) -> float:
    rough = span / max(count, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in _TICK_STEPS if step * power >= rough * (1 - 1e-9))


def ticks(low: float, high: float, count: int) -> list[float]:
    """Up to about `count` round numbers in [low, high]."""
    if high <= low:
        return [low]
    step = _tick_step(high - low, count)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def short_number(value: float) -> str:
    """A number in few characters: 12k, 0.35, 2e-4."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    size = abs(value)
    if size >= 1e15:
        return f"{value:.1e}".replace("e+", "e")
    for limit, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if size >= limit:
            return f"{value / (1e3 if suffix == 'k' else limit):.3g}{suffix}"
    if size < 1e-3:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    return f"{value:.4g}"


@dataclass(frozen=True)
class Frame:
    """A drawn frame.

    Attributes:
        rows: all rows of the plot as text, the canvas blank.
        left: column at which the canvas begins.
        top: row at which it begins.
        width: its width in cells.
        height: its height in cells.
    """

    rows: tuple[str, ...]
    left: int
    top: int
    width: int
    height: int


class Axes:
    """Draws frames with plotext; the last one is kept, for limits change rarely."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] | None = None
        self._frame: Frame | None = None

    def frame(
        self,
        size: tuple[int, int],
        x_range: tuple[float, float],
        y_range: tuple[float, float],
        *,
        log_y: bool = False,
        y_labels: int = 4,
    ) -> Frame:
        """The frame for a plot of `size` cells.

        Args:
            size: width and height in cells.
            x_range: limits of x.
            y_range: limits of y; of its decimal logarithm when `log_y`.
            log_y: label the ticks with powers of ten.
            y_labels: about how many ticks on the y axis.
        """
        key = (size, x_range, y_range, log_y, y_labels)
        if key != self._key or self._frame is None:
            self._frame = _draw(size, x_range, y_range, _y_ticks(y_range, log_y, y_labels))
            self._key = key
        return self._frame


def _y_ticks(y_range: tuple[float, float], log_y: bool, count: int) -> dict[float, str]:
    if not log_y:
        return {value: short_number(value) for value in ticks(*y_range, count)}
    low, high = y_range
    factors = (1,) if high - low > 1.5 else (1, 2, 5)
    found = {
        position: short_number(factor * 10.0**exponent)
        for exponent in range(math.floor(low), math.ceil(high) + 1)
        for factor in factors
        if low - 1e-9 <= (position := math.log10(factor) + exponent) <= high + 1e-9
    }
    stride = max(1, math.ceil(len(found) / max(count, 1)))
    return dict(list(found.items())[::stride])


def _draw(
    size: tuple[int, int], x_range: tuple[float, float], y_range: tuple[float, float], y_ticks: dict[float, str]
) -> Frame:
    from plotext._figure import _figure_class

    figure = _figure_class()
    figure._set_size(*size)
    figure.xlim(*x_range)
    figure.ylim(*y_range)
    x_ticks = _fitting_ticks(x_range, size[0])
    figure.xticks(x_ticks, [short_number(value) for value in x_ticks])
    figure.yticks(list(y_ticks), list(y_ticks.values()))
    figure.plot(x_range, y_range, marker=" ")
    figure.build()
    matrix = figure.monitor.matrix
    columns, rows = matrix.Cols_canvas, matrix.Rows_canvas
    lines = tuple("".join(row) for row in matrix.marker[::-1])
    return Frame(lines, columns.start, len(lines) - rows.stop, len(columns), len(rows))


def _fitting_ticks(x_range: tuple[float, float], width: int) -> Sequence[float]:
    return ticks(*x_range, max(width // 12, 1))
