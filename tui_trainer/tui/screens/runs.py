"""Screen 5: all runs, what became of them, and the way back into each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from tui_trainer.runs.snapshot import RunReader
from tui_trainer.runs.store import hidden_runs, list_checkpoints
from tui_trainer.text import safe_line
from tui_trainer.tui import format as fmt
from tui_trainer.tui.run_summary import RunSummary, read_config, summarise_all
from tui_trainer.tui.screens.keeping import KeepingScreen
from tui_trainer.tui.widgets.chart import Chart, Curve, Plot
from tui_trainer.tui.widgets.cursor_list import CursorList, Heading
from tui_trainer.tui.widgets.pairs import Pairs
from tui_trainer.tui.widgets.run_table import RunLine, RunTable

_POLL_SECONDS = 2.0
_SETTLE_SECONDS = 0.15
_SLICE_SECONDS = 0.02

_WELCOME = """No runs yet in {store}

  2   set the arguments and launch one with L"""


class RunsScreen(KeepingScreen):
    """The table of runs and the details of the one under the cursor."""

    CSS_PATH = "runs.tcss"
    mode = "runs"
    help_text = (
        "Runs: every run of this run store, newest first, those going on among them. Enter brings a run into view on "
        "the Train screen, however it was started. Below stand its curve, its checkpoints and why it ended."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "open_run", "Open", id="runs-open", tooltip="Bring the run into view on the Train screen"),
        Binding("c", "chat", "Chat", id="runs-chat", tooltip="Talk to the run's newest checkpoint"),
        Binding("a", "clone", "Clone", id="runs-clone", tooltip="Take the run's configuration into Args"),
        Binding("x", "stop", "Stop", id="runs-stop", tooltip="The stop ladder: save first, end, kill"),
        Binding(
            "less_than_sign",
            "change_place(-1)",
            "Earlier",
            show=False,
            id="runs-earlier",
            tooltip="Forward in the queue",
        ),
        Binding(
            "greater_than_sign", "change_place(1)", "Later", show=False, id="runs-later", tooltip="Back in the queue"
        ),
        Binding("r", "resume", "Resume", id="runs-resume", tooltip="Go on from a checkpoint: the plan first"),
        Binding("R", "rename", "Rename", id="runs-rename", tooltip="Give the run another name"),
        Binding("D", "delete", "Delete", id="runs-delete", tooltip="Delete the run and its files"),
        Binding("i", "config", "Config", id="runs-config", tooltip="The run's whole configuration"),
    ]

    def compose_body(self) -> Iterable[Widget]:
        """The table; below it details and curve."""
        yield Static("", id="welcome", markup=False)
        table = RunTable(id="runs")
        yield Heading(table)
        yield table
        with Horizontal(id="details"):
            with Vertical(id="about") as pane:
                pane.border_title = "Run"
                yield Pairs(id="about-text")
            yield Chart(Plot("loss"), id="curve")

    def on_mount(self) -> None:
        """Read the store now and every two seconds."""
        self._summaries: dict[str, RunSummary] = {}
        super().on_mount()
        self.set_interval(_POLL_SECONDS, self.refresh_list)
        self.query_one("#runs").focus()

    def main_pane(self) -> Widget:
        """The table."""
        return self.query_one("#runs")

    def on_screen_resume(self) -> None:
        """Read the store."""
        self.refresh_list()

    def refresh_list(self) -> None:
        """Read the store, if anybody looks."""
        if self.is_current:
            self._read_store()

    @work(group="store", exclusive=True, exit_on_error=False)
    async def _read_store(self) -> None:
        """Read the runs in a thread, so that neither thousands of them nor a slow disk hold up a key."""
        summaries = await asyncio.to_thread(summarise_all, self.session.root, dict(self._summaries))
        hidden = [] if summaries else await asyncio.to_thread(hidden_runs, self.session.root)
        self._summaries = {summary.id: summary for summary in summaries}
        self._show_table(summaries, hidden)

    def _show_table(self, summaries: list[RunSummary], hidden: list[str]) -> None:
        in_view = self.session.run.layout
        table = self.query_one(RunTable)
        is_first = table.run is None
        table.show([_line(summary, in_view is not None and summary.id == in_view.id) for summary in summaries])
        welcome = [_WELCOME.format(store=safe_line(str(self.session.root))), *map(safe_line, hidden)]
        self.query_one("#welcome", Static).update(Content("\n".join(welcome)))
        self.set_class(bool(summaries), "-open")
        if is_first and summaries:
            self._show_details()

    @on(CursorList.Highlighted, "#runs")
    def _highlighted(self) -> None:
        self._show_details()

    @work(group="details", exclusive=True, exit_on_error=False)
    async def _show_details(self) -> None:
        """Read the run under the cursor, a moment after it stopped moving."""
        await asyncio.sleep(_SETTLE_SECONDS)
        summary = self.current()
        if summary is None:
            return
        self.query_one(Pairs).show(await asyncio.to_thread(details, summary))
        reader = await asyncio.to_thread(RunReader, summary.record.layout)
        while reader.has_more:  # another run under the cursor cancels this
            await asyncio.to_thread(reader.fetch)
            reader.apply(_SLICE_SECONDS)
        self.query_one("#curve", Chart).show(_curve(reader))

    def current(self) -> RunSummary | None:
        """The run under the cursor."""
        run = self.query_one(RunTable).run
        return self._summaries.get(run.id) if run else None

    @on(CursorList.Chosen, "#runs")
    async def _chosen(self) -> None:
        await self.action_open_run()

    async def action_open_run(self) -> None:
        """Bring the run into view."""
        if (layout := self.current_layout()) is not None:
            self.session.run.open(layout)
            await self.run_action("app.go('train')")

    async def action_chat(self) -> None:
        """Talk to the run's newest checkpoint."""
        if (layout := self.current_layout()) is not None:
            self.session.run.open(layout)
            self.session.talks_to_run = True
            await self.run_action("app.go('chat')")

    def action_resume(self) -> None:
        """Show what going on from the run's newest checkpoint means."""
        if (layout := self.current_layout()) is not None:
            self.offer_resume(layout)

    def action_stop(self) -> None:
        """Open the stop ladder of the run under the cursor."""
        from tui_trainer.tui.screens.stopping import Stopping

        if (summary := self.current()) is None or summary.record.status.state.is_over:
            self.say("no run is going on under the cursor")
        else:
            self.app.push_screen(Stopping(summary.record.layout))


