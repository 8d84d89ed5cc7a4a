"""Following a run from the command line: its events as JSON lines on stdout, or a live view on stderr, to the end.

Used by `runs watch` and by `train` in the foreground.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from types import TracebackType

from tui_trainer.cli.feed import EventFeed
from tui_trainer.cli.live import LiveView
from tui_trainer.cli.output import print_text, talk
from tui_trainer.errors import (
    ConfigurationError,
    DataError,
    ExitCode,
    MachineError,
    RefusedError,
    RunFailedError,
    WorkbenchError,
)
from tui_trainer.procs.preempt import PREEMPTED
from tui_trainer.runs.journal import Tailer
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.status import State, read_status
from tui_trainer.text import safe_line

_POLL_SECONDS = 0.2
_LOG_BYTES = 4096
_NUM_LOG_LINES = 12
_KINDS: dict[str, type[WorkbenchError]] = {
    "configuration": ConfigurationError,
    "data": DataError,
    "machine": MachineError,
    "refused": RefusedError,
    "hub": MachineError,
    "package": MachineError,
    "disk_full": MachineError,
}
"""What kind of error a reason is, where it is not the run itself that failed."""


class Follower:
    """Shows what happens in a run; use it as a context.

    Args:
        layout: the run.
        as_json: print the events as they stand in the file, instead of showing them.
    """

    def __init__(self, layout: RunLayout, *, as_json: bool) -> None:
        self._feed = EventFeed(layout)
        self._view = None if as_json else LiveView(layout)
        self._context = ExitStack()

    def __enter__(self) -> Follower:
        if self._view is not None:
            self._context.enter_context(self._view)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context.close()

    @property
    def has_ended(self) -> bool:
        """Whether the run is over and all of it was shown."""
        return self._feed.has_ended

    def advance(self) -> None:
        """Show what is new, then wait a moment."""
        for line, event in self._feed.read():
            if self._view is None:
                print_text(line.decode("utf-8", "replace"))
            else:
                self._view.show(event)
        if self._view is not None:
            self._view.show_log()
        if not self.has_ended:
            time.sleep(_POLL_SECONDS)


def tell_end(layout: RunLayout) -> int:
    """Say how a run ended; the exit code of one that ended well, or that is to be started again.

    Raises:
        WorkbenchError: it failed, or was lost; of the kind whose exit code tells whose fault it was.
    """
    status = read_status(layout)
    if status.state not in (State.FAILED, State.LOST):
        talk().print(f"{status.state.value} at step {status.step}: {safe_line(layout.id)}")
        if status.reason == PREEMPTED:
            talk().print(safe_line(f"{status.message}. {status.remedy}"))
            return int(ExitCode.PREEMPTED)
        return int(ExitCode.DONE)
    if status.reason == "library_error":
        for line in Tailer(layout.train_log, tail_bytes=_LOG_BYTES).read()[-_NUM_LOG_LINES:]:
            talk().print(safe_line(line.decode("utf-8", "replace")), style="dim")
    what = f"the run failed ({status.reason})" + (f": {status.message}" if status.message else "")
    raise _KINDS.get(status.reason, RunFailedError)(what, where=layout.id, remedy=status.remedy)
