"""Processes as Linux's /proc shows them: descendants, bearers of a run's mark, and signals that never hit a stranger.

Used by `supervisor` and `stop`. A process is named by pid and start time; a pid alone may have been given to another.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tui_trainer.runs.identity import start_time

MARK = "TUI_TRAINER_RUN_DIRECTORY"
"""Environment variable by which the processes of a run are found when nobody watches over them any more."""


class ProcessKey(NamedTuple):
    """One process of this machine, as long as it runs."""

    pid: int
    start_time: int

    @classmethod
    def of(cls, pid: int) -> ProcessKey | None:
        """The live process of that pid."""
        ticks = start_time(pid)
        return None if ticks is None else cls(pid, ticks)

    @property
    def is_alive(self) -> bool:
        """Whether exactly this process lives."""
        return start_time(self.pid) == self.start_time

    def send(self, number: signal.Signals) -> bool:
        """Signal exactly this process; returns whether it was there and could be.

        The descriptor pins the pid, so that it cannot be given away between the look at the start time and the signal.
        """
        try:
            descriptor = os.pidfd_open(self.pid)
        except OSError:
            return False
        try:
            if not self.is_alive:
                return False
            signal.pidfd_send_signal(descriptor, number)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True


def descendants(root: int) -> set[ProcessKey]:
    """All live processes below `root`, whatever session or group they are in."""
    children: dict[int, list[int]] = {}
    for pid in _pids():
        fields = _stat(pid)
        if fields:
            children.setdefault(int(fields[1]), []).append(pid)
    found: set[ProcessKey] = set()
    todo = [root]
    while todo:
        for pid in children.get(todo.pop(), ()):
            todo.append(pid)
            key = ProcessKey.of(pid)
            if key is not None:
                found.add(key)
    return found


def session_members(session: int) -> set[ProcessKey]:
    """All live processes of a session; its number is not given away while one of them lives."""
    keys = (ProcessKey.of(pid) for pid in _pids() if _stat(pid)[3:4] == [str(session)])
    return {key for key in keys if key is not None}


def marked(directory: Path) -> set[ProcessKey]:
    """All live processes that carry the mark of a run; processes of other users are not seen."""
    mark = mark_for(directory)
    keys = (ProcessKey.of(pid) for pid in _pids() if mark_of(pid) == mark)
    return {key for key in keys if key is not None}


def mark_for(directory: Path) -> str:
    """The mark of a run: the one name of its directory, whatever links lead there."""
    return os.path.realpath(directory)


def mark_of(pid: int) -> str | None:
    """The run directory that a process was started for; None if for none, or if it cannot be looked into."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    start = f"{MARK}=".encode()
    return next(
        (os.fsdecode(entry[len(start) :]) for entry in environment.split(b"\0") if entry.startswith(start)), None
    )


def describe(key: ProcessKey) -> str:
    """Name and state of a process, for a report: "python (running)", "python (waits in nv_ioctl)"."""
    try:
        name = Path(f"/proc/{key.pid}/comm").read_text("utf-8", "replace").strip()
        state = _stat(key.pid)[0]
        waits_in = Path(f"/proc/{key.pid}/wchan").read_text("ascii", "replace").strip() if state == "D" else ""
    except (OSError, IndexError):
        return "gone"
    word = {"R": "running", "S": "sleeping", "T": "suspended", "Z": "dead"}.get(state, "cannot be interrupted")
    return f"{name} (waits in {waits_in})" if waits_in not in ("", "0") else f"{name} ({word})"


def _pids() -> Iterator[int]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            yield int(name)


def _stat(pid: int) -> list[str]:
    """The fields of a process from its state on: state, parent, group, session and so forth; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return []
