"""A full disk makes a run wait, not die: for space, for `continue`, or for `stop`."""

from __future__ import annotations

import errno
import os
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tui_trainer.engine.trainer import journal
from tui_trainer.engine.trainer.failures import DiskFullError
from tui_trainer.engine.trainer.journal import EventLog
from tui_trainer.engine.trainer.manifest import verify_checkpoint
from tui_trainer.runs.control import send
from tui_trainer.runs.events import (
    Alert,
    CheckpointSaved,
    ControlApplied,
    RunContinued,
    RunFinished,
    RunPaused,
    StepMetrics,
)
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.store import list_checkpoints

Usage = namedtuple("Usage", ["total", "used", "free"])


class Disk:
    """A disk whose free space a test sets, as `shutil.disk_usage` tells it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free = 10**12
        self._patch = monkeypatch
        monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(10**12, 0, self.free))

    def while_waiting(self, *acts: Callable[[], object]) -> list[int]:
        """Do one thing at each moment of waiting; returns how often it was waited so far."""
        count: list[int] = [0]

        def sleep(seconds: float) -> None:
            if seconds:
                return  # not the mailbox of these tests, which does not wait at all
            assert count[0] < 50, "waits for ever"
            if count[0] < len(acts):
                acts[count[0]]()
            count[0] += 1

        self._patch.setattr(time, "sleep", sleep)
        return count


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def nothing() -> None:
    """A moment in which nothing happens."""


OPTIONS = ("save_strategy=steps", "save_steps=2", "max_steps=6", "lr_scheduler_type=constant")


class Steps:
    """Sets the free space before given steps."""

    def __init__(self, run: Any, disk: Disk, **free: int) -> None:
        from transformers import TrainerCallback

        class Set(TrainerCallback):
            def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                disk.free = free.get(f"step_{state.global_step + 1}", disk.free)

        run.trainer.add_callback(Set())


def test_the_run_waits_for_space_and_goes_on_by_itself(tiny: Any, disk: Disk) -> None:
    undisturbed = tiny.run(*OPTIONS, directory="undisturbed")
    undisturbed.train()
    run = tiny.run(*OPTIONS)
    Steps(run, disk, step_4=1000)
    count = disk.while_waiting(nothing, nothing, lambda: setattr(disk, "free", 10**12))
    run.train()
    assert count == [3]
    (alert,) = run.written(Alert)
    assert (alert.kind, alert.step) == ("disk", 4)
    assert "needs about" in alert.message
    (paused,) = run.written(RunPaused)
    assert (paused.reason, paused.step) == ("disk_full", 4)
    assert [event.step for event in run.written(RunContinued)] == [4]
    assert [event.step for event in run.written(CheckpointSaved)] == [2, 4, 6]
    losses = [[event.loss for event in one.written(StepMetrics)] for one in (undisturbed, run)]
    assert losses[0] == losses[1]


def test_continue_goes_on_without_the_checkpoint(tiny: Any, disk: Disk) -> None:
    run = tiny.run(*OPTIONS)
    Steps(run, disk, step_4=1000, step_5=10**12)
    disk.while_waiting(nothing, lambda: send(run.layout, "continue"))
    run.train()
    assert [event.step for event in run.written(CheckpointSaved)] == [2, 6]
    assert run.written(RunContinued) == []
    assert len(run.written(RunFinished)) == 1


def test_stop_ends_it_and_says_what_was_not_saved(tiny: Any, disk: Disk) -> None:
    run = tiny.run(*OPTIONS)
    Steps(run, disk, step_4=1000)
    disk.while_waiting(nothing, lambda: send(run.layout, "stop"))
    with pytest.raises(DiskFullError):
        run.train()
    assert [checkpoint.step for checkpoint in list_checkpoints(run.layout)] == [2]
    assert verify_checkpoint(run.layout.checkpoint(2)) == []


def test_the_end_is_waited_for_too(tiny: Any, disk: Disk) -> None:
    run = tiny.run("save_strategy=epoch", "max_steps=3")
    Steps(run, disk, step_3=1000)
    disk.while_waiting(nothing, lambda: setattr(disk, "free", 10**12))
    run.train()
    assert [event.step for event in run.written(CheckpointSaved)] == [3]
    assert len(run.written(RunFinished)) == 1


def test_a_quota_that_shows_nowhere_is_tried_again_ever_more_rarely(
    tiny: Any, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny.run(*OPTIONS)
    clock = [1000.0]
    monkeypatch.setattr("tui_trainer.engine.trainer.checkpoint.time.monotonic", lambda: clock[0])
    write, tries = run.trainer._write_checkpoint, []

    def limited(*arguments: Any) -> None:
        tries.append(clock[0])
        if len(tries) < 4:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        write(*arguments)

    run.trainer._write_checkpoint = limited
    disk.while_waiting(*[lambda: clock.__setitem__(0, clock[0] + 5.0)] * 45)
    run.train()
    assert [later - tries[0] for later in tries[1:4]] == [15.0, 45.0, 105.0]
    assert len(run.written(Alert)) == 1
    assert [event.step for event in run.written(CheckpointSaved)] == [2, 4, 6]


def test_the_oldest_checkpoints_go_first_when_room_is_short(tiny: Any, disk: Disk) -> None:
    run = tiny.run(*OPTIONS, "save_total_limit=2", "max_steps=8")
    Steps(run, disk, step_6=1000)
    seen: list[list[int]] = []
    disk.while_waiting(
        lambda: seen.append([checkpoint.step for checkpoint in list_checkpoints(run.layout)]),
        lambda: setattr(disk, "free", 10**12),
    )
    run.train()
    assert seen == [[4]]
    assert [checkpoint.step for checkpoint in list_checkpoints(run.layout)] == [6, 8]


def test_a_command_is_carried_out_while_the_disk_is_full(tiny: Any, disk: Disk) -> None:
    run = tiny.run(*OPTIONS)
    Steps(run, disk, step_4=1000)
    disk.while_waiting(lambda: send(run.layout, "set", {"learning_rate": 1e-5}), lambda: setattr(disk, "free", 10**12))
    run.train()
    assert [event.command for event in run.written(ControlApplied)] == ["set"]
    assert run.written(StepMetrics)[4].learning_rate == 1e-5


class FullFile:
    """Makes the writes to the event file fail while it is full."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, layout: RunLayout) -> None:
        self.is_full = False
        write = os.write

        def limited(descriptor: int, data: bytes) -> int:
            path = Path(f"/proc/self/fd/{descriptor}")
            if self.is_full and path.exists() and path.readlink() == layout.events:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(descriptor, data)

        monkeypatch.setattr(os, "write", limited)


