"""A live plot of metrics: the raw values as a dim band, the smoothed ones as a bright line, marks for what happened.

Only rows whose cells changed are sent to the terminal, and limits are round numbers that rarely move, so that a plot
over a slow connection costs a few hundred bytes an update.
"""

from __future__ import annotations

import locale
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from tui_trainer.runs.series import Series
from tui_trainer.tui.widgets.axes import Axes, Frame, nice_ceiling, nice_range
from tui_trainer.tui.widgets.raster import Span, ascii_rows, braille, bridge, pixel_masks

_MIN_WIDTH, _MIN_HEIGHT = 16, 5
_OUTLIERS = 0.01


@dataclass(frozen=True)
class Curve:
    """One metric to draw.

    Attributes:
        series: its values.
        style: component class of its colour, as "line" or "points".
        smoothing: weight of the past in the running mean, 0 draws the values themselves.
        is_points: draw single points (evaluations) instead of a line.
        label: one character at the end of the line, to tell it from others without its colour; no band is drawn.
    """

    series: Series
    style: str = "line"
    smoothing: float = 0.0
    is_points: bool = False
    label: str = ""


@dataclass(frozen=True)
class Mark:
    """Something that happened at an x: one character above the plot."""

    x: float
    glyph: str


@dataclass(frozen=True)
class Plot:
    """What a chart shows.

    Attributes:
        title: name of the metric.
        note: text at the right of the title line, as the last value.
        log_y: logarithmic y axis; values that are not positive are left out.
        x_max: right end of the x axis; without it a round number beyond the data.
        cursor: x at which a vertical line stands.
        from_zero: whether the y axis has to begin at 0.
        cuts_outliers: leave the outermost hundredth of the values at either end beyond the y axis, and say how many.
    """

    title: str
    curves: Sequence[Curve] = ()
    marks: Sequence[Mark] = ()
    note: str = ""
    log_y: bool = False
    x_max: float | None = None
    cursor: float | None = None
    from_zero: bool = False
    cuts_outliers: bool = False
    placeholder: str = "no values yet"


def _is_utf8() -> bool:
    return "utf" in locale.getpreferredencoding(False).lower()


@dataclass
class _Layer:
    rows: list[str]
    style: str
    cells: dict[tuple[int, int], str] = field(default_factory=dict)
    is_label: bool = False


