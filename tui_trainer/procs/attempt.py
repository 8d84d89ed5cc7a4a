"""The processes of one start of a run's command: started, reaped, looked for, signalled, asked for their last words.

Used by `supervisor` alone, which is the parent of the command and, as subreaper, of every orphan it leaves behind.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tui_trainer.procs.exits import Evidence, count_oom_kills
from tui_trainer.procs.ladder import Rung
from tui_trainer.procs.orders import LaunchOrder
from tui_trainer.procs.proctree import MARK, ProcessKey, descendants, mark_for, mark_of, marked
from tui_trainer.runs.files import read_json
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.status import rank_processes

_LOG_TAIL_BYTES = 1 << 16


class Attempt:
    """One start of the command, or what is left of one that lost its supervisor.

    Attributes:
        command: the process that was started; None if it was adopted or is reaped.
        exit_code: of the command, negative for a signal; None while it runs or if it was adopted.
    """

    def __init__(self, layout: RunLayout) -> None:
        self._layout = layout
        self._known: set[ProcessKey] = set()
        self._terminated: set[ProcessKey] = set()
        self._num_oom_kills = count_oom_kills()
        self._log_offset = 0
        self._is_ours = False
        self.command: int | None = None
        self.exit_code: int | None = None

    def start(self, order: LaunchOrder, reset_signals: tuple[signal.Signals, ...]) -> None:
        """Start the command in a session of its own, without input, its output going to the log.

        Args:
            order: what to start, with which additions to the environment.
            reset_signals: the signals that the supervisor ignores and the command shall not.

        Raises:
            OSError: there is no such program, or no process can be made.
        """
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        log = str(self._layout.train_log)
        self._log_offset = _size(self._layout.train_log)
        self._is_ours = True
        self.command = os.posix_spawnp(
            order.argv[0],
            order.argv,
            {**os.environ, **order.env, MARK: mark_for(self._layout.root)},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, log, append, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=reset_signals,
        )

    def reap(self) -> None:
        """Take note of every child that has ended, adopted orphans among them."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.command:
                self.command, self.exit_code = None, os.waitstatus_to_exitcode(status)

    def left(self) -> set[ProcessKey]:
        """All live processes of the attempt.

        Whatever was found once is waited for by pid and start time, because a dying process loses its parent and its
        environment before it gives back its memory and its GPU.
        """
        self._known = {key for key in self._known | self._find() if key.is_alive}
        return self._known

    def is_over(self) -> bool:
        """Whether nothing is left; cheap as long as something is."""
        if self.command is not None or any(key.is_alive for key in self._known):
            return False
        # twice, because a process whose parent dies while we look through /proc is missed by the first look
        return not self.left() and not self.left()

    def _find(self) -> set[ProcessKey]:
        if self._is_ours:
            return descendants(os.getpid()) | self._ranks()
        found = marked(self._layout.root) | self._ranks()
        return found.union(*(descendants(key.pid) for key in found))

    def _ranks(self) -> set[ProcessKey]:
        """The recorded ranks that live; those of a run whose directory was copied bear the mark of another one."""
        here = (None, mark_for(self._layout.root))
        return {
            ProcessKey(rank.pid, rank.start_time)
            for rank in rank_processes(self._layout)
            if rank.is_alive and mark_of(rank.pid) in here
        }

    def press(self, rung: Rung) -> list[ProcessKey]:
        """Signal what is left as hard as `rung` says; returns who was signalled for the first time.

        SIGTERM goes to the ranks first: one that saves needs its loader processes, and a launcher would hand the
        signal on, so that the rank got it twice. Where no rank lives it goes to all.
        """
        left = self.left()
        if rung is Rung.KILLED:
            return [key for key in left if key.send(signal.SIGKILL)]
        fresh = ((self._ranks() & left) or left) - self._terminated
        self._terminated |= fresh
        return [key for key in fresh if key.send(signal.SIGTERM)]

    def evidence(self) -> Evidence:
        """What tells why the attempt ended."""
        return Evidence(
            exit_code=self.exit_code,
            exceptions=self._last_words(),
            num_oom_kills=max(count_oom_kills() - self._num_oom_kills, 0),
            log_tail=_read_tail(self._layout.train_log, self._log_offset),
        )

    def _last_words(self) -> list[Mapping[str, Any]]:
        paths = sorted(self._layout.ranks.glob("*.json"), key=lambda path: (len(path.name), path.name))
        words = [(read_json(path) or {}).get("exception") for path in paths]
        return [word for word in words if isinstance(word, dict)]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _read_tail(path: Path, start: int) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(start, _size(path) - _LOG_TAIL_BYTES))
            return file.read(_LOG_TAIL_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
