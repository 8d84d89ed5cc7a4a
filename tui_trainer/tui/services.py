"""What the app needs of the outside: two workers, the machine's readings, a way to start runs. Tests hand in others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from tui_trainer.runs.layout import RunLayout

if TYPE_CHECKING:
    from tui_trainer.config.resolve import Resolved
    from tui_trainer.procs.machine import MachineReading
    from tui_trainer.procs.resume import ResumeTarget


class WorkerClient(Protocol):
    """A worker process that answers calls."""

    @property
    def pid(self) -> int | None:
        """The process, None while there is none; another one knows nothing of what the last one was told."""

    async def call(self, method: str, params: dict[str, Any], on_item: Callable[[Any], None] | None = None) -> Any:
        """The result of a method; cancelling the awaiting task cancels the call.

        Raises:
            WorkbenchError: the method failed, or the worker died.
        """

    async def close(self) -> None:
        """End the process."""


class MachineWatch(Protocol):
    """Readings of this machine, taken now and then."""

    @property
    def reading(self) -> MachineReading | None:
        """The last reading, None before the first."""

    async def start(self) -> None:
        """Begin to take readings."""

    async def close(self) -> None:
        """End."""


class StartRun(Protocol):
    """Starts runs."""

    def __call__(self, resolved: Resolved, *, queued: bool = False, agreed: Sequence[str] = ()) -> RunLayout:
        """Create a run and start it, or let it wait in the queue; `agreed` are the data's problems that got a yes.

        Raises:
            WorkbenchError: it cannot be started.
        """


class ResumeRun(Protocol):
    """Lets runs go on from a checkpoint."""

    def __call__(self, target: ResumeTarget, resolved: Resolved, *, is_new_run: bool, is_forced: bool) -> RunLayout:
        """Let the run go on, or begin a new one with its checkpoint; the run that goes on.

        Raises:
            WorkbenchError: it cannot be started.
        """


@dataclass(frozen=True)
class Services:
    """The outside world of the app.

    Attributes:
        data: the data worker.
        chat: the chat worker.
        machine: CPU, memory, GPUs.
        start_run: creates a run and starts it, or lets it wait in the queue; blocks until a supervisor holds it.
        resume_run: lets a run go on from a checkpoint; blocks as well.
    """

    data: WorkerClient
    chat: WorkerClient
    machine: MachineWatch
    start_run: StartRun
    resume_run: ResumeRun

    async def close(self) -> None:
        """End the workers."""
        await asyncio.gather(self.data.close(), self.chat.close(), self.machine.close(), return_exceptions=True)


def real_services(argv: Sequence[str]) -> Services:
    """Workers, readings and runs of this machine; nothing is started before it is used."""
    from tui_trainer.procs.machine import MachineSampler
    from tui_trainer.procs.worker import Worker

    def start(resolved: Resolved, *, queued: bool = False, agreed: Sequence[str] = ()) -> RunLayout:
        from tui_trainer.procs.start import start_run
        from tui_trainer.runs.data_consent import DataConsent

        consent = DataConsent(frozenset(agreed), by="screen") if agreed else None
        return start_run(resolved, argv=argv, queued=queued, consent=consent)

    def resume(target: ResumeTarget, resolved: Resolved, *, is_new_run: bool, is_forced: bool) -> RunLayout:
        from tui_trainer.procs.resume import resume_as_new_run, resume_run

        if is_new_run:
            return resume_as_new_run(target, resolved, argv=argv, is_forced=is_forced)
        return resume_run(target, resolved, argv=argv, is_forced=is_forced)

    return Services(Worker("data"), Worker("chat"), MachineSampler(), start, resume)