class Chart(Widget):
    """A plot that is redrawn when `show` is called and changes only the rows that differ."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "chart--frame",
        "chart--title",
        "chart--note",
        "chart--band",
        "chart--line",
        "chart--points",
        "chart--other",
        "chart--mark",
        "chart--cursor",
    }
    DEFAULT_CSS = """
    Chart {
        height: 1fr;
        width: 1fr;
        & .chart--frame { color: $text-disabled; }
        & .chart--title { color: $text; text-style: bold; }
        & .chart--note { color: $text-muted; }
        & .chart--band { color: $primary 45%; }
        & .chart--line { color: $primary-lighten-2; text-style: bold; }
        & .chart--points { color: $warning; text-style: bold; }
        & .chart--other { color: $success; }
        & .chart--mark { color: $accent; }
        & .chart--cursor { color: $warning; }
    }
    """

    def __init__(self, plot: Plot, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.plot = plot
        self._axes = Axes()
        self._strips: list[Strip] = []

    def show(self, plot: Plot) -> None:
        """Draw another plot; only changed rows reach the terminal."""
        self.plot = plot
        self._redraw()

    def on_resize(self) -> None:
        """Draw anew in the new size."""
        self._redraw()

    def notify_style_update(self) -> None:
        """Draw anew in the new colours."""
        super().notify_style_update()
        self._redraw()

    def _redraw(self) -> None:
        width, height = self.size
        if not width or not height:
            return
        strips = self._draw(width, height)
        changed = [row for row, strip in enumerate(strips) if row >= len(self._strips) or strip != self._strips[row]]
        self._strips = strips
        if changed:
            self.refresh(*(Region(0, row, width, 1) for row in changed))

    def render_line(self, y: int) -> Strip:
        """The row at `y`."""
        return self._strips[y] if y < len(self._strips) else Strip.blank(self.size.width, self.rich_style)

    def _style(self, name: str) -> Style:
        return self.get_component_rich_style(f"chart--{name}", partial=True)

    def _draw(self, width: int, height: int) -> list[Strip]:
        limits = self._limits()
        title = self._title_row(width, limits)
        if width < _MIN_WIDTH or height < _MIN_HEIGHT:
            return [title, *(Strip.blank(width, self.rich_style) for _ in range(height - 1))]
        if limits is None:
            return [title, *self._placeholder_rows(width, height - 1)]
        x_range, y_range = limits
        frame = self._axes.frame((width, height - 1), x_range, y_range, log_y=self.plot.log_y, y_labels=height // 3)
        layers = [layer for curve in self.plot.curves for layer in self._layers(curve, frame, x_range, y_range)]
        layers.sort(key=lambda layer: layer.is_label)  # no line hides the name of another
        body = [self._body_row(frame, row, layers, x_range) for row in range(height - 1)]
        return [title, *body]

    def _title_row(self, width: int, limits: tuple[tuple[float, float], tuple[float, float]] | None) -> Strip:
        num_cut = self._num_cut(limits[1]) if limits and self.plot.cuts_outliers else 0
        title = f" {self.plot.title}{f' ({num_cut} cut off)' if num_cut else ''}"[:width]
        note = f"{self.plot.note} "
        gap = width - len(title) - len(note)
        base = self.rich_style
        segments = [Segment(title, base + self._style("title"))]
        if gap > 0:
            segments += [Segment(" " * gap, base), Segment(note, base + self._style("note"))]
        return Strip(segments).adjust_cell_length(width, base)

    def _placeholder_rows(self, width: int, height: int) -> Iterable[Strip]:
        base = self.rich_style
        for row in range(height):
            text = self.plot.placeholder.center(width) if row == height // 2 else " " * width
            yield Strip([Segment(text, base + self._style("frame"))]).adjust_cell_length(width, base)

    def _scale(self, value: float) -> float | None:
        """A value as a position on the y axis, None if it has none."""
        if not self.plot.log_y:
            return value if math.isfinite(value) else None
        return math.log10(value) if value > 0 and math.isfinite(value) else None

    def _limits(self) -> tuple[tuple[float, float], tuple[float, float]] | None:
        filled = [curve.series for curve in self.plot.curves if len(curve.series)]
        ranges = [self._range(series) for series in filled]
        lows = [position for low, _ in ranges if (position := self._scale(low)) is not None]
        highs = [position for _, high in ranges if (position := self._scale(high)) is not None]
        if not lows or not highs:
            return None
        first = min(series.first_x for series in filled)
        last = max(series.last_x for series in filled)
        right = nice_ceiling(last)
        if self.plot.x_max is not None and last <= self.plot.x_max:
            right = min(right, self.plot.x_max)
        left = 0.0 if first < right / 2 else first
        low, high = min(lows), max(highs)
        return (left, max(right, left + 1)), nice_range(0.0 if self.plot.from_zero else low, high)

    def _range(self, series: Series) -> tuple[float, float]:
        """The lowest and highest value that have a place on the axis."""
        low, high = series.central_range(_OUTLIERS) if self.plot.cuts_outliers else (series.low, series.high)
        if self.plot.log_y and low <= 0:
            low = min((column.low for _, _, column in series if column.low > 0), default=math.nan)
        return low, high

    def _num_cut(self, y_range: tuple[float, float]) -> int:
        """How many buckets of the curves have values beyond the axis."""
        return sum(
            any(position is not None and not y_range[0] <= position <= y_range[1] for position in positions)
            for curve in self.plot.curves
            for _, _, column in curve.series
            if (positions := (self._scale(column.low), self._scale(column.high)))
        )

    def _layers(
        self, curve: Curve, frame: Frame, x_range: tuple[float, float], y_range: tuple[float, float]
    ) -> list[_Layer]:
        pixels = 4 * frame.height
        columns = curve.series.columns(*x_range, 2 * frame.width)
        raw: list[Span] = []
        for column in columns:
            low = self._scale(column.low) if column else None
            high = self._scale(column.high) if column else None
            raw.append((low if low is not None else high, high) if high is not None else None)
        if curve.is_points:
            return [self._points(raw, frame, y_range, curve.style)]
        rows_of = braille if _is_utf8() else ascii_rows
        band = rows_of(pixel_masks(bridge(raw), pixels, *y_range), frame.height)
        if not curve.smoothing:
            return [_Layer(band, curve.style)]
        spans = self._smooth(curve, x_range, 2 * frame.width)
        smooth = _Layer(rows_of(pixel_masks(bridge(spans), pixels, *y_range), frame.height), curve.style)
        if not curve.label:
            return [_Layer(band, "band"), smooth]
        end = self._points(_last_only(spans), frame, y_range, curve.style)
        label = _Layer(end.rows, curve.style, dict.fromkeys(end.cells, curve.label), is_label=True)
        return [smooth, label]

    def _smooth(self, curve: Curve, x_range: tuple[float, float], count: int) -> list[Span]:
        """The running mean of the values in each pixel column; its start is corrected for the missing past."""
        spans: list[Span] = [None] * count
        total, weight = 0.0, 0.0
        width = (x_range[1] - x_range[0]) / count
        per_bucket = max(curve.series.num_samples / max(len(curve.series), 1), 1.0)
        decay = curve.smoothing**per_bucket
        for first, last, column in curve.series:
            if math.isnan(column.mean):
                continue
            total = decay * total + (1 - decay) * column.mean
            weight = decay * weight + (1 - decay)
            middle = (first + last) / 2
            value = self._scale(total / weight)
            if value is not None and x_range[0] <= middle <= x_range[1]:
                spans[min(int((middle - x_range[0]) / width), count - 1)] = (value, value)
        return spans

    def _points(self, spans: Sequence[Span], frame: Frame, y_range: tuple[float, float], style: str) -> _Layer:
        layer = _Layer([" " * frame.width] * frame.height, style)
        low, high = y_range
        for position, span in enumerate(spans):
            if span is None:
                continue
            value = (span[0] + span[1]) / 2
            row = round((high - value) / (high - low) * (frame.height - 1)) if high > low else 0
            layer.cells[(min(max(row, 0), frame.height - 1), position // 2)] = "●" if _is_utf8() else "o"
        return layer

    def _body_row(self, frame: Frame, row: int, layers: Sequence[_Layer], x_range: tuple[float, float]) -> Strip:
        base, line = self.rich_style, self._style("frame")
        text = frame.rows[row]
        if row == frame.top - 1:
            return self._marked_row(frame, text, x_range)
        inside = row - frame.top
        if not 0 <= inside < frame.height:
            return Strip([Segment(text, base + line)])
        cells: list[tuple[str, str]] = [(" ", "line")] * frame.width
        for layer in layers:
            for column, glyph in enumerate(layer.rows[inside]):
                if glyph != " ":
                    cells[column] = (glyph, layer.style)
            for (cell_row, column), glyph in layer.cells.items():
                if cell_row == inside:
                    cells[column] = (glyph, layer.style)
        cursor = self._column_of(self.plot.cursor, frame, x_range)
        if cursor is not None and cells[cursor][0] == " ":
            cells[cursor] = ("│", "cursor")
        left, right = text[: frame.left], text[frame.left + frame.width :]
        return Strip([Segment(left, base + line), *self._runs(cells), Segment(right, base + line)])

    def _runs(self, cells: Sequence[tuple[str, str]]) -> Iterable[Segment]:
        """Cells as few segments: a blank takes the style of what stands before it."""
        text, style = "", cells[0][1]
        for glyph, name in cells:
            if glyph != " " and name != style and text.strip():
                yield Segment(text, self.rich_style + self._style(style))
                text, style = "", name
            elif glyph != " ":
                style = name
            text += glyph
        yield Segment(text, self.rich_style + self._style(style))

    def _column_of(self, x: float | None, frame: Frame, x_range: tuple[float, float]) -> int | None:
        if x is None or not x_range[0] <= x <= x_range[1]:
            return None
        return min(int((x - x_range[0]) / (x_range[1] - x_range[0]) * frame.width), frame.width - 1)

    def _marked_row(self, frame: Frame, text: str, x_range: tuple[float, float]) -> Strip:
        """The upper border of the box, with the marks standing in it."""
        base = self.rich_style
        marks = {
            column: mark.glyph
            for mark in self.plot.marks
            if (column := self._column_of(mark.x, frame, x_range)) is not None
        }
        segments = [
            Segment(
                marks.get(at - frame.left, glyph), base + self._style("mark" if at - frame.left in marks else "frame")
            )
            for at, glyph in enumerate(text)
        ]
        return Strip(list(Segment.simplify(segments)))

    def x_range(self) -> tuple[float, float] | None:
        """The limits of the x axis as drawn, None without values."""
        limits = self._limits()
        return limits[0] if limits else None


def _last_only(spans: Sequence[Span]) -> list[Span]:
    """Nothing but the last value."""
    last = max((position for position, span in enumerate(spans) if span is not None), default=-1)
    return [span if position == last else None for position, span in enumerate(spans)]
