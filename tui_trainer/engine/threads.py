"""How the threads of torch behave on a CPU that others use too, a training run above all.

Threads that wait for each other may spin or sleep. Spinning is up to a third faster on idle cores; where more threads
want to run than there are cores, it keeps the thread that is waited for from running, and was measured many times
slower. A front end's process sleeps from its start (`wait_asleep`); a training decides while it runs (`CrowdWatch`).
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

LOOK_SECONDS = 2.0
"""How long one look at the cores lasts."""
CROWDED = 0.15
"""Share of the time a thread was kept waiting for a core, from which others are taken to want the cores as well."""
ROOMY = 0.03
"""The share below which they are taken to be free again."""
NUM_ROOMY_LOOKS = 15
"""So many looks in a row have to find free cores before threads spin again."""

_FIXED_BY_USER = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
_PARALLEL_SIZE = 1 << 18
"""Numbers in a tensor that torch fills with all threads."""


def wait_asleep() -> None:
    """Let threads that wait for each other sleep instead of spin; has to be called before torch is loaded.

    With more busy threads than cores, spinning threads keep the one they wait for from running: on two busy cores a
    small model answered ten times slower, for ten times the CPU time. What the user set stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def leave_cores_to_training() -> None:
    """Let torch use half the cores in this process; a run on the same machine needs the others."""
    import torch

    torch.set_num_threads(max(1, min(torch.get_num_threads(), (os.cpu_count() or 2) // 2)))


class LightSleep:
    """Makes the waiting OpenMP threads of this process sleep, and lets them spin again, while it computes.

    The wait policy itself is read once, when libgomp is loaded. But a process with more OpenMP threads than cores
    spins for microseconds only (documented under GOMP_SPINCOUNT), and each Python thread that computes has OpenMP
    threads of its own: some that did so once and rest make up the number. How many threads share an operation stays
    as it was, so the sums stay equal to the bit.
    """

    def __init__(self) -> None:
        self._end = threading.Event()
        self._resting: list[threading.Thread] = []

    @property
    def is_on(self) -> bool:
        """Whether waiting threads sleep."""
        return bool(self._resting)

    def begin(self) -> bool:
        """Let them sleep from now on; returns False where an operation has one thread, so that none waits."""
        import torch

        others, cores = torch.get_num_threads() - 1, len(os.sched_getaffinity(0))
        self._end.clear()
        for _ in range((cores - 1) // others if others else 0):
            is_ready = threading.Event()
            thread = threading.Thread(target=self._rest, args=(is_ready,), name="light-sleep", daemon=True)
            thread.start()
            is_ready.wait()
            self._resting.append(thread)
        return self.is_on

    def end(self) -> None:
        """Let them spin again."""
        self._end.set()
        for thread in self._resting:
            thread.join()
        self._resting.clear()

    def _rest(self, is_ready: threading.Event) -> None:
        import torch

        torch.zeros(_PARALLEL_SIZE).add_(1.0)
        is_ready.set()
        self._end.wait()


class CrowdWatch:
    """Looks now and then whether the thread that trains is kept from the cores, and lets waiting threads sleep then.

    Args:
        tell: takes a sentence about each change.
        sleep: what is switched.
        kept_waiting: seconds the training thread was ready to run and had no core, so far.
    """

    def __init__(self, tell: Callable[[str], object], sleep: LightSleep, kept_waiting: Callable[[], float]) -> None:
        self._tell = tell
        self._sleep = sleep
        self._kept_waiting = kept_waiting
        self._before = kept_waiting()
        self._num_roomy = 0

    def look(self, seconds: float) -> None:
        """Judge the time since the last look.

        Args:
            seconds: how long it was.
        """
        now = self._kept_waiting()
        share, self._before = (now - self._before) / seconds, now
        self._num_roomy = self._num_roomy + 1 if share < ROOMY else 0
        if not self._sleep.is_on and share > CROWDED and self._sleep.begin():
            self._tell(f"the cores are shared (no core for {share:.0%} of the time): waiting threads sleep\n")
        elif self._sleep.is_on and self._num_roomy >= NUM_ROOMY_LOOKS:
            self._sleep.end()
            self._tell("the cores are free again: waiting threads spin\n")


def watch_crowd() -> None:
    """Watch the cores for the calling thread until the process ends.

    Not where an operation has one thread, where the user set how threads wait, or where the system does not tell how
    long a thread waits for a core.
    """
    import torch

    account = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
    is_fixed = any(name in os.environ for name in _FIXED_BY_USER)
    if is_fixed or torch.get_num_threads() == 1 or not account.is_file():
        return
    watch = CrowdWatch(sys.stderr.write, LightSleep(), lambda: int(account.read_text().split()[1]) / 1e9)
    threading.Thread(target=_look_on, args=(watch,), name="crowd-watch", daemon=True).start()


def _look_on(watch: CrowdWatch) -> None:
    began = time.monotonic()
    while True:
        time.sleep(LOOK_SECONDS)
        began, before = time.monotonic(), began
        watch.look(began - before)
