"""Screen 1: pick a dataset, see what will be trained on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from tui_trainer.errors import WorkbenchError
from tui_trainer.text import safe, safe_line
from tui_trainer.tui import format as fmt
from tui_trainer.tui.feeds.dataset import DatasetState
from tui_trainer.tui.recent import remember_source
from tui_trainer.tui.screens.editing import draft_field
from tui_trainer.tui.screens.opening import OpeningScreen
from tui_trainer.tui.verdict_words import found_lines, verdict_line, verdict_text
from tui_trainer.tui.widgets.cursor_list import CursorList, Heading
from tui_trainer.tui.widgets.field_list import FieldList
from tui_trainer.tui.widgets.length_chart import LengthChart
from tui_trainer.tui.widgets.row_table import RowTable, row_cells
from tui_trainer.tui.widgets.sample import Sample
from tui_trainer.tui.widgets.sample_view import SampleView

_FIELDS = (
    "data.path",
    "data.split",
    "data.eval_split",
    "data.max_samples",
    "",
    "data.format",
    "data.columns",
    "data.template",
    "data.system",
    "data.train_on",
    "",
    "data.max_length",
    "data.truncation",
    "data.packing",
    "",
    "stage",
    "model.name_or_path",
)
_SETTLE_SECONDS = 0.03
_PAINT_SECONDS = 0.02

_WELCOME = """No dataset is open.

  o   open a file, a folder or a hub id, or one of the samples
  2   set the arguments; a preset there brings its own data

