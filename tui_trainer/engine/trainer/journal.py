"""What the trainer writes into the run directory besides checkpoints: rank 0's events, every rank's last words.

A disk that is full must not end a training that only wanted to write a line: events that cannot be written wait in
memory and follow, in order, when there is space again. A small file holds some space back, so that the run can still
say that the disk is full.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from dataclasses import replace
from pathlib import Path

from tui_trainer.runs.control import waiting
from tui_trainer.runs.events import Event, Progress, decode
from tui_trainer.runs.files import write_json
from tui_trainer.runs.identity import ProcessIdentity
from tui_trainer.runs.journal import JournalWriter, read_lines
from tui_trainer.runs.layout import RunLayout

_MUTE_AFTER = 100
"""Events that may wait in memory before the run has to; a kill would lose them."""

_RESERVE_BYTES = 1 << 18
_RESERVE_SECONDS = 60.0
_PROGRESS_SECONDS = 0.25
_STEP = b'"type":"StepMetrics"'
_END = b'"type":"RunFinished"'
_STARTS = (b'"type":"RunStarted"', b'"type":"RunResumed"')


class EventLog:
    """The event file of a run, for its one writer; silent on all other ranks. May be used by several threads.

    Args:
        layout: the run.
        is_writer: whether this process is rank 0.

    Attributes:
        attempt: how often the run was started before.
        reached: the last step that was made before this start.
        was_finished: whether the start before came to the end of the training.
        outdated: ids of the commands that were sent to an earlier start, and not to this one.
        last_step: step of the last event.
    """

    def __init__(self, layout: RunLayout, *, is_writer: bool) -> None:
        self.attempt, self.reached, self.was_finished = _earlier_starts(layout) if is_writer else (0, 0, False)
        self.outdated = frozenset(waiting(layout)) if self.attempt else frozenset()
        self.last_step = 0
        self._writer = JournalWriter(layout.events) if is_writer else None
        self._waiting: deque[Event] = deque()
        self._lock = threading.Lock()
        self._reserve = _Reserve(layout.reserve)

    @property
    def is_mute(self) -> bool:
        """Whether so much waits in memory that the run should wait too."""
        return len(self._waiting) > _MUTE_AFTER

    def write(self, event: Event, *, durable: bool = False) -> None:
        """Append an event; on a full disk it waits for the next call."""
        if self._writer is None:
            return
        self.last_step = max(self.last_step, event.step)
        with self._lock:
            self._waiting.append(replace(event, attempt=self.attempt, t=event.t or time.time()))
            self._write_waiting(self._writer, durable=durable)

    def flush(self) -> bool:
        """Write what waits; returns whether nothing does any more."""
        if self._writer is not None and self._waiting:
            with self._lock:
                self._write_waiting(self._writer, durable=True)
        return not self._waiting

    def _write_waiting(self, writer: JournalWriter, *, durable: bool) -> None:
        try:
            self._append_waiting(writer)
        except OSError:
            if not self._reserve.give():
                return
            with contextlib.suppress(OSError):
                self._append_waiting(writer)
        else:
            self._reserve.take()
        if durable:
            writer.sync()

    def _append_waiting(self, writer: JournalWriter) -> None:
        while self._waiting:
            writer.write(self._waiting[0])
            self._waiting.popleft()

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._reserve.give()
            self.flush()
            self._writer.close()


class _Reserve:
    """Space on the disk that is held back for the last lines before it is full."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next_try = float("-inf")

    def take(self) -> None:
        """Hold the space, if it is not held; tried now and then."""
        now = time.monotonic()
        if now < self._next_try:
            return
        self._next_try = now + _RESERVE_SECONDS
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return
        with contextlib.suppress(OSError):
            os.posix_fallocate(descriptor, 0, _RESERVE_BYTES)
        os.close(descriptor)

    def give(self) -> bool:
        """Let go of the space; returns whether there was any."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True


def _earlier_starts(layout: RunLayout) -> tuple[int, int, bool]:
    """How often the run was started, the last step that it made, and whether the last start came to the end."""
    count, last, is_finished = 0, b"", False
    for line in read_lines(layout.events):
        if _STEP in line:
            last = line
        elif any(mark in line for mark in _STARTS):
            count, is_finished = count + 1, False
        elif _END in line:
            is_finished = True
    event = decode(last)
    return count, event.step if event is not None else 0, is_finished


class ProgressReport:
    """Turns progress callbacks into events, a few a second: `Report` of `engine.report`."""

    def __init__(self, events: EventLog) -> None:
        self._events = events
        self._task = ""
        self._written = 0.0

    def __call__(self, task: str, done: int | None = None, total: int | None = None) -> None:
        """Report that `done` of `total` parts of a task are done."""
        now = time.monotonic()
        is_new, is_last = task != self._task, done is not None and done == total
        if is_new or is_last or now - self._written >= _PROGRESS_SECONDS:
            self._task, self._written = task, now
            self._events.write(Progress(task=task, done=done, total=total))


class RankFile:
    """`ranks/<n>.json`: who this rank is, and why it died if it did."""

    def __init__(self, layout: RunLayout, rank: int) -> None:
        self._path = layout.rank(rank)
        self._fields = {**ProcessIdentity.current().to_dict(), "rank": rank}
        write_json(self._path, self._fields)

    def last_words(self, exception: dict[str, object]) -> None:
        """Record the error that ends this rank, with the time: the first rank to fail names the cause."""
        write_json(self._path, {**self._fields, "exception": {**exception, "t": time.time()}})
