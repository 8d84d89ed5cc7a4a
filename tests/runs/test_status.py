"""The state of a run as it is now, whatever its status file claims."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tui_trainer.runs.events import Event, RunFailed, RunFinished, RunStopped, StepMetrics
from tui_trainer.runs.files import read_json, write_json
from tui_trainer.runs.identity import ProcessIdentity, boot_id, start_time
from tui_trainer.runs.journal import JournalWriter
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.status import (
    STALE_AFTER_SECONDS,
    RunStatus,
    State,
    may_live_afar,
    observed_status,
    rank_processes,
    read_status,
    write_status,
)
from tui_trainer.runs.store import create


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    return create("state", "", {}, root=tmp_path)


@pytest.fixture
def stranger() -> Iterator[ProcessIdentity]:
    """A live process that is not ours to touch."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    identity = ProcessIdentity.of(process.pid)
    assert identity is not None
    yield identity
    process.kill()
    process.wait()


def dead() -> ProcessIdentity:
    process = subprocess.Popen(["true"])
    identity = ProcessIdentity.of(process.pid)
    process.wait()
    return identity or ProcessIdentity(process.pid, 1, boot_id(), os.uname().nodename)


def running(layout: RunLayout, process: ProcessIdentity | None, **fields: object) -> State:
    write_json(
        layout.status, {"state": "running", "heartbeat": time.time()} | (process.to_dict() if process else {}) | fields
    )
    return read_status(layout).state


def test_there_and_back(layout: RunLayout) -> None:
    status = RunStatus(
        id=layout.id,
        state=State.FAILED,
        reason="nan",
        remedy="r",
        message="m",
        step=7,
        max_steps=9,
        epoch=0.5,
        loss=1.5,
        heartbeat=12.5,
        exit_code=-9,
        process=ProcessIdentity.current(),
    )
    write_status(layout, status)
    assert read_status(layout) == status
    keys = {"version", "id", "state", "reason", "remedy", "step", "max_steps", "epoch", "loss", "pid", "start_time"}
    assert keys | {"boot_id", "host", "heartbeat", "exit_code"} <= set(read_json(layout.status) or {})


def test_loss_that_is_no_number(layout: RunLayout) -> None:
    write_status(layout, RunStatus(layout.id, State.FINISHED, loss=math.nan))
    assert json.loads(layout.status.read_bytes())["loss"] == "NaN"
    loss = read_status(layout).loss
    assert loss is not None
    assert math.isnan(loss)


def test_a_live_supervisor_means_running(layout: RunLayout, stranger: ProcessIdentity) -> None:
    assert running(layout, stranger) is State.RUNNING


def test_a_dead_supervisor_means_lost_but_for_live_ranks(layout: RunLayout, stranger: ProcessIdentity) -> None:
    assert running(layout, dead()) is State.LOST
    write_json(layout.rank(0), dead().to_dict())
    assert running(layout, dead()) is State.LOST
    write_json(layout.rank(1), stranger.to_dict())
    assert running(layout, dead()) is State.RUNNING
    assert len(rank_processes(layout)) == 2


def test_ranks_without_a_supervisor_are_where_their_events_say(layout: RunLayout, stranger: ProcessIdentity) -> None:
    write_json(layout.rank(0), stranger.to_dict())
    assert running(layout, dead(), state="starting", step=0) is State.STARTING
    with JournalWriter(layout.events) as journal:
        journal.write(StepMetrics(step=41, loss=0.5, epoch=0.25))
    status = read_status(layout)
    assert (status.state, status.step, status.loss, status.epoch) == (State.RUNNING, 41, 0.5, 0.25)
    assert running(layout, dead(), state="paused", step=41) is State.PAUSED
    assert running(layout, stranger, state="starting", step=0) is State.STARTING


def test_a_recycled_pid_does_not_revive_a_run(layout: RunLayout, stranger: ProcessIdentity) -> None:
    assert running(layout, stranger, start_time=stranger.start_time - 1) is State.LOST


def test_another_boot_does_not_revive_a_run(layout: RunLayout, stranger: ProcessIdentity) -> None:
    assert running(layout, stranger, boot_id="0" * 36) is State.LOST


def test_a_run_on_another_machine_lives_as_long_as_its_heart_beats(
    layout: RunLayout, stranger: ProcessIdentity
) -> None:
    assert running(layout, stranger, host="elsewhere") is State.RUNNING

    lost = create("lost", "", {}, root=layout.root.parent)
    old = time.time() - STALE_AFTER_SECONDS - 1
    assert running(lost, stranger, host="elsewhere", heartbeat=old) is State.LOST


@pytest.mark.parametrize("day", [-86_400, 86_400])
def test_the_clock_of_another_machine_may_be_wrong_by_a_day(
    layout: RunLayout, stranger: ProcessIdentity, day: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    hours = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: hours[0])
    begun = time.time() + day
    assert running(layout, stranger, host="elsewhere", heartbeat=begun) is State.LOST, "a single look cannot tell"
    hours[0] += 2
    assert running(layout, stranger, host="elsewhere", heartbeat=begun + 2) is State.RUNNING
    monkeypatch.setattr(time, "time", lambda: begun - 3 * day)  # and ours is set meanwhile
    hours[0] += STALE_AFTER_SECONDS - 1
    assert running(layout, stranger, host="elsewhere", heartbeat=begun + 2) is State.RUNNING
    hours[0] += 2
    assert running(layout, stranger, host="elsewhere", heartbeat=begun + 2) is State.LOST


