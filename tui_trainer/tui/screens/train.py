"""Screen 3: watch and steer a run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

from textual import on, work
from textual.binding import ActiveBinding, Binding, BindingType
from textual.containers import Container, Horizontal, Vertical
from textual.widget import Widget
from textual.widgets import ContentSwitcher, Static

from tui_trainer.errors import WorkbenchError
from tui_trainer.runs.control import send
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.snapshot import RunView
from tui_trainer.tui.run_numbers import run_numbers
from tui_trainer.tui.screens.curves import CurvesScreen
from tui_trainer.tui.screens.live_settings import LiveSettings
from tui_trainer.tui.widgets.answers import Answers
from tui_trainer.tui.widgets.cursor_list import CursorList
from tui_trainer.tui.widgets.event_list import EventList
from tui_trainer.tui.widgets.log_pane import LogPane
from tui_trainer.tui.widgets.sample_view import TabStrip

_PANES = ("events", "log", "samples")
_KEYS_WHILE_LIVE = {"train-stop", "train-rate", "train-change", "train-save", "train-eval", "train-pause"}
_KEYS_AFTERWARDS = {"train-resume", "train-reason", "mode-runs"}
_WELCOME = """No run is in view.

  2   set the arguments and launch one with L
  5   open one of the runs there are"""


class TrainScreen(CurvesScreen):
    """Curves, numbers, events, log and samples of the run in view, and the keys that steer it."""

    CSS_PATH = "train.tcss"
    mode = "train"
    help_text = (
        "Train: the run in view, live. Each plot shows the raw values dim and their running mean bright, evaluations "
        "as points, and above it marks for checkpoints (◆), alerts (⚑) and changes by hand (▾). t draws over steps, "
        "tokens or time trained, u cuts outliers off, o lays up to three other runs over. ← → move a cursor that reads "
        "values; enter shows the rows that its step trained on, or the step of the event under the cursor. l or h "
        "shows what can be changed while it runs (learning rate, end, intervals) and what that would do. The run goes "
        "on when this screen, the terminal or the connection is closed; opening tui-trainer again shows it where it "
        "is. Commands are carried out at the next step and answered under events."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("x", "stop", "Stop", id="train-stop", tooltip="The stop ladder: save first, end, kill"),
        Binding("l", "change('learning_rate')", "Rate", id="train-rate", tooltip="Change the learning rate"),
        Binding(
            "h", "change('max_steps')", "Change", id="train-change", tooltip="Change the end, intervals, decay and more"
        ),
        Binding("s", "command('save')", "Save", id="train-save", tooltip="Save a checkpoint now"),
        Binding("v", "command('eval')", "Eval", id="train-eval", tooltip="Evaluate now"),
        Binding(
            "a", "command('sample')", "Sample", show=False, id="train-sample", tooltip="Answer the fixed prompts now"
        ),
        Binding("space", "pause", "Pause", id="train-pause", tooltip="Pause or continue"),
        Binding("w", "pane(1)", "Panes", id="train-pane", tooltip="Events, log, samples"),
        Binding("z", "zoom", "Zoom", id="train-zoom", tooltip="One plot over the whole width, then the next"),
        Binding("c", "chat", "Chat", id="train-chat", tooltip="Talk to the newest checkpoint"),
        Binding(
            "r", "resume", "Resume", show=False, id="train-resume", tooltip="Go on from a checkpoint: the plan first"
        ),
        Binding("i", "reason", "Reason", show=False, id="train-reason", tooltip="Why the run ended, in full"),
    ]

    def compose_body(self) -> Iterable[Widget]:
        """Plots, numbers, and a pane of events, log or samples."""
        yield Static(_WELCOME, id="welcome", markup=False)
        with Container(id="plots"):
            yield from self.compose_plots()
        yield Static("", id="numbers", markup=False)
        yield TabStrip(_PANES)
        with ContentSwitcher(initial="pane-events", id="panes"):
            with Horizontal(id="pane-events"):
                yield EventList(id="events")
                yield LogPane(id="side-log")
            with Vertical(id="pane-log"):
                yield LogPane(id="log")
            yield Answers(id="pane-samples")

    def on_mount(self) -> None:
        """Follow the run in view."""
        self._pane = "events"
        self._was_over = False
        self._sending = asyncio.Lock()
        super().on_mount()
        self.session.run.opened.subscribe(self, self._opened)
        self.set_interval(0.5, self._poll_log)
        self.query_one(TabStrip).current = self._pane
        if self.session.run.layout is not None:
            self._opened(self.session.run.layout)
        self.query_one("#events").focus()

    def main_pane(self) -> Widget:
        """The events."""
        return self.query_one("#events")

    @property
    def active_bindings(self) -> dict[str, ActiveBinding]:
        """All keys; of a run that is over the key line shows those that lead on, not those that steer it."""
        active, view = super().active_bindings, self.session.run.view
        if view is None or not view.status.state.is_over:
            return active
        return {key: entry._replace(binding=_shown_afterwards(entry.binding)) for key, entry in active.items()}

    # What is shown

    def _opened(self, layout: RunLayout) -> None:
        self._cursor = None
        for pane in self.query(LogPane):
            pane.open(layout.train_log)

    def _poll_log(self) -> None:
        if self.is_current:
            for pane in self.query(LogPane):
                pane.poll()

    def on_screen_resume(self) -> None:
        """Catch up with what happened while another screen was shown."""
        if self.session.run.view is not None:
            self._show_run(self.session.run.view)

    def _show_run(self, view: RunView) -> None:
        super()._show_run(view)
        is_over = view.status.state.is_over
        if is_over is not self._was_over:
            self._was_over = is_over
            self.refresh_bindings()
        if isinstance(self.app.screen, LiveSettings):
            self.app.screen.follow(view)
        if not self.is_current:
            return
        self.add_class("-open")
        self.show_plots(view)
        line = self.query_one("#numbers", Static)
        line.update(run_numbers(view, line.content_size.width))
        self.query_one(EventList).show(list(view.notable), view.superseded)
        self.query_one(Answers).show(view.samples)

    # Keys: looking

    def action_pane(self, step: int) -> None:
        """Another of events, log, samples."""
        had_focus = self.query_one("#panes").has_focus_within
        self._pane = _PANES[(_PANES.index(self._pane) + step) % len(_PANES)]
        self.query_one("#panes", ContentSwitcher).current = f"pane-{self._pane}"
        self.query_one(TabStrip).current = self._pane
        self._poll_log()
        if had_focus:
            target = {"events": "#events", "log": "#log", "samples": "#pane-samples"}[self._pane]
            self.query_one(target).focus()

    def on_tab_strip_clicked(self, message: TabStrip.Clicked) -> None:
        """Change to the pane whose name was clicked."""
        self.action_pane(_PANES.index(message.view) - _PANES.index(self._pane))

    def action_reason(self) -> None:
        """Why the run ended and what to do."""
        from tui_trainer.tui.screens.text import TextScreen

        view = self.session.run.view
        if view is not None:
            status = view.status
            text = f"{status.state.value}\n\n{status.reason}\n{status.remedy}\n\n{status.id}"
            self.app.push_screen(TextScreen("How the run stands", text))

    def action_resume(self) -> None:
        """Show what going on from the newest checkpoint means."""
        if (layout := self.session.run.layout) is None:
            self.say("no run is in view")
        else:
            self.offer_resume(layout)

    def action_chat(self) -> None:
        """Talk to the newest checkpoint."""
        self.session.talks_to_run = True
        self.app.call_later(self.app.run_action, "go('chat')", self.app)

    @on(CursorList.Chosen, "#events")
    def _event_chosen(self, message: CursorList.Chosen) -> None:
        """Show the rows of the step of an event, unless the reading cursor stands on another."""
        self.action_rows(self.query_one(EventList).step_at(message.line))

    # Keys: steering

    def _live_run(self) -> RunLayout | None:
        view, layout = self.session.run.view, self.session.run.layout
        if view is None or layout is None or not view.status.state.is_live:
            self.say(_why_not_live(view))
            return None
        return layout

    def action_command(self, name: str) -> None:
        """Send a command without arguments."""
        self._send(name, {})

    def action_pause(self) -> None:
        """Pause, or continue."""
        view = self.session.run.view
        self._send("continue" if view is not None and view.status.state.value == "paused" else "pause", {})

    @work(group="send")
    async def _send(self, name: str, arguments: dict[str, object]) -> None:
        layout = self._live_run()
        if layout is None:
            return
        try:
            async with self._sending:  # in the order of the keys
                await asyncio.to_thread(send, layout, name, arguments, by="screen")
        except OSError as error:
            self.say(f"the command could not be sent: {error.strerror}", problem=True)
        else:
            self.say(f"{name} sent; the trainer answers at its next step")

    @work(group="change", exclusive=True)
    async def action_change(self, field: str) -> None:
        """Offer what can be changed while the run goes on, and send what was changed."""
        from tui_trainer.tui.live_fields import live_run, read_training

        view, layout = self.session.run.view, self._live_run()
        if layout is None or view is None:
            return
        try:
            with self.session.type_ahead.held():
                configured = await asyncio.to_thread(read_training, layout)
        except WorkbenchError as error:
            self.say(str(error), problem=True)
            return
        form = LiveSettings(live_run(configured, view), field, is_typing=field == "learning_rate")
        if changes := await self.app.push_screen_wait(form):
            self._send("set", changes)

    def action_stop(self) -> None:
        """Open the stop ladder."""
        from tui_trainer.tui.screens.stopping import Stopping

        view, layout = self.session.run.view, self.session.run.layout
        if view is None or layout is None or view.status.state.is_over:
            self.say(_why_not_live(view))
        else:
            self.app.push_screen(Stopping(layout))


def _shown_afterwards(binding: Binding) -> Binding:
    """A key of a run that is over, shown if it leads on."""
    is_shown = binding.id in _KEYS_AFTERWARDS or (binding.show and binding.id not in _KEYS_WHILE_LIVE)
    return replace(binding, show=is_shown)


def _why_not_live(view: RunView | None) -> str:
    """Why nothing can be steered here, and which key leads on."""
    if view is None:
        return "no run is in view: L on Args starts one, 5 shows all of them"
    state = view.status.state
    return f"the run is {state.value}: r resumes it" if state.is_over else f"the run is {state.value}, not yet running"
