"""The stop ladder as pure logic: ask to save and stop, terminate, kill, give up; the supervisor climbs it.

Times are those of a monotonic clock, in seconds, and are handed in, so that every path can be tested without waiting.
"""

from __future__ import annotations

import math
from enum import IntEnum

TERMINATE_SECONDS = 10.0
"""Longest time from SIGTERM to SIGKILL."""
KILL_SECONDS = 10.0
"""How long a process may take to die of SIGKILL before it is reported as a survivor."""


class Rung(IntEnum):
    """How hard the run is pressed to end."""

    RUNNING = 0
    ASKED = 1
    TERMINATED = 2
    KILLED = 3
    GIVEN_UP = 4


class StopLadder:
    """Where a stopping run stands and when it is time for the next rung.

    Args:
        grace_seconds: how long the run may take to save after it was asked.
    """

    def __init__(self, grace_seconds: float) -> None:
        self._seconds = {
            Rung.ASKED: grace_seconds,
            Rung.TERMINATED: min(grace_seconds, TERMINATE_SECONDS),
            Rung.KILLED: KILL_SECONDS,
        }
        self._deadline = math.inf
        self.rung = Rung.RUNNING

    def climb_to(self, rung: Rung, now: float, *, extra_seconds: float = 0.0) -> bool:
        """Go up to `rung`; False if the run is pressed that hard already.

        Args:
            rung: where to.
            now: the time.
            extra_seconds: what the run needs beside the grace time to get to where it can stop.
        """
        if rung <= self.rung:
            return False
        self.rung = rung
        self._deadline = now + self._seconds.get(rung, math.inf) + extra_seconds
        return True

    def wait_until(self, time: float) -> None:
        """Do not press harder before `time`: the run, asked to save, says that it is at work."""
        if self.rung is Rung.ASKED:
            self._deadline = max(self._deadline, time)

    def next_rung(self, now: float) -> Rung | None:
        """The rung to climb to because time is up; None while there is time."""
        return Rung(self.rung + 1) if now >= self._deadline else None