def _line(summary: RunSummary, is_in_view: bool) -> RunLine:
    state = summary.record.status.state
    steps = fmt.count(summary.step) + (f"/{fmt.count(summary.max_steps)}" if summary.max_steps else "")
    return RunLine(
        id=summary.id,
        sign=fmt.STATE_GLYPHS[state],
        state=f"{state.value} {place}" if (place := summary.record.status.queue_place) else state.value,
        name=summary.record.name,
        method=summary.method,
        model=summary.model,
        data=summary.data,
        steps=steps,
        loss=fmt.metric(summary.loss),
        eval_loss=fmt.metric(summary.eval_loss),
        when=fmt.ago(summary.record.created),
        is_in_view=is_in_view,
    )


def details(summary: RunSummary) -> list[tuple[str, str]]:
    """What there is to know of a run beside its curve."""
    record = summary.record
    status = record.status
    checkpoints = list_checkpoints(record.layout)
    config = read_config(record.layout)
    training = config.get("training") or {}
    lines = [
        ("id", record.id),
        ("state", f"{status.state.value} {status.reason}".strip()),
        ("why", status.message),
        ("remedy", status.remedy),
        ("restarts", f"{status.restarts} of {status.max_restarts}" if status.max_restarts else ""),
        ("took", fmt.took(summary.seconds, is_resumed=summary.is_resumed)),
        ("method", f"{summary.method}, lr {fmt.metric(training.get('learning_rate'))}"),
        ("model", summary.model),
        ("data", summary.data),
        ("left out", f"{fmt.count(summary.num_left_out)} rows of the stream" if summary.num_left_out else ""),
        ("checkpoints", ", ".join(f"{checkpoint.step}" for checkpoint in checkpoints[-8:]) or "none"),
        ("parent", str(record.info.get("parent") or "")),
    ]
    return [(name, value) for name, value in lines if value]


def _curve(reader: RunReader) -> Plot:
    view = reader.view
    curves = [Curve(view.series["loss"], smoothing=0.6)] if "loss" in view.series else []
    if "eval_loss" in view.series:
        curves.append(Curve(view.series["eval_loss"], "points", is_points=True))
    note = fmt.metric(view.last.loss) if view.last else ""
    return Plot("loss", curves, note=note, placeholder="no values")
