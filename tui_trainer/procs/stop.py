"""Stopping runs: a durable order that the supervisor carries out, and a look at what is left.

The order is a file. The supervisor asks the trainer to save and stop, terminates it when the grace time is over, kills
what does not end. A run whose supervisor was killed is given a new one first.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from tui_trainer.errors import MachineError
from tui_trainer.procs.hardware import gpu_memory_by_process
from tui_trainer.procs.ladder import Rung
from tui_trainer.procs.lock import is_held
from tui_trainer.procs.orders import StopOrder
from tui_trainer.procs.proctree import descendants, describe, marked
from tui_trainer.procs.spawn import adopt
from tui_trainer.runs.files import parse_object
from tui_trainer.runs.journal import Tailer
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.status import RunStatus, read_status

_POLL_SECONDS = 0.1
_JOURNAL_BYTES = 1 << 14


@dataclass(frozen=True)
class Survivor:
    """A process of a run that is still there.

    Attributes:
        pid: its number.
        description: name and state, "python (running)".
        gpu_memory: bytes it holds on GPUs; 0 if none or not known.
    """

    pid: int
    description: str
    gpu_memory: int


@dataclass(frozen=True)
class StopReport:
    """How a stopping run stands.

    Attributes:
        status: its state.
        survivors: its processes that are still there, the supervisor not among them.
        rung: the last rung of the stop ladder that its supervisor climbed, "asked", "terminated", "killed",
            "given_up"; empty if none.
    """

    status: RunStatus
    survivors: tuple[Survivor, ...]
    rung: str = ""

    @property
    def is_over(self) -> bool:
        """Whether the run has ended and nothing is left."""
        return not self.status.state.is_live and not self.survivors

    @property
    def gpu_memory(self) -> int:
        """Bytes of GPU memory that are still held."""
        return sum(survivor.gpu_memory for survivor in self.survivors)


def request_stop(layout: RunLayout, *, now: bool = False, kill: bool = False, by: str = "") -> bool:
    """Ask for the end of a run without waiting for it. Asking again is harmless, asking harder presses harder.

    Args:
        layout: the run.
        now: do not wait for it to save.
        kill: do not ask its processes to end either.
        by: who asks, for the record.

    Returns:
        Whether there was anything to stop.

    Raises:
        MachineError: the run directory cannot be written, or the run has lost its supervisor and cannot be given a
            new one.
    """
    if not is_held(layout) and not marked(layout.root):
        return False
    try:
        StopOrder(now or kill, by, kill).write(layout)
    except OSError as error:
        raise MachineError(
            f"the order to stop cannot be written: {error.strerror}",
            where=str(layout.stop_request),
            remedy="Free some space on that disk, or send SIGTERM to the process in status.json.",
        ) from None
    adopt(layout)
    return True


def report(layout: RunLayout) -> StopReport:
    """What is left of a run now. Looks through all processes and asks the GPU's driver: some tens of milliseconds."""
    keys = marked(layout.root)
    keys = keys.union(*(descendants(key.pid) for key in keys))
    held = gpu_memory_by_process() if keys else {}
    survivors = (Survivor(key.pid, describe(key), held.get(key.pid, 0)) for key in sorted(keys))
    return StopReport(read_status(layout), tuple(survivors), _last_rung(layout))


def _last_rung(layout: RunLayout) -> str:
    """How far the supervisor has climbed the ladder since it last started the run, by its journal."""
    rungs = {rung.name.lower() for rung in Rung}
    for line in reversed(Tailer(layout.supervisor_log, tail_bytes=_JOURNAL_BYTES).read()):
        kind = (parse_object(line) or {}).get("type")
        if kind == "started":
            return ""
        if kind in rungs:
            return str(kind)
    return ""


def is_over(layout: RunLayout) -> bool:
    """Whether nobody works at the run any more: no supervisor, and its state says so."""
    return not read_status(layout).state.is_live and not is_held(layout)


def wait_until_over(layout: RunLayout, timeout: float | None = None) -> bool:
    """Block until a run has ended, at most `timeout` seconds; returns whether it has.

    Raises:
        WorkbenchError: the run lost its supervisor and cannot be given a new one.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    while not _is_over_or_watched(layout):
        if deadline is not None and time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _is_over_or_watched(layout: RunLayout) -> bool:
    """Whether the run has ended; if it has lost its supervisor, it is given a new one, for else it would never end."""
    if is_over(layout):
        return True
    if not is_held(layout):
        adopt(layout)
    return False
