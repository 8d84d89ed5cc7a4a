"""When a run that failed is started again by itself, as pure logic; the supervisor asks after every failure.

This is the only place that starts a run again. torchrun's own `--max-restarts` stays at 0: it would start the ranks
anew inside one launcher, where neither the reason for the failure nor a lost launcher can be told, and it does not
wait. A node that is lost ends the launchers of all the others, so that each machine's supervisor comes here.
"""

from __future__ import annotations

PASSING_REASONS = frozenset({"killed", "nccl", "gpu_error", "port", "library_error"})
"""Reasons for a failure that may not be there the next time."""
MAX_FRUITLESS = 3
"""Restarts in a row that come no further than the run had been before; after these it is given up."""
LONGEST_DELAY = 600.0


class RestartPolicy:
    """Counts the restarts of one run and decides on the next.

    Args:
        max_restarts: how often it may be started again in all; 0 never.
        delay_seconds: pause before the first restart; it doubles with each one that brought no progress.

    Attributes:
        num_restarts: how often it was started again.
    """

    def __init__(self, max_restarts: int, delay_seconds: float) -> None:
        self.max_restarts = max_restarts
        self.num_restarts = 0
        self._delay = delay_seconds
        self._num_fruitless = 0
        self._farthest = -1

    def delay_after(self, reason: str, step: int) -> float | None:
        """How many seconds to wait before the next start; None if there is to be none.

        Args:
            reason: why the run failed.
            step: how far it had come.
        """
        if reason not in PASSING_REASONS or self.num_restarts >= self.max_restarts:
            return None
        self._num_fruitless = 0 if step > self._farthest else self._num_fruitless + 1
        self._farthest = max(self._farthest, step)
        if self._num_fruitless >= MAX_FRUITLESS:
            return None
        self.num_restarts += 1
        return min(self._delay * 2.0**self._num_fruitless, LONGEST_DELAY)
