"""The stop ladder as a dialog, over a real supervisor and ranks that do not want to end."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.app import App
from textual.pilot import Pilot
from textual.widgets import Static

from tests.procs.conftest import Bench
from tui_trainer.procs.stop import wait_until_over
from tui_trainer.runs.status import State, read_status
from tui_trainer.tui.screens.stopping import Stopping

from .waiting import wait_until

pytestmark = pytest.mark.e2e


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path / "runs")
    yield made
    made.close()


async def expect(pilot: Pilot[None], *words: str) -> None:
    """Wait until all the words are shown."""
    await wait_until(pilot, lambda: all(word in str(pilot.app.screen.query_one(Static).content) for word in words))


async def test_each_rung_is_shown_and_in_the_end_what_is_left(bench: Bench) -> None:
    layout = bench.started({"FAKE_IGNORE_TERM": "1", "FAKE_IGNORE_CONTROL": "1"}, grace_seconds=60)
    async with App[None]().run_test(size=(80, 24)) as pilot:
        await pilot.app.push_screen(Stopping(layout))
        await expect(pilot, "3 processes left", f"{Path(sys.executable).name} (sleeping)")
        await pilot.press("s")
        await expect(pilot, "▸ s  stop and save")
        await pilot.press("t")
        await expect(pilot, "▸ t  end", "3 processes left")
        await pilot.press("k")
        await expect(pilot, "▸ k  kill", "stopped at step", "no process is left")
    assert bench.processes(layout) == set()
    assert read_status(layout).state is State.STOPPED


async def test_what_was_ordered_goes_on_when_the_dialog_is_closed(bench: Bench) -> None:
    layout = bench.started()
    async with App[None]().run_test(size=(80, 24)) as pilot:
        await pilot.app.push_screen(Stopping(layout))
        await pilot.press("enter")
        await expect(pilot, "… s  stop and save")
        await pilot.press("escape")
    assert wait_until_over(layout, 30)
    assert read_status(layout).state is State.STOPPED
