"""What the supervisor writes down of a run: `status.json`, `supervisor.jsonl`, and the events no rank lives to write.

A full disk never ends the supervisor: a heartbeat is left out, the end of the run is tried again and again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from tui_trainer.procs.follower import EventFollower
from tui_trainer.procs.outcome import Outcome
from tui_trainer.procs.restarts import RestartPolicy
from tui_trainer.runs.events import Event
from tui_trainer.runs.identity import ProcessIdentity
from tui_trainer.runs.journal import JournalWriter
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.status import RunStatus, State, write_status

HEARTBEAT_SECONDS = 2.0
_WRITE_TRIES = 20
"""How often the end of the run is written, a second apart, while the disk is full."""


class Records:
    """Writes down how a run stands.

    Args:
        layout: the run.
        follower: what its events tell.
        restarts: how often it was started again.

    Attributes:
        queue_place: its place in the queue while it waits.
    """

    def __init__(self, layout: RunLayout, follower: EventFollower, restarts: RestartPolicy) -> None:
        self._layout = layout
        self._follower = follower
        self._restarts = restarts
        self._identity = ProcessIdentity.current()
        self._journal = JournalWriter(layout.supervisor_log)
        self._last_beat = float("-inf")
        self._last_shown: tuple[State, str] | None = None
        self.queue_place = 0

    def beat(self, state: State, outcome: Outcome | None = None) -> None:
        """Write the status every few seconds, and whenever it says something else."""
        is_due = time.monotonic() - self._last_beat >= HEARTBEAT_SECONDS
        if is_due or (state, outcome.message if outcome else "") != self._last_shown:
            with contextlib.suppress(OSError):
                self.status(state, outcome)

    def status(self, state: State, outcome: Outcome | None = None, exit_code: int | None = None) -> None:
        """Write the status.

        Raises:
            OSError: the disk is full or not writable.
        """
        self._last_beat, self._last_shown = time.monotonic(), (state, outcome.message if outcome else "")
        follower = self._follower
        told = outcome or follower.pause
        write_status(
            self._layout,
            RunStatus(
                id=self._layout.id,
                state=state,
                reason=told.reason if told else "",
                remedy=told.remedy if told else "",
                message=told.message if told else "",
                step=follower.step,
                max_steps=follower.max_steps,
                epoch=follower.epoch,
                loss=follower.loss,
                heartbeat=time.time(),
                exit_code=exit_code,
                restarts=self._restarts.num_restarts,
                max_restarts=self._restarts.max_restarts,
                queue_place=self.queue_place if state is State.QUEUED else 0,
                process=self._identity,
            ),
        )

    def event(self, event: Event) -> None:
        """Append to the events what no rank lives to write.

        Raises:
            OSError: the disk is full or not writable.
        """
        with JournalWriter(self._layout.events) as journal:
            journal.write(event, durable=True)

    def end(self, outcome: Outcome, exit_code: int | None) -> None:
        """Write down how the run ended; a full disk is waited for, space may come free now."""
        if (self._follower.final or self._follower.interruption) is None:
            final = outcome.event(self._follower.step, self._follower.attempt)
            _insist(lambda: self.event(final))
        _insist(lambda: self.status(outcome.state, outcome, exit_code))

    def log(self, what: str, **details: Any) -> None:
        """Append to `supervisor.jsonl`."""
        with contextlib.suppress(OSError):
            self._journal.append({"v": 1, "t": round(time.time(), 3), "type": what} | details)


def _insist(write: Callable[[], None]) -> None:
    for _ in range(_WRITE_TRIES):
        try:
            return write()
        except OSError:
            time.sleep(1.0)
    return None
