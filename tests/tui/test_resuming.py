"""The plan of a resume on the screen: shown, changed, forced, started."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Static

from tui_trainer.runs.layout import RunLayout
from tui_trainer.tui.app import WorkbenchApp
from tui_trainer.tui.screens.resuming import Resuming
from tui_trainer.tui.widgets.chart import Chart
from tui_trainer.tui.widgets.run_table import RunTable

from .fakes import FakeWorld
from .recorded import record_checkpoints
from .waiting import wait_until

MakeApp = Callable[..., WorkbenchApp]


@pytest.fixture
def resumable(finished_run: RunLayout) -> RunLayout:
    record_checkpoints(finished_run, 200, 400, max_steps=498)
    return finished_run


def text(pilot: Pilot[Any]) -> str:
    return str(pilot.app.screen.query_one("#resume-plan", Static).render())


async def opened(pilot: Pilot[Any]) -> None:
    await wait_until(pilot, lambda: pilot.app.screen.query_one(RunTable).num_lines == 1)
    await pilot.press("r")
    await wait_until(pilot, lambda: isinstance(pilot.app.screen, Resuming) and "from step" in text(pilot))


async def test_the_plan_is_shown_and_carried_out(make_app: MakeApp, world: FakeWorld, resumable: RunLayout) -> None:
    app = make_app("runs")
    async with app.run_test(size=(120, 36)) as pilot:
        await opened(pilot)
        assert "from step 400" in text(pilot)
        assert "epoch 2, after row 400 of 1273" in text(pilot)
        assert "learning_rate 0.0001" in text(pilot)
        assert app.screen.query_one(Chart).plot.curves
        await pilot.press("p", "j", "enter")
        await wait_until(pilot, lambda: "from step 200" in text(pilot))
        await pilot.press("enter")
        await wait_until(pilot, lambda: app.current_mode == "train")
        assert world.resumed == [(200, False, False)]
        assert app.session.run.layout == resumable


async def test_another_value_changes_the_plan(make_app: MakeApp, world: FakeWorld, resumable: RunLayout) -> None:
    app = make_app("runs")
    async with app.run_test(size=(120, 36)) as pilot:
        await opened(pilot)
        await pilot.press("e", *"learning_rate=1e-6", "enter")
        await wait_until(pilot, lambda: "training.learning_rate" in text(pilot))
        assert "jumps from" in text(pilot)
        await pilot.press("n")
        await wait_until(pilot, lambda: bool(world.resumed))
        assert world.resumed == [(400, True, False)]
        assert world.launched[0].config.training.learning_rate == 1e-6


async def test_another_training_has_to_be_meant(make_app: MakeApp, world: FakeWorld, resumable: RunLayout) -> None:
    app = make_app("runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot)
        await pilot.press("e", *"data.max_length=99", "enter")
        await wait_until(pilot, lambda: "refused unless forced" in text(pilot))
        await pilot.press("enter")
        await pilot.pause()
        assert world.resumed == []
        await pilot.press("f")
        await wait_until(pilot, lambda: "forced" in text(pilot) and "refused unless" not in text(pilot))
        await pilot.press("enter")
        await wait_until(pilot, lambda: world.resumed == [(400, False, True)])


async def test_a_run_without_a_checkpoint_says_so(make_app: MakeApp, world: FakeWorld, finished_run: RunLayout) -> None:
    app = make_app("runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await wait_until(pilot, lambda: app.screen.query_one(RunTable).num_lines == 1)
        await pilot.press("r")
        await wait_until(pilot, lambda: isinstance(app.screen, Resuming) and "no checkpoint yet" in text(pilot))
        await pilot.press("enter", "p", "escape")
        await wait_until(pilot, lambda: app.current_mode == "runs" and not isinstance(app.screen, Resuming))
        assert world.resumed == []


async def test_the_run_in_view_is_resumed_from_its_screen(make_app: MakeApp, resumable: RunLayout) -> None:
    app = make_app("train", resumable)
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.press("r")
        await wait_until(pilot, lambda: isinstance(app.screen, Resuming) and "from step 400" in text(pilot))
