"""Lists, token views and the length chart on their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from textual.app import App, ComposeResult
from textual.widget import Widget

from tui_trainer.tui.widgets.cursor_list import CursorList, Parts
from tui_trainer.tui.widgets.field_list import Field, FieldList
from tui_trainer.tui.widgets.length_chart import LengthChart
from tui_trainer.tui.widgets.sample import Sample
from tui_trainer.tui.widgets.token_flow import TokenFlow

from .waiting import wait_until


class _One(App[None]):
    """An app of one widget."""

    def __init__(self, make: Callable[[], Widget]) -> None:
        super().__init__()
        self._make = make

    def compose(self) -> ComposeResult:
        yield self._make()


class _Numbers(CursorList):
    asked: list[int]

    def line_parts(self, line: int) -> Parts:
        return ((f"line {line}", ""),)


async def test_a_list_of_ten_million_lines_moves_at_once() -> None:
    app = _One(_Numbers)
    async with app.run_test(size=(40, 10)) as pilot:
        listing = app.query_one(_Numbers)
        listing.set_num_lines(10_000_000)
        listing.focus()
        await pilot.press("G")
        await pilot.pause()
        assert listing.cursor == 9_999_999
        assert "line 9999999" in listing.render_line(9).text
        await pilot.press("k", "pageup", "g")
        assert listing.cursor == 0


async def test_the_cursor_skips_headings() -> None:
    app = _One(FieldList)
    fields = [Field("", "head"), Field("a", "a"), Field("", "head"), Field("b", "b"), Field("", "tail")]
    async with app.run_test(size=(40, 10)) as pilot:
        listing = app.query_one(FieldList)
        listing.show(fields)
        listing.focus()
        assert listing.field == fields[1]
        await pilot.press("j")
        assert listing.field == fields[3]
        await pilot.press("j")
        assert listing.field == fields[3]


@pytest.mark.parametrize(
    ("field", "key", "typed"),
    [
        (Field("a", "a", "true", kind="bool"), "space", "false"),
        (Field("a", "a", "", kind="bool"), "space", "true"),
        (Field("a", "a", "x", kind="choice", choices=("x", "y", "z")), "right", "y"),
        (Field("a", "a", "x", kind="choice", choices=("x", "y", "z")), "left", "z"),
        (Field("a", "a", "", kind="choice", choices=("x", "y", "z")), "right", "x"),
    ],
)
async def test_stepping_a_field_asks_for_its_next_value(field: Field, key: str, typed: str) -> None:
    told: list[str] = []

    class Listening(_One):
        def on_field_list_value_typed(self, message: FieldList.ValueTyped) -> None:
            told.append(message.text)

    app = Listening(FieldList)
    async with app.run_test(size=(40, 10)) as pilot:
        listing = app.query_one(FieldList)
        listing.show([field])
        listing.focus()
        await pilot.press(key)
        await pilot.pause()
    assert told == [typed]


def _sample(texts: list[str], trained: list[bool]) -> Sample:
    return Sample.of(
        {
            "num_tokens": len(texts),
            "input_ids": list(range(10, 10 + len(texts))),
            "tokens": texts,
            "spans": [{"start": at, "end": at + 1, "trained": on} for at, on in enumerate(trained)],
        }
    )


def test_changes_of_the_mask() -> None:
    sample = _sample(list("abcdef"), [False, False, True, True, False, True])
    assert [sample.next_change(at, 1) for at in range(6)] == [2, 2, 4, 4, 5, 5]
    assert [sample.next_change(at, -1) for at in range(6)] == [0, 1, 2, 2, 2, 4]


async def test_tokens_wrap_and_newlines_show() -> None:
    app = _One(TokenFlow)
    async with app.run_test(size=(20, 8)) as pilot:
        flow = app.query_one(TokenFlow)
        flow.show(_sample(["hello world, ", "this is long", "\nnew", " 世界"], [False, False, True, True]))
        await pilot.pause()
        lines = [flow.render_line(row).text.rstrip() for row in range(4)]
        assert lines == ["hello world, this is", " long⏎", "new 世界", ""] or lines[1].endswith("⏎")
        assert "".join(lines).replace("⏎", "").replace(" ", "") == "helloworld,thisislongnew世界"


async def test_a_row_of_a_million_tokens_is_shown_window_by_window() -> None:
    count, window = 1_000_000, 8192
    asked: list[int] = []

    class Listening(_One):
        def on_token_flow_window_needed(self, message: TokenFlow.WindowNeeded) -> None:
            asked.append(message.token)

    def answer(first: int) -> dict[str, Any]:
        size = min(window, count - first)
        return {"first": first, "input_ids": [7] * size, "tokens": [f" w{at}" for at in range(first, first + size)]}

    app = Listening(TokenFlow)
    async with app.run_test(size=(80, 24)) as pilot:
        flow = app.query_one(TokenFlow)
        spans = [{"start": 0, "end": count - 5}, {"start": count - 5, "end": count, "trained": True}]
        sample = Sample.of({"num_tokens": count, "spans": spans, **answer(0)})
        flow.show(sample)
        assert flow.cursor == count - 5
        flow.move_cursor(0)
        flow.focus()
        await wait_until(pilot, lambda: " w3" in flow.render_line(0).text)
        assert asked == []
        flow.action_change(1)
        await wait_until(pilot, lambda: asked == [count - 5])
        flow.take_window(sample.with_window(answer(count - window // 2)))
        await wait_until(pilot, lambda: f"w{count - 1}" in "".join(flow.render_line(y).text for y in range(24)))
        await pilot.press("g")
        await wait_until(pilot, lambda: asked == [count - 5, 0])
        assert sum(map(len, flow._lines)) <= window + 1


async def test_control_characters_of_a_token_are_made_visible() -> None:
    app = _One(TokenFlow)
    async with app.run_test(size=(40, 4)) as pilot:
        flow = app.query_one(TokenFlow)
        flow.show(_sample(["a\x1b[31m", "[/]", ""], [True, True, True]))
        await pilot.pause()
        assert flow.render_line(0).text.rstrip() == "a␛[31m[/]·"


async def test_the_cutoff_moves_and_counts() -> None:
    taken: list[int] = []

    class Listening(_One):
        def on_length_chart_cutoff_taken(self, message: LengthChart.CutoffTaken) -> None:
            taken.append(message.length)

    app = Listening(LengthChart)
    async with app.run_test(size=(80, 14)) as pilot:
        chart = app.query_one(LengthChart)
        chart.show([(10, 1), (20, 1), (30, 1), (400, 1)], 512, 2, num_steps=lambda rows: rows * 10)
        chart.focus()
        assert "0 rows cut" in str(chart.render())
        for _ in range(15):
            chart.move_cutoff(-1)
        shown = str(chart.render())
        assert "1 rows cut (25.0%)" in shown
        assert "40 steps an epoch" in shown
        await pilot.press("enter")
        await pilot.pause()
    assert len(taken) == 1
    assert 30 <= taken[0] < 400
