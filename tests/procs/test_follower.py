"""What the supervisor makes of a run's events."""

from __future__ import annotations

from pathlib import Path

import pytest

from tui_trainer.procs.follower import EventFollower
from tui_trainer.runs.events import ControlApplied, Event, RunContinued, RunPaused, RunStarted, StepMetrics
from tui_trainer.runs.journal import JournalWriter
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.status import State

STARTED = RunStarted(
    max_steps=10, num_epochs=1, num_rows=8, num_trainable_parameters=1, num_parameters=1, world_size=1, device="cpu"
)
FULL = RunPaused(step=3, reason="disk_full", message="the disk is full", remedy="Free space.")


def followed(folder: Path, *events: Event) -> EventFollower:
    layout = RunLayout(folder)
    with JournalWriter(layout.events) as journal:
        for event in events:
            journal.write(event)
    follower = EventFollower(layout)
    follower.advance(0.0)
    return follower


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([ControlApplied(step=3, command="pause"), StepMetrics(step=3)], State.PAUSED),
        ([ControlApplied(step=3, command="pause"), StepMetrics(step=3), StepMetrics(step=4)], State.RUNNING),
        ([ControlApplied(step=3, command="pause", error="no")], State.RUNNING),
        ([ControlApplied(step=3, command="pause"), ControlApplied(step=3, command="continue")], State.RUNNING),
        ([FULL, StepMetrics(step=3)], State.PAUSED),
        ([FULL, RunContinued(step=3, reason="disk_full")], State.RUNNING),
        ([FULL, ControlApplied(step=3, command="continue")], State.RUNNING),
    ],
)
def test_paused_or_not(tmp_path: Path, events: list[Event], state: State) -> None:
    follower = followed(tmp_path, STARTED, StepMetrics(step=2), *events)
    assert follower.state is state
    assert (follower.pause is not None) == (FULL in events and state is State.PAUSED)


def test_an_end_that_was_moved(tmp_path: Path) -> None:
    change = ControlApplied(step=3, command="set", old={"max_steps": 10}, new={"max_steps": 20})
    assert followed(tmp_path, STARTED, change).max_steps == 20
