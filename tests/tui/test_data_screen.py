"""The Data screen: rows page in, a row shows its mask, fields change what is trained on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual.pilot import Pilot
from textual.widgets import Static

from tui_trainer.errors import DataError
from tui_trainer.tui.app import WorkbenchApp
from tui_trainer.tui.widgets.row_table import RowTable
from tui_trainer.tui.widgets.sample_view import SampleView
from tui_trainer.tui.widgets.token_flow import TokenFlow

from .fakes import NUM_ROWS, FakeWorld, tokens_of
from .waiting import wait_until

MakeApp = Callable[..., WorkbenchApp]
SIZE = (120, 36)


async def _row_shown(app: WorkbenchApp, pilot: Pilot[Any]) -> SampleView:
    """The view of the first row, once it shows it."""
    await wait_until(pilot, lambda: bool(app.screen.query(SampleView)))
    view = app.screen.query_one(SampleView)
    await wait_until(pilot, lambda: view.sample is not None)
    return view


async def test_rows_and_mask_of_the_first_row_show(make_app: MakeApp) -> None:
    app = make_app("data")
    async with app.run_test(size=SIZE) as pilot:
        view = await _row_shown(app, pilot)
        assert app.screen.query_one(RowTable).num_lines == NUM_ROWS
        assert view.sample is not None
        trained = [view.sample.is_trained(at) for at in range(view.sample.num_tokens)]
        assert trained == [is_trained for _, _, is_trained in tokens_of(0)]
        assert view.sample.is_trained(app.screen.query_one(TokenFlow).cursor)


async def test_only_pages_that_are_looked_at_are_asked_for(make_app: MakeApp, world: FakeWorld) -> None:
    app = make_app("data")
    async with app.run_test(size=SIZE) as pilot:
        await _row_shown(app, pilot)
        table = app.screen.query_one(RowTable)
        await pilot.press("G")
        await wait_until(pilot, lambda: table.row is not None and table.row.row == NUM_ROWS - 1)
        asked = [params["start"] for method, params in world.data.calls if method == "rows"]
        # the first page comes once more when the verdict is there
        assert len(asked) <= 4
        assert len(set(asked)) <= 3


async def test_stepping_through_mask_changes(make_app: MakeApp) -> None:
    app = make_app("data")
    async with app.run_test(size=SIZE) as pilot:
        await _row_shown(app, pilot)
        flow = app.screen.query_one(TokenFlow)
        first = flow.cursor
        await pilot.press("n")
        assert flow.cursor == first
        flow.move_cursor(0)
        await pilot.press("n")
        assert flow.cursor == first


async def test_a_field_that_changes_opens_the_dataset_anew(make_app: MakeApp, world: FakeWorld) -> None:
    app = make_app("data")
    async with app.run_test(size=SIZE) as pilot:
        await wait_until(pilot, lambda: app.session.dataset.state.verdict is not None)
        app.screen.query_one("#source").focus()
        await pilot.press("t", *"chatml", "enter")
        await wait_until(pilot, lambda: sum(method == "open" for method, _ in world.data.calls) == 2)
        assert app.session.draft.config.data.template == "chatml"


async def test_a_wrong_value_is_refused_on_the_spot(make_app: MakeApp) -> None:
    app = make_app("data")
    async with app.run_test(size=SIZE) as pilot:
        await wait_until(pilot, lambda: app.session.dataset.state.is_open)
        app.screen.run_worker(app.screen.run_action("edit('data.max_length')"))
        await pilot.pause()
        await pilot.press(*"3", "enter")
        await pilot.pause()
        error = app.screen.query_one(".ask--error", Static)
        assert "at least 8" in str(error.render())
        await pilot.press("escape")
        assert app.session.draft.config.data.max_length == 512


async def test_next_problem_goes_to_the_rows_the_verdict_names(make_app: MakeApp) -> None:
    app = make_app("data")
    async with app.run_test(size=SIZE) as pilot:
        await wait_until(pilot, lambda: app.session.dataset.state.verdict is not None)
        table = app.screen.query_one(RowTable)
        await pilot.press("e")
        assert table.cursor == 17
        await pilot.press("e")
        assert table.cursor == 801
        await pilot.press("e")
        assert table.cursor == 17


async def test_all_views_of_a_row(make_app: MakeApp) -> None:
    app = make_app("data")
    async with app.run_test(size=SIZE) as pilot:
        view = await _row_shown(app, pilot)
        seen = []
        for _ in range(6):
            await pilot.press("v")
            await pilot.pause()
            seen.append(view.view)
        assert seen == ["grid", "batch", "record", "stats", "messages", "tokens"]


async def test_an_error_of_the_dataset_is_a_sentence_on_the_screen(make_app: MakeApp, world: FakeWorld) -> None:
    world.data.error = DataError("is empty", where="medqa.jsonl", remedy="Choose another file.")
    app = make_app("data")
    async with app.run_test(size=SIZE) as pilot:
        await wait_until(pilot, lambda: app.session.dataset.state.error is not None)
        shown = str(app.screen.query_one("#welcome", Static).render())
        assert shown == "medqa.jsonl: is empty. Choose another file."


async def test_hostile_text_reaches_no_widget_raw(make_app: MakeApp, world: FakeWorld) -> None:
    world.data.error = DataError("bad \x1b]52;c;UFdORUQ=\x07 [/] [bold]", where="x\x9b31m.jsonl")
    app = make_app("data")
    async with app.run_test(size=SIZE) as pilot:
        await wait_until(pilot, lambda: app.session.dataset.state.error is not None)
        await pilot.pause()
        drawn = "".join(segment.text for strip in app.screen._compositor.render_strips() for segment in strip)
        assert "\x1b" not in drawn
        assert "\x9b" not in drawn
        assert "[bold]" in drawn