def test_a_run_elsewhere_is_watched_before_it_is_called_lost(layout: RunLayout, stranger: ProcessIdentity) -> None:
    first = time.time() - 86_400
    assert running(layout, stranger, host="elsewhere", heartbeat=first) is State.LOST
    beat = threading.Timer(0.1, running, (layout, stranger), {"host": "elsewhere", "heartbeat": first + 2})
    beat.start()
    assert observed_status(layout).state is State.RUNNING
    beat.join()


def test_only_what_a_clock_may_have_lost_is_worth_watching(layout: RunLayout, stranger: ProcessIdentity) -> None:
    for age, may_live in ((STALE_AFTER_SECONDS + 1, True), (-60.0, True), (2 * 3600.0, False)):
        running(layout, stranger, host="elsewhere", heartbeat=time.time() - age)
        status = replace(read_status(layout), state=State.LOST)
        assert may_live_afar(status) is may_live, age
    assert not may_live_afar(replace(status, heartbeat=time.time(), process=ProcessIdentity.current()))


@pytest.mark.parametrize(
    ("last", "state"),
    [
        (RunFinished(step=9), State.FINISHED),
        (RunStopped(step=9, reason="requested"), State.STOPPED),
        (RunFailed(step=9, reason="nan", message="m", remedy="r"), State.FAILED),
        (StepMetrics(step=9), State.LOST),
    ],
)
def test_a_run_that_outlived_its_supervisor_ended_as_its_last_event_says(
    layout: RunLayout, last: Event, state: State
) -> None:
    with JournalWriter(layout.events) as journal:
        journal.write(StepMetrics(step=8))
        journal.write(last)
    assert running(layout, dead()) is state
    if state is State.FAILED:
        status = read_status(layout)
        assert (status.reason, status.message, status.remedy, status.step) == ("nan", "m", "r", 9)


@pytest.mark.parametrize("state", [State.QUEUED, State.FINISHED, State.STOPPED, State.FAILED])
def test_what_is_not_live_needs_no_process(layout: RunLayout, state: State) -> None:
    write_status(layout, RunStatus(layout.id, state))
    assert read_status(layout).state is state


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{torn",
        "[]",
        "null",
        "[" * 50_000,
        '{"state": "dancing"}',
        '{"state": ["running"]}',
        '{"state": "running"}',
        '{"state": "running", "pid": "x", "start_time": null}',
        '{"state": "running", "pid": 1e999, "start_time": 1, "boot_id": "", "host": ""}',
        '{"state": "finished", "step": "many", "max_steps": {}, "loss": [], "exit_code": "NaN"}',
        '{"state": "finished", "step": "Infinity", "max_steps": 1e999, "exit_code": 1e999, "heartbeat": "soon"}',
    ],
)
def test_damaged_status_files_are_read_without_harm(layout: RunLayout, content: str) -> None:
    layout.status.write_text(content)
    status = read_status(layout)
    assert status.id == layout.id
    assert not status.state.is_live
    assert isinstance(status.step, int)


@pytest.mark.parametrize("content", ["{", '{"state": "hibernating"}'])
def test_a_status_that_says_nothing_leaves_the_word_to_the_events(layout: RunLayout, content: str) -> None:
    layout.status.write_text(content)
    status = read_status(layout)
    assert (status.state, "is damaged" in status.remedy, "Resume it" in status.remedy) == (State.LOST, True, True)
    with JournalWriter(layout.events) as journal:
        journal.write(RunFinished(step=9, loss=1.0))
    status = read_status(layout)
    assert (status.state, status.step, status.remedy) == (State.FINISHED, 9, "")


def test_a_copy_of_a_run_that_goes_on_is_not_that_run(layout: RunLayout) -> None:
    write_status(layout, RunStatus(layout.id, State.RUNNING, step=3, process=ProcessIdentity.current()))
    copied = RunLayout(layout.root.parent / "copied")
    shutil.copytree(layout.root, copied.root)
    assert read_status(layout).state is State.RUNNING
    status = read_status(copied)
    assert (status.state, status.step, status.process) == (State.LOST, 3, None)
    assert f"a copy of {layout.id}" in status.remedy


def test_missing_status_file(tmp_path: Path) -> None:
    assert read_status(RunLayout(tmp_path / "nothing")).state is State.LOST


def test_damaged_rank_files_are_left_out(layout: RunLayout) -> None:
    layout.rank(0).write_text("{torn")
    layout.rank(1).write_text("[]")
    layout.rank(2).mkdir()
    write_json(layout.rank(3), ProcessIdentity.current().to_dict())
    assert rank_processes(layout) == [ProcessIdentity.current()]


def test_a_status_file_is_never_seen_half_written(layout: RunLayout) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from tui_trainer.runs.layout import RunLayout\n"
        "from tui_trainer.runs.status import RunStatus, State, write_status\n"
        "layout = RunLayout(Path(sys.argv[1]))\n"
        "for step in range(500): write_status(layout, RunStatus('x', State.FINISHED, remedy='y' * 5000, step=step))"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(layout.root)])
    while writer.poll() is None:
        assert json.loads(layout.status.read_bytes())
    assert writer.returncode == 0
    assert read_status(layout).step == 499
    assert [path.name for path in layout.root.iterdir() if path.name.endswith(".tmp")] == []


def test_own_identity() -> None:
    me = ProcessIdentity.current()
    assert me.is_alive
    assert me.is_local
    assert ProcessIdentity.from_dict(me.to_dict()) == me
    assert start_time(os.getpid()) == me.start_time
    assert start_time(2**22 + 1) is None
    assert ProcessIdentity.of(2**22 + 1) is None
