"""The events of a run as a command follows them: whole lines, in order, up to the end of the run.

Used by `runs watch` and by `train` in the foreground.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from tui_trainer.procs.stop import is_over
from tui_trainer.runs.events import FINAL_EVENTS, Event, Progress, RunFailed, RunStarted, decode
from tui_trainer.runs.files import dump_line
from tui_trainer.runs.journal import Tailer
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.status import read_status


class EventFeed:
    """Reads the events of a run as they come.

    Attributes:
        final: the event that ended the run; None while it goes on.
        has_ended: whether the run is over and all its events were read.
    """

    def __init__(self, layout: RunLayout) -> None:
        self._layout = layout
        self._tailer = Tailer(layout.events)
        self.final: Event | None = None
        self.has_ended = False

    def read(self) -> Iterator[tuple[bytes, Event]]:
        """The lines that are new, each with its event; the last one of a run that has ended is a final event."""
        # asked first: what was written before the end is read after it
        is_last_look = is_over(self._layout)
        while lines := self._tailer.read():
            for line in lines:
                event = decode(line)
                if event is not None:
                    self._note(event)
                    yield line, event
        if is_last_look and not self.has_ended:
            self.has_ended = True
            if self.final is None:
                self.final = self._missing_end()
                yield dump_line(self.final.to_dict()).rstrip(b"\n"), self.final

    def _note(self, event: Event) -> None:
        if isinstance(event, FINAL_EVENTS):
            self.final = event
        elif isinstance(event, RunStarted | Progress):
            # a run that was started again goes on after its old end
            self.final = None

    def _missing_end(self) -> RunFailed:
        """The end of a run whose processes vanished together with its supervisor; it is in no file."""
        status = read_status(self._layout)
        return RunFailed(
            step=status.step,
            t=time.time(),
            reason=status.reason,
            message=status.message or "the processes of the run are gone",
            remedy=status.remedy,
        )
