"""The machine is taken away: a scheduler or a cloud signals, the run saves within its grace time and is started again.

`supervisor` and `train` in the foreground take SIGTERM and SIGUSR1 so; the batch job of a run under Slurm calls
`python -m tui_trainer.procs.preempt RUN_DIRECTORY SECONDS`, whose exit code says whether the job is to be queued again.
Standard library only.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tui_trainer.errors import ExitCode
from tui_trainer.procs.orders import StopOrder
from tui_trainer.runs import control
from tui_trainer.runs.events import FINAL_EVENTS, Event, RunFinished, RunStopped, decode
from tui_trainer.runs.journal import Tailer
from tui_trainer.runs.layout import RunLayout

PREEMPTION = "preemption"
"""The sender of the stop command that the taking of the machine stands for."""
PREEMPTED = "preempted"
"""The reason in the status of such a run."""
_SIGNALLED = (PREEMPTION, "SIGTERM")
_POLL_SECONDS = 0.2


def was_preempted(final: Event | None, stop: StopOrder | None) -> bool:
    """Whether a run stopped because its machine was taken away, not because a user wanted it.

    Args:
        final: its final event.
        stop: the order that its supervisor had.
    """
    if stop is not None:
        return stop.by == PREEMPTION
    # the ranks themselves were signalled, or the batch job asked them
    return isinstance(final, RunStopped) and final.reason.endswith(_SIGNALLED)


def save_in_time(layout: RunLayout, seconds: float) -> ExitCode:
    """Let a run on this or another machine save and stop; called by its batch job.

    Args:
        layout: the run.
        seconds: how long it may take.

    Returns:
        PREEMPTED if it is to be started again, be it from an older checkpoint; DONE if it has come to its end.

    Raises:
        OSError: the run directory cannot be written.
    """
    events = Tailer(layout.events, tail_bytes=0)
    control.send(layout, "stop", by=PREEMPTION)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for line in events.read():
            event = decode(line)
            if isinstance(event, FINAL_EVENTS):
                return ExitCode.DONE if isinstance(event, RunFinished) else ExitCode.PREEMPTED
        time.sleep(_POLL_SECONDS)
    return ExitCode.PREEMPTED


def main(arguments: Sequence[str]) -> int:
    """Ask the run in a directory to save; returns the exit code."""
    return int(save_in_time(RunLayout(Path(arguments[0])), float(arguments[1])))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
