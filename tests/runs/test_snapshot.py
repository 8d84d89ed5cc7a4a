"""What a screen knows of a run, built up event by event, whatever happens to the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.runs.test_events import STARTED
from tui_trainer.runs.events import (
    CheckpointSaved,
    ControlApplied,
    EvalMetrics,
    Progress,
    RunContinued,
    RunFinished,
    RunPaused,
    RunResumed,
    RunStarted,
    RunStopped,
    Sample,
    StepMetrics,
)
from tui_trainer.runs.journal import JournalWriter
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.snapshot import RunReader
from tui_trainer.runs.store import create


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    return create("view", "", {}, root=tmp_path)


def losses(reader: RunReader) -> list[tuple[float, float]]:
    return [(first, column.mean) for first, _, column in reader.view.series["loss"]]


def read_all(reader: RunReader) -> RunReader:
    while reader.advance(1.0) or reader.has_more:
        pass
    return reader


def test_a_whole_run(layout: RunLayout) -> None:
    reader = RunReader(layout)
    assert not reader.advance()
    with JournalWriter(layout.events) as journal:
        journal.write(Progress(task="loading"))
        read_all(reader)
        assert reader.view.progress is not None
        journal.write(RunStarted(**STARTED))
        for step in range(1, 11):
            journal.write(StepMetrics(step=step, loss=1 / step, learning_rate=1e-3, step_seconds=2.0))
        journal.write(EvalMetrics(step=10, extra={"eval_loss": 0.3}))
        journal.write(CheckpointSaved(step=10, path="x", bytes=1, seconds=0.1))
        journal.write(Sample(step=10, prompt="a", text="b"))
    view = read_all(reader).view
    assert view.progress is None
    assert view.last is not None
    assert view.last.step == 10
    assert [step for step, _ in losses(reader)] == list(range(1, 11))
    assert view.series["eval_loss"].last == (10.0, 0.3)
    assert "grad_norm" not in view.series
    assert (len(view.checkpoints), len(view.samples), view.num_torn) == (1, 1, 0)
    assert [event.type for event in view.notable] == ["RunStarted", "EvalMetrics", "CheckpointSaved"]
    with JournalWriter(layout.events) as journal:
        journal.write(RunFinished(step=10))
    assert reader.advance(1.0)
    assert reader.view.final == RunFinished(step=10, seq=reader.view.num_events - 1, t=reader.view.notable[-1].t)
    assert reader.view.seconds_left == 0
    assert not reader.advance()


def test_torn_and_foreign_lines_are_counted_and_skipped(layout: RunLayout) -> None:
    layout.events.write_bytes(b'{"type":"StepMetrics","step":1,"loss":1}\n{torn\n\n\x00\n{"type":"Newer","step":1}\n')
    view = read_all(RunReader(layout)).view
    assert (view.num_events, view.num_torn) == (2, 2)


def test_steps_done_again_after_a_resume_count_in_their_last_form(layout: RunLayout) -> None:
    with JournalWriter(layout.events) as journal:
        journal.write(RunStarted(**STARTED))
        for step in range(1, 9):
            journal.write(StepMetrics(step=step, loss=float(step)))
        journal.write(RunStopped(step=8))
        journal.write(RunResumed(**STARTED, step=5, attempt=1))
        for step in range(6, 11):
            journal.write(StepMetrics(step=step, loss=100.0 + step, attempt=1))
    reader = read_all(RunReader(layout))
    assert losses(reader) == [(step, float(step) if step <= 5 else 100.0 + step) for step in range(1, 11)]
    assert reader.view.final is None


def test_what_a_branch_left_behind_is_marked(layout: RunLayout) -> None:
    with JournalWriter(layout.events) as journal:
        journal.write(RunStarted(**STARTED))
        for step in (2, 4, 6):
            journal.write(EvalMetrics(step=step, extra={"eval_loss": 1.0}))
            journal.write(CheckpointSaved(step=step, path="x", bytes=1, seconds=0.1))
            journal.write(Sample(step=step, prompt="a", text="b"))
        journal.write(RunResumed(**STARTED, step=4, attempt=1, superseded_steps=2))
        journal.write(CheckpointSaved(step=5, path="x", bytes=1, seconds=0.1, attempt=1))
    view = read_all(RunReader(layout)).view
    assert [event.step for event in view.checkpoints] == [2, 4, 5]
    assert [event.step for event in view.samples] == [2, 4]
    assert view.last_eval is None
    marked = [(type(event).__name__, event.step) for event in view.notable if event.seq in view.superseded]
    assert marked == [("EvalMetrics", 6), ("CheckpointSaved", 6)]
    assert len(view.notable) == 9


def test_a_file_that_was_replaced_is_a_new_story(layout: RunLayout) -> None:
    with JournalWriter(layout.events) as journal:
        for step in range(1, 6):
            journal.write(StepMetrics(step=step, loss=1.0))
    reader = read_all(RunReader(layout))
    layout.events.unlink()
    with JournalWriter(layout.events) as journal:
        journal.write(StepMetrics(step=1, loss=9.0))
    read_all(reader)
    assert losses(reader) == [(1, 9.0)]
    assert reader.view.num_events == 1


def test_a_long_file_is_taken_in_in_slices(layout: RunLayout) -> None:
    with JournalWriter(layout.events) as journal:
        for step in range(1, 5001):
            journal.write(StepMetrics(step=step, loss=1.0))
    reader = RunReader(layout)
    num_slices = 0
    while reader.advance(0.0005) or reader.has_more:
        num_slices += 1
    assert reader.view.num_events == 5000
    assert num_slices > 3


def test_values_missing_from_a_step_leave_no_gap_elsewhere(layout: RunLayout) -> None:
    rows: list[dict[str, Any]] = [{"loss": 1.0}, {"grad_norm": 2.0}, {"loss": 3.0, "grad_norm": 4.0}]
    with JournalWriter(layout.events) as journal:
        for step, row in enumerate(rows, start=1):
            journal.write(StepMetrics(step=step, **row))
    view = read_all(RunReader(layout)).view
    assert view.series["loss"].num_samples == 2
    assert view.series["grad_norm"].num_samples == 2


def test_changes_by_hand_and_the_end_they_moved(layout: RunLayout) -> None:
    reader = RunReader(layout)
    with JournalWriter(layout.events) as journal:
        journal.write(RunStarted(**STARTED))
        view = read_all(reader).view
        assert view.max_steps == STARTED["max_steps"]
        journal.write(ControlApplied(step=3, command="set", old={"max_steps": 9}, new={"max_steps": 20}))
        journal.write(ControlApplied(step=4, command="set", new={"learning_rate": 1e-4}))
        journal.write(ControlApplied(step=5, command="set", error="must be a number"))
        journal.write(ControlApplied(step=6, command="set", new={"max_steps": 40}))
        journal.write(StepMetrics(step=6, loss=1.0, step_seconds=2.0))
        read_all(reader)
        assert [change.step for change in view.changes] == [3, 4, 6]
        assert view.max_steps == 40
        assert view.seconds_left == 68.0
        journal.write(RunResumed(**STARTED | {"step": 5}))
        read_all(reader)
        assert [change.step for change in view.changes] == [3, 4]
        assert view.max_steps == 20


def test_why_it_pauses(layout: RunLayout) -> None:
    reader = RunReader(layout)
    with JournalWriter(layout.events) as journal:
        for last in (RunContinued(reason="disk_full"), ControlApplied(command="continue")):
            journal.write(RunPaused(step=5, reason="disk_full", message="the disk is full"))
            pause = read_all(reader).view.pause
            assert pause is not None
            assert pause.message == "the disk is full"
            journal.write(last)
            assert read_all(reader).view.pause is None


def test_tokens_and_time_are_axes_and_go_back_with_a_resume(layout: RunLayout) -> None:
    with JournalWriter(layout.events) as journal:
        journal.write(RunStarted(**STARTED))
        for step in (10, 20, 30):
            journal.write(StepMetrics(step=step, loss=1.0, step_seconds=2.0, num_input_tokens=step * 64, t=1e9 - step))
        journal.write(RunResumed(**STARTED, step=20))
        journal.write(StepMetrics(step=30, loss=1.0, step_seconds=4.0, num_input_tokens=1920))
    view = read_all(RunReader(layout)).view
    assert [view.axes["seconds"].at(step) for step in (10, 20, 25, 30)] == pytest.approx([20, 40, 60, 80])
    assert view.axes["tokens"].at(15) == pytest.approx(960)
    assert set(view.series) == {"loss"}


def test_the_time_of_a_run_that_began_at_the_checkpoint_of_another(layout: RunLayout) -> None:
    with JournalWriter(layout.events) as journal:
        journal.write(RunResumed(**STARTED, step=500))
        journal.write(StepMetrics(step=510, loss=1.0, step_seconds=2.0))
    assert read_all(RunReader(layout)).view.axes["seconds"].at(510) == pytest.approx(20)
