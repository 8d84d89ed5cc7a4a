"""A run store on a slow network disk: the screens wait for it in threads, never in the event loop."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Static

from tests.slow_disk import SlowDisk
from tui_trainer.runs.control import pending
from tui_trainer.runs.events import StepMetrics
from tui_trainer.runs.journal import JournalWriter
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.store import read_run
from tui_trainer.tui.app import WorkbenchApp
from tui_trainer.tui.screens.live_settings import LiveSettings
from tui_trainer.tui.screens.text import TextScreen
from tui_trainer.tui.target import find_opening, wait_for_opening
from tui_trainer.tui.widgets.ask import AskText, Confirm
from tui_trainer.tui.widgets.chart import Chart
from tui_trainer.tui.widgets.log_pane import LogPane
from tui_trainer.tui.widgets.run_table import RunTable
from tui_trainer.tui.widgets.transcript import Transcript

from .fakes import FakeWorld
from .waiting import wait_until

MakeApp = Callable[..., WorkbenchApp]
_SECONDS = 0.05


def _numbers(app: WorkbenchApp) -> str:
    return str(app.screen.query_one("#numbers", Static).render())


async def test_the_train_screen_shows_and_steers_without_waiting_itself(
    make_app: MakeApp, run: RunLayout, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.train_log.write_text("the last line\n")
    app = make_app("train", run)
    states = set()
    with JournalWriter(run.events) as journal, monkeypatch.context() as patch:
        disk = SlowDisk(world.root, _SECONDS, patch)
        async with app.run_test(size=(120, 36)) as pilot:
            app.session.run.updated.subscribe(app.screen, lambda view: states.add(view.status.state.value))
            await wait_until(pilot, lambda: "1\u202f204" in _numbers(app))
            journal.write(StepMetrics(step=1205, loss=0.5, learning_rate=1e-4))
            await wait_until(pilot, lambda: "1\u202f205" in _numbers(app))
            await wait_until(pilot, lambda: app.screen.query_one("#side-log", LogPane).num_lines > 0)
            await pilot.press("s", "v", "a")
            await wait_until(pilot, lambda: sum(note.message.endswith("step") for note in app._notifications) == 3)
        assert len(disk.threads) > 20
        assert threading.main_thread() not in disk.threads
    assert [command.name for command in pending(run)] == ["save", "eval", "sample"]
    assert states == {"running"}


@asynccontextmanager
async def _runs_on_a_slow_disk(
    app: WorkbenchApp, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[SlowDisk, Pilot[None], RunTable]]:
    """The Runs screen with two runs in its table."""
    with monkeypatch.context() as patch:
        disk = SlowDisk(world.root, _SECONDS, patch)
        async with app.run_test(size=(120, 36)) as pilot:
            table = app.screen.query_one(RunTable)
            await wait_until(pilot, lambda: table.num_lines == 2)
            yield disk, pilot, table


async def test_the_runs_screen_lists_and_draws_without_waiting_itself(
    make_app: MakeApp, run: RunLayout, finished_run: RunLayout, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app("runs")
    async with _runs_on_a_slow_disk(app, world, monkeypatch) as (disk, pilot, table):
        await wait_until(pilot, lambda: bool(app.screen.query_one("#curve", Chart).plot.curves))
        lines = ["".join(text for text, _ in table.line_parts(at)) for at in range(2)]
    assert len(disk.threads) > 20
    assert threading.main_thread() not in disk.threads
    assert "running" in lines[0]
    assert "lost" not in "".join(lines)


async def test_a_run_is_shown_cloned_renamed_and_deleted_without_waiting_itself(
    make_app: MakeApp, run: RunLayout, finished_run: RunLayout, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished_run.config.write_text('name = "dates"\n[data]\npath = "rows.jsonl"\n')
    app = make_app("runs")
    async with _runs_on_a_slow_disk(app, world, monkeypatch) as (disk, pilot, table):
        await pilot.press("j", "i")
        await wait_until(pilot, lambda: isinstance(app.screen, TextScreen))
        await pilot.press("escape", "a")
        await wait_until(pilot, lambda: app.current_mode == "args")
        await pilot.press("5", "R")
        await wait_until(pilot, lambda: isinstance(app.screen, AskText))
        await pilot.press(*"better", "enter")
        await wait_until(pilot, lambda: "better" in "".join(text for text, _ in table.line_parts(1)))
        await pilot.press("D")
        await wait_until(pilot, lambda: isinstance(app.screen, Confirm))
        dialog = app.screen
        await wait_until(pilot, lambda: "checkpoints" in str(dialog.query_one(Static).render()))
        await pilot.press("y")
        await wait_until(pilot, lambda: table.num_lines == 1)
        notes = [note.message for note in app._notifications]
    assert threading.main_thread() not in disk.threads
    assert f"deleting {finished_run.id} …" in notes
    assert app.session.draft.origin == finished_run.id
    assert not finished_run.root.exists()
    assert read_run(run).name == "identity"


async def test_the_change_form_opens_without_waiting_itself(
    make_app: MakeApp, run: RunLayout, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app("train", run)
    with monkeypatch.context() as patch:
        disk = SlowDisk(world.root, _SECONDS, patch)
        async with app.run_test(size=(120, 36)) as pilot:
            await wait_until(pilot, lambda: app.session.run.view is not None)
            await pilot.press("l")
            await wait_until(pilot, lambda: isinstance(app.screen, LiveSettings))
            await wait_until(pilot, lambda: app.screen.query_one(Input).has_focus)
            await pilot.press(*"x0.5", "enter", "s")
            await wait_until(pilot, lambda: any("sent" in note.message for note in app._notifications))
        assert threading.main_thread() not in disk.threads
    assert [command.arguments for command in pending(run)] == [{"learning_rate": "x0.5"}]


@pytest.mark.parametrize("mode", ["args", "chat"])
async def test_a_file_is_saved_without_waiting_itself(
    make_app: MakeApp, tmp_path: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "slow" / "file"
    target.parent.mkdir()
    app = make_app(mode)
    with monkeypatch.context() as patch:
        disk = SlowDisk(target.parent, _SECONDS, patch)
        async with app.run_test(size=(120, 36)) as pilot:
            if mode == "chat":
                await pilot.press(*"hi", "enter")
                transcript = app.screen.query_one(Transcript)
                await wait_until(pilot, lambda: any("You said" in text for _, text in transcript.said))
                await pilot.press("escape", "S", "enter")
            else:
                await pilot.press("s")
            await wait_until(pilot, lambda: isinstance(app.screen, AskText))
            app.screen.query_one(Input).value = str(target)
            await pilot.press("enter")
            await wait_until(pilot, lambda: any(note.message == f"saved {target}" for note in app._notifications))
        assert disk.threads
        assert threading.main_thread() not in disk.threads
    assert target.read_bytes()


def test_a_run_is_looked_for_in_a_thread_and_that_is_said(
    run: RunLayout, world: FakeWorld, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        disk = SlowDisk(world.root, _SECONDS, patch)
        opening = wait_for_opening("identity", world.root, patience=_SECONDS)
        assert threading.main_thread() not in disk.threads
    assert opening == find_opening("identity", world.root)
    assert opening.run == run
    assert f"reading the run store {world.root} …" in capsys.readouterr().err