def test_a_run_that_cannot_write_down_what_happens_waits_and_loses_nothing(
    tiny: Any, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_MUTE_AFTER", 5)
    run = tiny.run("max_steps=20")
    file = FullFile(monkeypatch, run.layout)

    from transformers import TrainerCallback

    class Fill(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            file.is_full |= state.global_step == 5

    run.trainer.add_callback(Fill())
    steps: list[int] = []

    def free() -> None:
        steps.append(run.trainer.state.global_step)
        file.is_full = False

    disk.while_waiting(nothing, free)
    run.train()
    assert [event.step for event in run.written(StepMetrics)] == list(range(1, 21))
    assert steps == [12]  # six events wait after step 11, which is seen at the next
    assert [event.reason for event in run.written(RunPaused)] == ["disk_full"]
    assert [event.step for event in run.written(RunContinued)] == [12]
    sequence = [event.seq for event in run.written(StepMetrics)]
    assert sequence == sorted(set(sequence))


def test_the_space_held_back_serves_the_last_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = RunLayout(tmp_path)
    log = EventLog(layout, is_writer=True)
    file = FullFile(monkeypatch, layout)
    log.write(Alert(kind="x", message="before"))
    assert layout.reserve.stat().st_blocks * 512 >= 1 << 18
    file.is_full = True
    unlink = Path.unlink

    def unlink_and_free(path: Path, missing_ok: bool = False) -> None:
        unlink(path, missing_ok)
        file.is_full = False

    monkeypatch.setattr(Path, "unlink", unlink_and_free)
    log.write(Alert(kind="x", message="the disk is full"))
    assert not layout.reserve.exists()
    assert b"the disk is full" in layout.events.read_bytes()
    log.close()


def test_several_threads_may_report(tmp_path: Path) -> None:
    from threading import Thread

    layout = RunLayout(tmp_path)
    log = EventLog(layout, is_writer=True)

    def write() -> None:
        for _ in range(200):
            log.write(Alert(kind="x", message="m"))

    threads = [Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    lines = layout.events.read_bytes().splitlines()
    assert len(lines) == 800
    assert [int(line.split(b'"seq":')[1].split(b",")[0]) for line in lines] == list(range(800))
