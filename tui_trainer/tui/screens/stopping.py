"""The stop ladder as a dialog: stop and save, end, kill; who is still there and how much GPU memory they hold.

Opened by the Train and Runs screens. It only writes orders and looks; the supervisor climbs the ladder, also when the
dialog or the whole front end is closed meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from tui_trainer.errors import WorkbenchError
from tui_trainer.procs.stop import StopReport, report, request_stop
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.status import State
from tui_trainer.text import safe, safe_line
from tui_trainer.tui import format as fmt
from tui_trainer.tui.widgets.sheet import Sheet

_LOOK_SECONDS = 0.5
_MAX_PROCESSES = 12
_RUNGS = (
    ("s", "asked", "stop and save", "at the next step border; the run can be resumed"),
    ("t", "terminated", "end", "SIGTERM to the ranks, without waiting for a save"),
    ("k", "killed", "kill", "SIGKILL to all that is left"),
)


class Stopping(Sheet[None]):
    """How a run is brought to its end.

    Args:
        layout: the run.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s,enter", "press('asked')", "Save", id="stop-save", tooltip="Save at the next step, then stop"),
        Binding("t", "press('terminated')", "End", id="stop-terminate", tooltip="End the processes without a save"),
        Binding("k", "press('killed')", "Kill", id="stop-kill", tooltip="Kill what is left"),
        Binding("escape,q", "dismiss", "Close", id="stop-close", tooltip="Close this; what was ordered goes on"),
    ]
    DEFAULT_CSS = """
        Stopping {
            & > Vertical { width: 90%; max-width: 78; }
        }
    """

    class Looked(Message):
        """A look at what is left of the run."""

        def __init__(self, report: StopReport) -> None:
            super().__init__()
            self.report = report

    class Refused(Message):
        """The order could not be given."""

        def __init__(self, error: WorkbenchError) -> None:
            super().__init__()
            self.error = error

    def __init__(self, layout: RunLayout) -> None:
        super().__init__()
        self._layout = layout
        self._ordered = ""
        self._error = ""
        self._report: StopReport | None = None

    def compose(self) -> ComposeResult:
        """The rungs and what is left."""
        with Vertical() as box:
            box.border_title = Content(safe(f"Stop {self._layout.id}"))
            box.border_subtitle = "esc closes this; what was ordered goes on"
            yield Static(Content(""))

    def on_mount(self) -> None:
        """Look at once and then twice a second."""
        self._show()
        self._look()
        self.set_interval(_LOOK_SECONDS, self._look)

    @work(thread=True, group="look", exclusive=True, exit_on_error=False)
    def _look(self) -> None:
        self.post_message(self.Looked(report(self._layout)))

    def on_stopping_looked(self, message: Looked) -> None:
        """Show what is left."""
        self._report = message.report
        self._show()

    def action_press(self, rung: str) -> None:
        """Order the end, as hard as `rung` says."""
        self._ordered, self._error = rung, ""
        self._show()
        self._order(rung)

    @work(thread=True, group="order", exit_on_error=False)
    def _order(self, rung: str) -> None:
        try:
            request_stop(self._layout, now=rung != "asked", kill=rung == "killed", by="screen")
        except WorkbenchError as error:
            self.post_message(self.Refused(error))

    def on_stopping_refused(self, message: Refused) -> None:
        """Say why the order could not be given."""
        self._error = str(message.error)
        self._show()

    def _show(self) -> None:
        parts = [*self._rungs(), *([("\n", "")] if self._report else []), *_standing(self._report)]
        if self._error:
            parts.append((f"\n{safe(self._error)}", "$error"))
        self.query_one(Static).update(Content.assemble(*parts))

    def _rungs(self) -> Sequence[tuple[str, str]]:
        reached = self._report.rung if self._report else ""
        parts: list[tuple[str, str]] = []
        for key, rung, name, about in _RUNGS:
            mark = "▸" if rung == reached else "…" if rung == self._ordered else " "
            style = "$text bold" if mark != " " else "$text"
            parts += [(f"{mark} {key}  {name:<14}", style), (f"{about}\n", "$text-muted")]
        return parts


def _standing(report: StopReport | None) -> Sequence[tuple[str, str]]:
    """What is left of the run, in words."""
    if report is None:
        return ()
    status = report.status
    if report.is_over and status.state is not State.QUEUED:
        said = f"{fmt.STATE_GLYPHS[status.state]} {status.state.value} at step {status.step}; no process is left"
        return ((said, "$success"), (safe_line(f"\n{status.remedy}" if status.remedy else ""), "$text-muted"))
    held = f", they hold {fmt.size(report.gpu_memory)} of GPU memory" if report.gpu_memory else ""
    number = len(report.survivors)
    parts = [(f"{number} process{'es' if number != 1 else ''} left{held}", "$warning" if number else "$text")]
    for survivor in report.survivors[:_MAX_PROCESSES]:
        memory = f"  {fmt.size(survivor.gpu_memory)} GPU" if survivor.gpu_memory else ""
        parts.append((f"\n  {survivor.pid}  {safe_line(survivor.description)}{memory}", "$text-muted"))
    if number > _MAX_PROCESSES:
        parts.append((f"\n  and {number - _MAX_PROCESSES} more", "$text-muted"))
    return parts
