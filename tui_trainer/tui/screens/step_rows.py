"""The rows that a step trained on, as a sheet over the curves: where each stands in the data and what it says.

Opened by the Train screen. The order of the rows follows from what the run noted at its start, so that nothing has to
be recorded for each step; the data worker counts them and reads them again.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from tui_trainer.errors import UsageError, WorkbenchError
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.snapshot import RunView
from tui_trainer.text import safe, safe_line
from tui_trainer.tui import format as fmt
from tui_trainer.tui.feeds.dataset import progress_text
from tui_trainer.tui.services import WorkerClient
from tui_trainer.tui.widgets.cursor_list import CursorList, Parts
from tui_trainer.tui.widgets.sheet import Sheet
from tui_trainer.tui.widgets.text_pane import TextPane

_LINE_CHARACTERS = 400


class RowList(CursorList):
    """The rows of a step, a line each."""

    def __init__(self) -> None:
        super().__init__(id="step-rows")
        self._rows: list[dict[str, Any]] = []

    def show(self, rows: list[dict[str, Any]]) -> None:
        """Show other rows."""
        self._rows = rows
        self.set_num_lines(len(rows), cursor=0)

    @property
    def row(self) -> dict[str, Any] | None:
        """The row under the cursor."""
        return self._rows[self.cursor] if self._rows else None

    def line_parts(self, line: int) -> Parts:
        """Number, where it stands, how it begins."""
        row = self._rows[line]
        words = " ".join(str(row["text"])[:_LINE_CHARACTERS].split())
        return (
            (f"{fmt.count(row['row']):>9}", "list--strong"),
            (f"  {safe_line(Path(str(row['where'])).name)}  ", "list--dim"),
            (safe_line(words), ""),
        )


class StepRows(Sheet[None]):
    """Shows which rows a step trained on.

    Args:
        layout: the run.
        view: what is known of it.
        step: the step.
        worker: the data worker.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter", "dismiss", "Close", id="step-rows-close", tooltip="Back to the curves"),
        Binding("left,comma", "step(-1)", "Step before", id="step-rows-back", tooltip="The rows of the step before"),
        Binding("right,full_stop", "step(1)", "Next step", id="step-rows-on", tooltip="The rows of the next step"),
        Binding("y", "copy", "Copy", id="step-rows-copy", tooltip="Copy the row"),
    ]
    DEFAULT_CSS = """
    StepRows {
        & > Vertical { width: 96%; height: 92%; max-height: 92%; }
        & RowList { height: 2fr; background: $surface; }
        & TextPane { height: 3fr; border-top: solid $primary-muted; }
    }
    """

    def __init__(self, layout: RunLayout, view: RunView, step: int, worker: WorkerClient) -> None:
        super().__init__()
        self._layout, self._view, self._worker = layout, view, worker
        self._step = step

    def compose(self) -> ComposeResult:
        """What the step took, its rows, the one under the cursor in full."""
        with Vertical() as sheet:
            sheet.border_subtitle = "← → other steps · y copies the row · esc closes"
            yield Static(Content(""), id="step-about")
            yield RowList()
            yield TextPane(id="step-text")

    def on_mount(self) -> None:
        """Ask for the rows."""
        self.query_one(RowList).focus()
        self._ask()

    def action_step(self, direction: int) -> None:
        """The rows of a neighbouring step."""
        last = self._view.last.step if self._view.last else self._step
        self._step = min(max(self._step + direction, 1), last)
        self._ask()

    @work(group="step-rows", exclusive=True, exit_on_error=False)
    async def _ask(self) -> None:
        self.query_one(Vertical).border_title = Content(safe(f"What step {fmt.count(self._step)} trained on"))
        self._say("counting …")
        try:
            request = await asyncio.to_thread(request_of, self._layout, self._view, self._step)
            answer = await self._worker.call("step_rows", request, self._on_progress)
        except WorkbenchError as error:
            self._say(str(error), "$error")
            self._show_rows([])
        else:
            self._say(about(answer))
            self._show_rows(answer["rows"])

    def _on_progress(self, item: Any) -> None:
        if isinstance(item, dict):
            self._say(progress_text(item))

    def _say(self, text: str, style: str = "$text-muted") -> None:
        self.query_one("#step-about", Static).update(Content.styled(safe(text), style))

    def _show_rows(self, rows: list[dict[str, Any]]) -> None:
        self.query_one(RowList).show(rows)
        self._show_row()

    @on(CursorList.Highlighted, "#step-rows")
    def _show_row(self) -> None:
        row = self.query_one(RowList).row
        blocks = [(str(row["where"]), "text--muted"), (str(row["text"]), "")] if row else []
        if row and (left := row["num_characters"] - len(row["text"])) > 0:
            blocks.append((f"{fmt.count(left)} further characters; the Data screen has all of the row", "text--muted"))
        self.query_one("#step-text", TextPane).show(blocks)

    @on(CursorList.Chosen, "#step-rows")
    def _close(self) -> None:
        self.dismiss()

    def action_copy(self) -> None:
        """Copy the row."""
        if (row := self.query_one(RowList).row) is not None:
            self.app.copy_to_clipboard(str(row["text"]))
            self.notify("copied the row", markup=False)


def request_of(layout: RunLayout, view: RunView, step: int) -> dict[str, Any]:
    """What the data worker has to know to find the rows of a step; reads the run's configuration.

    Raises:
        WorkbenchError: nobody can tell, and why.
    """
    from tui_trainer.config.cloning import clone
    from tui_trainer.procs.orders import started_in

    start = view.start_of(step)
    if start is None:
        raise UsageError(f"step {step} was not made by this run", remedy="The run that it came from has its rows.")
    if start.num_rows is None:
        raise UsageError("the rows were streamed: which of them a step took is not kept")
    if start.row_order is None:
        raise UsageError("the run did not note where its rows begin: it is of an older version, or shares them its way")
    config = clone(layout.config, started_in=started_in(layout), here=Path.cwd()).config
    return {
        "config": config.model_dump(mode="json"),
        "order": start.row_order,
        "update": step - 1 - start.step,
        "fingerprint": start.fingerprint,
    }


def about(answer: dict[str, Any]) -> str:
    """What a step took, in a sentence."""
    rows, items = answer["num_rows"], answer["num_items"]
    shown = "" if rows == len(answer["rows"]) else f", the first {len(answer['rows'])} shown"
    packed = "" if rows <= items else f" in {items} packed rows"
    what = f"{fmt.count(rows)} row{'s' if rows != 1 else ''}{packed}{shown}"
    places = f"{fmt.count(answer['first'])} to {fmt.count(answer['last'])}"
    return f"{what}: places {places} in the order of epoch {answer['epoch']}"