JSON, JSONL, CSV, TSV, Parquet, Arrow and text, compressed or not;
folders with splits; what save_to_disk wrote; hub ids."""


class DataScreen(OpeningScreen):
    """Source, rows, and the row under the cursor as it will be trained on."""

    CSS_PATH = "data.tcss"
    mode = "data"
    help_text = (
        "Data: pick a dataset and see what will be trained on. Above are its rows, below the row under the cursor: its "
        "turns, its tokens (trained ones are bold, underlined and green), the batch the collator makes of it, the "
        "record as it stands in the file. At the left stands how rows become tokens; every change shows at once. The "
        "last line judges the whole set."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "fields", "Fields", id="data-fields", tooltip="To the fields: split, format, template, mask"),
        Binding("v", "view(1)", "View", id="data-view", tooltip="Next view of the row"),
        Binding("V", "view(-1)", "Previous view", show=False, id="data-view-back", tooltip="Previous view of the row"),
        Binding("n", "change(1)", "Mask", id="data-next-change", tooltip="Next change of the mask"),
        Binding(
            "N", "change(-1)", "Mask back", show=False, id="data-previous-change", tooltip="Previous change of the mask"
        ),
        Binding("e", "problem", "Problem", id="data-problem", tooltip="Next row with a problem"),
        Binding("i", "verdict", "Verdict", id="data-verdict", tooltip="All that is wrong with the set, and what to do"),
        Binding("r", "record", "Record", id="data-record", tooltip="The record as it stands in the file"),
        Binding("t", "edit('data.template')", "Template", show=False, id="data-template", tooltip="Another template"),
        Binding("m", "edit('model.name_or_path')", "Model", show=False, id="data-model", tooltip="Another model"),
        Binding("y", "copy", "Copy", show=False, id="data-copy", tooltip="Copy the row's text or record"),
        Binding("u", "undo", "Undo", show=False, id="data-undo", tooltip="Take back the last change of a field"),
    ]

    def compose_body(self) -> Iterable[Widget]:
        """Fields at the left; rows above, the row below, once there is a dataset."""
        with Horizontal(id="body"):
            with Vertical(id="source-pane") as pane:
                pane.border_title = "Source"
                yield FieldList(label_width=12, id="source")
                yield Static("", id="found", markup=False)
            with Vertical(id="right"):
                yield Static(_WELCOME, id="welcome", markup=False)
        yield Static("", id="verdict", markup=False)

    def on_mount(self) -> None:
        """Follow the draft and its dataset, and show both once the screen is painted: the schema takes a while."""
        super().on_mount()
        self._shown_info: dict[str, Any] = {}
        self.session.draft_changed.subscribe(self, lambda _: self._show_fields())
        self.session.dataset.changed.subscribe(self, self._show_dataset)
        self.query_one("#source").focus()
        self._begin_once_painted()

    def _begin_once_painted(self) -> None:
        # the app holds back the first paint of a mode for a moment; what takes long must not come before it
        if self.app._batch_count:
            self.set_timer(_PAINT_SECONDS, self._begin_once_painted)
        else:
            self.call_after_refresh(self._begin)

    async def _begin(self) -> None:
        await self.query_one("#right").mount(*self._panes())
        self._show_fields()
        self._show_dataset(self.session.dataset.state)
        self.session.dataset.open(self.session.draft.config)
        if self.session.draft.config.data.path:
            self.query_one("#rows").focus()

    def _panes(self) -> Iterable[Widget]:
        table = RowTable(id="rows")
        rows = Vertical(Heading(table), table, id="rows-pane")
        rows.border_title = "Rows"
        sample = Vertical(SampleView(id="sample"), id="sample-pane")
        sample.border_title = "Row"
        return rows, sample

    def main_pane(self) -> Widget:
        """The rows."""
        return self.query_one("#rows")

    # What is shown

    def _show_fields(self) -> None:
        from tui_trainer.tui.widgets.field_list import Field

        draft = self.session.draft
        lines = [draft_field(draft, key) if key else Field("", "") for key in _FIELDS]
        self.query_one("#source", FieldList).show(lines)

    def _show_dataset(self, state: DatasetState) -> None:
        self.set_class(state.is_open, "-open")
        welcome = self.query_one("#welcome", Static)
        if state.error is not None:
            welcome.update(Content.styled(safe(f"{state.error}"), "$error"))
        elif state.is_opening:
            welcome.update(Content(f"{safe_line(state.progress)} …"))
        elif not state.is_open:
            welcome.update(Content(_WELCOME))
        if state.info is not self._shown_info:
            self._shown_info = state.info
            self._show_rows(state)
        self.query_one("#found", Static).update(found_lines(state.info, self._has_model()))
        self._show_verdict(state)

    def _has_model(self) -> bool:
        model = self.session.draft.config.model
        return bool(model.name_or_path or model.tokenizer_name_or_path)

    def _show_rows(self, state: DatasetState) -> None:
        table = self.query_one(RowTable)
        self.query_one(LengthChart).wait()
        if not state.is_open:
            table.open((), 0)
            self.query_one(SampleView).show(None)
            return
        if (path := self.session.draft.config.data.path) is not None:
            remember_source(path)
        names = list(self._split_info(state).get("features") or {})
        table.open(names, state.num_rows or 0)
        self.query_one("#rows-pane Heading").refresh()
        self.query_one("#rows-pane").border_title = Content(safe_line(self._rows_title(state)))
        self._load_sample(0)

    def _split_info(self, state: DatasetState) -> dict[str, Any]:
        for source in state.info.get("sources") or ():
            split = (source.get("splits") or {}).get(state.info.get("split"))
            if isinstance(split, dict):
                return split
        return {}

    def _rows_title(self, state: DatasetState) -> str:
        splits: dict[str, Any] = {}
        for source in state.info.get("sources") or ():
            splits |= source.get("splits") or {}
        words = [
            f"{name} {fmt.count(info['num_rows']) if isinstance(info.get('num_rows'), int) else '…'}"
            for name, info in splits.items()
        ]
        return f"Rows  {' · '.join(words)}"

    def _show_verdict(self, state: DatasetState) -> None:
        line = self.query_one("#verdict", Static)
        if state.verdict_progress is not None:
            done, total = state.verdict_progress
            share = f" of {fmt.count(total)}" if total else ""
            line.update(Content(f" judging the whole set: {fmt.count(done)}{share} rows …"))
        elif state.verdict is not None:
            line.update(verdict_line(state, self._has_model()))
            self._show_lengths(state.verdict)
        elif state.is_open and state.error is not None:
            line.update(Content.styled(safe_line(f" {state.error}"), "$error"))
        else:
            line.update(Content(""))

    def _show_lengths(self, verdict: dict[str, Any]) -> None:
        lengths = verdict.get("lengths")
        if isinstance(lengths, list):
            config = self.session.draft.config
            chart = self.query_one(LengthChart)
            chart.show(lengths, config.data.max_length, config.training.per_device_train_batch_size)

    # Rows and samples

    @on(RowTable.PageNeeded)
    def _page_needed(self, message: RowTable.PageNeeded) -> None:
        self._load_page(message.first, message.end)

    @work(group="page", exit_on_error=False)
    async def _load_page(self, start: int, stop: int) -> None:
        try:
            answer = await self.session.dataset.rows(start, stop)
        except WorkbenchError as error:
            self.say(str(error), problem=True)
            return
        self.query_one(RowTable).put(start, [row_cells(item) for item in answer.get("rows") or ()])
        self.query_one("#rows-pane Heading").refresh()

    @on(CursorList.Highlighted, "#rows")
    def _row_highlighted(self, message: CursorList.Highlighted) -> None:
        self._load_sample(message.line)

    @on(CursorList.Chosen, "#rows")
    def _row_chosen(self) -> None:
        self.query_one(SampleView).focus_view()

    @work(group="sample", exclusive=True, exit_on_error=False)
    async def _load_sample(self, row: int) -> None:
        """Fetch the row under the cursor, a moment after it stopped moving."""
        await asyncio.sleep(_SETTLE_SECONDS)
        view = self.query_one(SampleView)
        try:
            sample = Sample.of(await self.session.dataset.sample(row))
        except WorkbenchError as error:
            view.show(None, str(error))
        else:
            view.show(sample)
            self.query_one("#sample-pane").border_title = Content(f"Row {fmt.count(row)}")
            if view.view == "batch":
                self._load_batch()

    @on(SampleView.ViewChanged)
    def _view_changed(self, message: SampleView.ViewChanged) -> None:
        if message.view == "batch":
            self._load_batch()

    @work(group="batch", exclusive=True, exit_on_error=False)
    async def _load_batch(self) -> None:
        first = self.query_one(RowTable).cursor
        size = min(self.session.draft.config.training.per_device_train_batch_size, 8)
        last = min(first + size, self.session.dataset.state.num_rows or first + 1)
        try:
            batch = await self.session.dataset.batch(list(range(first, last)))
        except WorkbenchError as error:
            self.say(str(error), problem=True)
            return
        self.query_one(SampleView).show_batch(batch)

    @on(LengthChart.CutoffTaken)
    def _cutoff_taken(self, message: LengthChart.CutoffTaken) -> None:
        self.set_field("data.max_length", str(message.length))

    # Keys

    def action_fields(self) -> None:
        """To the fields; on a narrow screen they lie over the rows."""
        fields = self.query_one("#source")
        self.add_class("-fields")
        fields.focus()

    def action_leave_field(self) -> None:
        """Back to the rows."""
        self.remove_class("-fields")
        super().action_leave_field()

    def action_edit(self, key: str) -> None:
        """Edit one field."""
        self.edit_field(key)

    def action_view(self, step: int) -> None:
        """Another view of the row."""
        self.query_one(SampleView).next_view(step)

    def action_change(self, direction: int) -> None:
        """To the next change of the mask."""
        self.query_one(SampleView).next_change(direction)

    def action_record(self) -> None:
        """The record, and back to the tokens."""
        view = self.query_one(SampleView)
        view.set_view("tokens" if view.view == "record" else "record")

    def action_problem(self) -> None:
        """To the next row that the verdict names."""
        verdict = self.session.dataset.state.verdict
        if verdict is None:
            self.say("the whole set is not judged yet")
            return
        rows = sorted({row for problem in verdict.get("problems") or () for row in problem.get("rows") or ()})
        if not rows:
            self.say("no row has a problem")
            return
        table = self.query_one(RowTable)
        table.move_cursor(next((row for row in rows if row > table.cursor), rows[0]))

    def action_verdict(self) -> None:
        """Show the whole verdict."""
        from tui_trainer.tui.screens.text import TextScreen

        verdict = self.session.dataset.state.verdict
        if verdict is None:
            self.say("the whole set is not judged yet")
            return
        self.app.push_screen(TextScreen("Verdict on the whole set", verdict_text(verdict)))

    def action_copy(self) -> None:
        """Copy to the terminal's clipboard (OSC 52)."""
        text = self.query_one(SampleView).text_to_copy()
        self.app.copy_to_clipboard(text)
        self.say(f"copied {fmt.count(len(text))} characters")
