"""Lists, token views and the length chart on their own."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from textual.app import App, ComposeResult
from textual.widget import Widget

from tui_trainer.tui.widgets.cursor_list import CursorList, Parts
from tui_trainer.tui.widgets.field_list import Field, FieldList
from tui_trainer.tui.widgets.length_chart import LengthChart, _expected_padded
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
            "input_ids": list(range(10, 10 + len(texts))),
            "labels": [10 + at if on else -100 for at, on in enumerate(trained)],
            "tokens": texts,
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


async def test_a_row_of_a_hundred_thousand_tokens_is_usable_while_it_is_laid_out() -> None:
    count = 100_000
    app = _One(TokenFlow)
    async with app.run_test(size=(80, 24)) as pilot:
        flow = app.query_one(TokenFlow)
        flow.show(_sample([" word"] * count, [False] * count))
        await pilot.pause()
        assert "word" in flow.render_line(0).text
        await wait_until(pilot, lambda: flow.virtual_size.height >= count * 5 // 79)
        flow.focus()
        await pilot.press("G")
        await pilot.pause()
        assert flow.cursor == count - 1
        assert flow.scroll_offset.y > 5000


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
        chart.show([10, 20, 30, 400], 512, 2)
        chart.focus()
        assert "0 rows cut" in str(chart.render())
        for _ in range(15):
            await pilot.press("left_square_bracket")
        assert "1 rows cut (25.0%)" in str(chart.render())
        await pilot.press("enter")
        await pilot.pause()
    assert len(taken) == 1
    assert 30 <= taken[0] < 400


def test_expected_padding_of_random_batches() -> None:
    assert _expected_padded([5, 5, 5, 5], 2) == pytest.approx(20)
    assert _expected_padded([0, 10], 2) == pytest.approx(15)
