"""What all screens have: the top bar, the key line, the status of the run, help."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Resize
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Footer, Static

from tui_trainer.runs.events import Progress
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.snapshot import RunView
from tui_trainer.text import safe_line
from tui_trainer.tui import format as fmt
from tui_trainer.tui.machine_line import MachineLine
from tui_trainer.tui.session import Session
from tui_trainer.tui.widgets.topbar import TopBar

MACHINE_SECONDS = 2.0
MIN_WIDTH, MIN_HEIGHT = 60, 16
_BREAKPOINTS = [(0, "-narrow"), (110, "-wide")]


class WorkbenchScreen(Screen[None]):
    """A mode of the workbench.

    Attributes:
        mode: its name.
        help_text: what the screen is for, shown by its help.
    """

    mode: str = ""
    help_text: ClassVar[str] = ""

    HORIZONTAL_BREAKPOINTS = _BREAKPOINTS
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave_field", "Leave field", show=False, id="leave-field", tooltip="Leave a field or pane"),
        Binding("question_mark", "help", "Help", key_display="?", id="help", tooltip="Keys and purpose of this screen"),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._machine_line = MachineLine()

    def compose(self) -> ComposeResult:
        """The top bar, the screen's own body, the key line."""
        yield TopBar(self.mode)
        yield Static("", id="too-small", markup=False)
        yield from self.compose_body()
        yield Footer(compact=True, show_command_palette=False)

    def compose_body(self) -> Iterable[Widget]:
        """The widgets between top bar and key line."""
        return ()

    def on_mount(self) -> None:
        """Follow the run in view and the machine."""
        self.session.run.updated.subscribe(self, self._show_run)
        self.set_interval(MACHINE_SECONDS, self._show_machine)
        self.call_after_refresh(self._show_machine)
        if self.session.run.view is not None:
            self._show_run(self.session.run.view)

    def on_resize(self, event: Resize) -> None:
        """Below a usable size say so instead of drawing what nobody can read."""
        width, height = event.size
        self.set_class(width < MIN_WIDTH or height < MIN_HEIGHT, "-tiny")
        text = (
            f"This terminal is {width}x{height}.\nThe workbench needs {MIN_WIDTH}x{MIN_HEIGHT}.\nq leaves; runs go on."
        )
        self.query_one("#too-small", Static).update(Content(text))

    def _show_run(self, view: RunView) -> None:
        self.query_one(TopBar).run = run_line(view)

    def _show_machine(self) -> None:
        reading = self.session.services.machine.reading
        if reading is None or not self.is_current:
            return
        text = self._machine_line.text(reading)
        self.query_one(TopBar).machine = Content.styled(f"{text} ", "$text-disabled")

    def action_leave_field(self) -> None:
        """Give the focus back to the screen's main pane."""
        if (main := self.main_pane()) is not None:
            main.focus()

    def main_pane(self) -> Widget | None:
        """The pane that has the focus when nothing else does."""
        return None

    def action_help(self) -> None:
        """Show purpose and keys of this screen."""
        from tui_trainer.tui.screens.help import HelpScreen

        self.app.push_screen(HelpScreen(self.help_text, list(self.active_bindings.values())))

    def offer_resume(self, layout: RunLayout) -> None:
        """Show what going on from a checkpoint of a run means, and bring the run that goes on into view."""
        from tui_trainer.tui.screens.resuming import Resuming

        self.app.push_screen(Resuming(layout, self.session.services), self._resumed)

    async def _resumed(self, layout: RunLayout | None) -> None:
        if layout is not None:
            self.session.run.open(layout)
            await self.run_action("app.go('train')")

    def say(self, message: str, *, problem: bool = False) -> None:
        """A passing note at the corner of the screen; never read as markup."""
        self.notify(message, severity="error" if problem else "information", markup=False, timeout=10 if problem else 5)


def run_line(view: RunView) -> tuple[Content, ...]:
    """State, name, step, loss and remaining time of a run, from the longest form to the shortest."""
    status = view.status
    state = (f"{fmt.STATE_GLYPHS[status.state]} {status.state.value}", fmt.STATE_STYLES[status.state])
    step = view.last.step if view.last else status.step
    total = view.max_steps
    name = safe_line(status.id.rsplit("-", 3)[0])
    place = f"{fmt.count(step)}/{fmt.count(total)}" if total else ""
    if isinstance(view.progress, Progress) and view.last is None:
        place = safe_line(view.progress.task)
    loss = f"loss {fmt.metric(view.last.loss)}" if view.last is not None and view.last.loss is not None else ""
    left = f"eta {fmt.duration(view.seconds_left)}" if status.state.is_live and view.seconds_left is not None else ""
    forms: tuple[list[str], ...] = ([name, place, loss, left], [place, loss, left], [place, loss], [place], [])
    return tuple(Content.assemble(state, (" ".join(["", *filter(None, words)]) + " ", "$text")) for words in forms)
