"""Keys that arrive in one burst do what they would do one after the other."""

from __future__ import annotations

from collections.abc import Callable

from textual.events import Key, Paste
from textual.widgets import Input

from tui_trainer.runs.control import pending
from tui_trainer.runs.layout import RunLayout
from tui_trainer.tui.app import WorkbenchApp
from tui_trainer.tui.widgets.ask import AskText
from tui_trainer.tui.widgets.row_table import RowTable

from .waiting import wait_until

MakeApp = Callable[..., WorkbenchApp]


def burst(app: WorkbenchApp, *keys: str) -> None:
    """Keys as a slow line delivers them: all at once."""
    for key in keys:
        app.post_message(Key(key, key if len(key) == 1 else None))


async def test_a_search_typed_ahead_is_no_row_of_commands(make_app: MakeApp) -> None:
    app = make_app("data")
    async with app.run_test(size=(120, 36)) as pilot:
        await wait_until(pilot, lambda: app.focused is not None and app.focused.id == "rows")
        burst(app, "slash", *"pair of axiom", "left", *"X")
        await wait_until(pilot, lambda: isinstance(app.screen, AskText) and app.screen.query_one(Input).value != "")
        await wait_until(pilot, lambda: app.screen.query_one(Input).value == "pair of axioXm")


async def test_a_pasted_text_goes_where_the_key_before_it_leads(make_app: MakeApp) -> None:
    app = make_app("data")
    async with app.run_test(size=(120, 36)) as pilot:
        await wait_until(pilot, lambda: app.focused is not None and app.focused.id == "rows")
        app.post_message(Key("slash", "/"))
        app.post_message(Paste("qLx"))
        await wait_until(pilot, lambda: isinstance(app.screen, AskText) and app.screen.query_one(Input).value == "qLx")


async def test_what_was_typed_for_a_dialog_that_was_left_goes_on_in_the_screen_beneath(make_app: MakeApp) -> None:
    app = make_app("data")
    async with app.run_test(size=(120, 36)) as pilot:
        await wait_until(pilot, lambda: app.focused is not None and app.focused.id == "rows")
        burst(app, "slash", *"5", "escape", "5")
        await wait_until(pilot, lambda: app.current_mode == "runs")
        assert len(app.screen_stack) == 1


async def test_a_learning_rate_typed_ahead_is_sent(make_app: MakeApp, run: RunLayout) -> None:
    app = make_app("train", run)
    async with app.run_test(size=(120, 36)) as pilot:
        await wait_until(pilot, lambda: app.session.run.view is not None)
        burst(app, "l", "ctrl+a", "ctrl+k", *"1e-5", "enter", "s")
        await wait_until(pilot, lambda: bool(pending(run)))
        assert [(sent.name, sent.arguments) for sent in pending(run)] == [("set", {"learning_rate": 1e-5})]
        assert app.current_mode == "train"


async def test_a_key_that_is_held_down_counts_every_time(make_app: MakeApp) -> None:
    app = make_app("data")
    async with app.run_test(size=(120, 36)) as pilot:
        await wait_until(pilot, lambda: app.focused is not None and app.focused.id == "rows")
        burst(app, *["down"] * 100, *["up"] * 40, "number_sign", *"7")
        await wait_until(pilot, lambda: isinstance(app.screen, AskText) and app.screen.query_one(Input).value == "7")
        rows = app.screen_stack[0].query_one("#rows", RowTable)
        assert rows.cursor == 60
