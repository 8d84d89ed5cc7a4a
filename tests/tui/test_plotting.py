"""Curves and axes: nothing is lost in a column, limits are round, odd values do no harm."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from textual.app import App, ComposeResult

from tui_trainer.runs.series import Series
from tui_trainer.tui.widgets.axes import Axes, nice_ceiling, nice_range, short_number, ticks
from tui_trainer.tui.widgets.chart import Chart, Curve, Mark, Plot
from tui_trainer.tui.widgets.raster import Span, ascii_rows, braille, bridge, pixel_masks


def test_a_flat_line_lights_one_row() -> None:
    assert pixel_masks([(1.0, 1.0)] * 4, 8, 0.0, 7.0) == [1 << 6] * 4


def test_neighbours_are_joined_without_a_gap() -> None:
    masks = pixel_masks([(0.0, 0.0), (7.0, 7.0)], 8, 0.0, 7.0)
    assert masks[0] | masks[1] == 0xFF
    assert masks[0] & masks[1] == 0


def test_values_beyond_the_limits_are_clipped_and_bad_ones_left_out() -> None:
    spans: list[Span] = [(9.0, 9.0), None, (math.nan, math.nan), (-5.0, -5.0)]
    assert pixel_masks(spans, 8, 0.0, 7.0) == [1, 0, 0, 1 << 7]


def test_bridging_fills_between_values_only() -> None:
    assert bridge([None, (0.0, 0.0), None, (2.0, 2.0), None]) == [None, (0.0, 0.0), (1.0, 1.0), (2.0, 2.0), None]


def test_braille_dots() -> None:
    assert braille([0b0001, 0b1000], 1) == ["\u2881"]
    assert braille([0, 0], 1) == [" "]
    assert ascii_rows([0b0001, 0, 0, 0], 1) == ["* "]


@pytest.mark.parametrize(("value", "ceiling"), [(1204, 1500), (1500, 1500), (0.9, 1.0), (7, 8), (0, 1), (math.inf, 1)])
def test_nice_ceilings(value: float, ceiling: float) -> None:
    assert nice_ceiling(value) == pytest.approx(ceiling)


@pytest.mark.parametrize("limits", [(0.9, 3.4), (-3.0, 2.0), (1.0, 1.0), (0.0, 0.0), (1e-9, 2e-9), (1e12, 3e12)])
def test_nice_ranges_hold_their_values(limits: tuple[float, float]) -> None:
    low, high = nice_range(*limits)
    assert low <= limits[0]
    assert high >= limits[1]
    assert high > low
    assert ticks(low, high, 4)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1.5, "1.5"),
        (2e-4, "2e-4"),
        (1.25e-4, "1.25e-4"),
        (12000, "12k"),
        (3_400_000, "3.4M"),
        (1e18, "1.0e18"),
    ],
)
def test_short_numbers(value: float, text: str) -> None:
    assert short_number(value) == text


def test_a_frame_has_the_size_asked_for() -> None:
    frame = Axes().frame((60, 12), (0.0, 1000.0), (0.0, 3.0))
    assert len(frame.rows) == 12
    assert {len(row) for row in frame.rows} == {60}
    assert frame.left + frame.width < 60
    assert frame.top + frame.height < 12


class _ChartApp(App[None]):
    def __init__(self, plot: Plot) -> None:
        super().__init__()
        self._plot = plot

    def compose(self) -> ComposeResult:
        yield Chart(self._plot)


def _series(*values: float) -> Series:
    series = Series()
    for step, value in enumerate(values):
        series.append(step, value)
    return series


async def _drawn(plot: Plot) -> str:
    app = _ChartApp(plot)
    async with app.run_test(size=(60, 14)) as pilot:
        await pilot.pause()
        chart = app.query_one(Chart)
        return "\n".join(chart.render_line(row).text for row in range(14))


@pytest.mark.parametrize("log_y", [False, True])
@pytest.mark.parametrize(
    "values", [(), (1.0,), (0.0,), (2.0, 2.0), (-1.0, 0.0, 1.0), (math.nan,), (1.0, math.inf, 2.0), (1e-30, 1e30)]
)
async def test_odd_values_draw_without_an_error(values: tuple[float, ...], log_y: bool) -> None:
    text = await _drawn(Plot("loss", [Curve(_series(*values), smoothing=0.9)], log_y=log_y))
    assert text.startswith(" loss")


async def test_a_spike_of_one_sample_in_a_million_shows() -> None:
    series = Series()
    for step in range(1_000_000):
        series.append(step, 9.0 if step == 654_321 else 1.0)
    text = await _drawn(Plot("loss", [Curve(series)]))
    top_rows = "".join(text.splitlines()[2:6])
    assert any(0x2800 < ord(glyph) <= 0x28FF for glyph in top_rows)


async def test_marks_points_cursor_and_note() -> None:
    points = Series()
    points.append(50, 1.5)
    plot = Plot(
        "loss",
        [Curve(_series(*[1.0 + step / 100 for step in range(100)])), Curve(points, "points", is_points=True)],
        [Mark(25, "◆")],
        note="1.99",
        cursor=75,
    )
    text = await _drawn(plot)
    for sign in ("◆", "●", "│", "1.99"):
        assert sign in text


async def test_only_changed_rows_are_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    series = _series(*[1.0 + step % 3 for step in range(200)])
    app = _ChartApp(Plot("loss", [Curve(series)], x_max=1000))
    async with app.run_test(size=(60, 14)) as pilot:
        await pilot.pause()
        chart = app.query_one(Chart)
        drawn: list[int] = []
        monkeypatch.setattr(chart, "refresh", lambda *regions: drawn.append(len(regions)))
        chart.show(chart.plot)
        assert drawn == []
        series.append(200, 1.0)
        chart.show(chart.plot)
        assert sum(drawn) <= 12


async def test_outliers_are_cut_off_and_counted() -> None:
    values = [1.0 + at % 7 / 10 for at in range(300)]
    values[100] = 900.0
    plot = Plot("loss", [Curve(_series(*values))], cuts_outliers=True)
    cut, whole = await _drawn(plot), await _drawn(replace(plot, cuts_outliers=False))
    assert "loss (1 cut off)" in cut
    assert "1.6" in cut
    assert "cut off" not in whole
    assert "1000" in whole


async def test_a_line_with_a_label_ends_with_it() -> None:
    own, other = _series(*([1.0] * 50)), _series(*([2.0] * 30))
    text = await _drawn(Plot("loss", [Curve(other, "other", 0.5, label="A"), Curve(own)]))
    rows = [row for row in text.splitlines() if "A" in row]
    assert len(rows) == 1
    assert set(rows[0].partition("A")[2].strip(" │┤┐┘")) <= {" "}
