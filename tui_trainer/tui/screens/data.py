"""Screen 1: pick a dataset, see what will be trained on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from textual import on
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.events import Resize
from textual.widget import Widget
from textual.widgets import Static

from tui_trainer.text import safe, safe_line, shortened_front
from tui_trainer.tui.feeds.dataset import DatasetState
from tui_trainer.tui.recent import remember_source
from tui_trainer.tui.screens.editing import draft_field
from tui_trainer.tui.screens.looking import LookingScreen
from tui_trainer.tui.verdict_words import found_pairs, progress_words, verdict_line
from tui_trainer.tui.widgets.cursor_list import Heading
from tui_trainer.tui.widgets.field_list import FieldList
from tui_trainer.tui.widgets.length_chart import LengthChart
from tui_trainer.tui.widgets.pairs import Pairs
from tui_trainer.tui.widgets.row_table import RowTable
from tui_trainer.tui.widgets.sample import Sample
from tui_trainer.tui.widgets.sample_view import SampleView
from tui_trainer.tui.widgets.scrolling import show_line, show_text
from tui_trainer.wire.row_query import RowQuery

if TYPE_CHECKING:
    from tui_trainer.config.schema import RunConfig

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
    "data.keep_reasoning",
    "",
    "data.max_length",
    "data.truncation",
    "data.packing",
    "data.padding",
    "data.padding_side",
    "",
    "stage",
    "model.name_or_path",
    "",
    "data.name",
    "data.data_files",
    "data.revision",
    "data.streaming",
    "data.token_env",
    "data.cache_dir",
    "data.num_proc",
    "data.pad_to_multiple_of",
    "data.pad_token",
    "data.add_special_tokens",
)
_PAINT_SECONDS = 0.02
_PATH_WIDTH = 15
_VERDICT_LINES = 2
_LONGEST_WORD = 11
"""Cells that stay empty at the end of a line because the next word does not fit."""

_WELCOME = """No dataset is open.

  o   open a file, a folder or a hub id, or one of the samples
  2   set the arguments; a preset there brings its own data

JSON, JSONL, CSV, TSV, Parquet, Arrow and text, compressed or not;
folders with splits; what save_to_disk wrote; hub ids."""


class DataScreen(LookingScreen):
    """Source, rows, and the row under the cursor as it will be trained on."""

    CSS_PATH = "data.tcss"
    mode = "data"
    help_text = (
        "Data: pick a dataset and see what will be trained on. Above are its rows, below the row under the cursor: its "
        "turns, its tokens (trained ones are bold, underlined and green), the batch the collator makes of it, the "
        "record as it stands in the file, how long rows are. At the left stands how rows become tokens; every change "
        "shows at once. The last line judges the whole set; i shows the verdict and the rows of each problem. "
        "t picks the chat template from a list, with the row as each would have it. "
        "p and P step through the pieces of a row that is split. "
        "/ searches, b and s go by length, esc shows all rows again."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "fields", "Fields", id="data-fields", tooltip="To the fields: split, format, template, mask"),
        Binding("i", "verdict", "Verdict", id="data-verdict", tooltip="All that is wrong with the set, and what to do"),
        Binding(
            "t",
            "edit('data.template')",
            "Template",
            show=False,
            id="data-template",
            tooltip="Pick the template",
        ),
        Binding("m", "edit('model.name_or_path')", "Model", show=False, id="data-model", tooltip="Another model"),
        Binding("u", "undo", "Undo", show=False, id="data-undo", tooltip="Take back the last change of a field"),
    ]

    def compose_body(self) -> Iterable[Widget]:
        """Fields at the left; rows above, the row below, once there is a dataset."""
        with Horizontal(id="body"):
            with Vertical(id="source-pane") as pane:
                pane.border_title = "Source"
                yield FieldList(label_width=14, id="source")
                yield Pairs(id="found")
            with Vertical(id="right"):
                yield Static(_WELCOME, id="welcome", markup=False)
        yield Static("", id="verdict", markup=False)

    def on_mount(self) -> None:
        """Follow the draft and its dataset, and show both once the screen is painted: the schema takes a while."""
        super().on_mount()
        self._shown_info: dict[str, Any] = {}
        self._shown_verdict: dict[str, Any] | None = None
        self._shown_source: list[Any] = []
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
        self.session.draft_changed.subscribe(self, lambda _: self._show_fields())
        self.session.dataset.changed.subscribe(self, self._show_dataset)
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

    @on(Resize)
    def _room_changed(self) -> None:
        """Say as much of the verdict as there is room for now."""
        self._show_verdict(self.session.dataset.state)

    def _show_fields(self) -> None:
        from tui_trainer.tui.widgets.field_list import Field

        draft = self.session.draft
        lines = [draft_field(draft, key) if key else Field("", "") for key in _FIELDS]
        lines[0] = replace(lines[0], value=shortened_front(lines[0].value, _PATH_WIDTH) or _sources_words(draft.config))
        self.query_one("#source", FieldList).show(lines)
        if self._shown_verdict is not None:
            self._show_lengths(self._shown_verdict)

    def _show_dataset(self, state: DatasetState) -> None:
        self.set_class(state.is_open, "-open")
        welcome = self.query_one("#welcome", Static)
        if state.error is not None:
            show_text(welcome, Content.styled(safe(f"{state.error}"), "$error"))
        elif state.is_opening:
            show_text(welcome, Content(f"{safe_line(state.progress)} …"))
        elif not state.is_open:
            show_text(welcome, Content(_WELCOME))
        if state.info is not self._shown_info:
            self._open_rows(state)
        else:
            self.grow_rows()
        if state.verdict is not self._shown_verdict:
            self._shown_verdict = state.verdict
            self.table.refetch()
            if state.verdict is not None:
                self._show_lengths(state.verdict)
        self._show_found(self.query_one(SampleView).sample)
        self._show_verdict(state)

    def sample_came(self, sample: Sample) -> None:
        """Show the template and what it adds."""
        self._show_found(sample)

    def _show_found(self, sample: Sample | None) -> None:
        info = self.session.dataset.state.info
        self.query_one("#found", Pairs).show(found_pairs(info, self._has_model(), sample))

    def _has_model(self) -> bool:
        model = self.session.draft.config.model
        return bool(model.name_or_path or model.tokenizer_name_or_path)

    def _open_rows(self, state: DatasetState) -> None:
        """Show the rows of what was opened; of the same data with other settings, the same row."""
        self._shown_info = state.info
        self.query_one(LengthChart).wait()
        if not state.is_open:
            if not state.is_opening:
                self.open_rows(())
                self.query_one(SampleView).show(None)
            return
        if (path := self.session.draft.config.data.path) is not None:
            remember_source(path)
        source = [*(source.get("path") for source in state.info.get("sources") or ()), state.info.get("split")]
        is_same = source == self._shown_source
        row = self.table.row_number if is_same else 0
        query = self.query_shown
        self._shown_source = source
        self.open_rows(self._columns(state), row=row or 0)
        self.look_at(row or 0)
        if is_same and query.text:
            self.show_only(RowQuery(query.text, query.is_regex))

    def _columns(self, state: DatasetState) -> list[str]:
        """Names of the columns, those that play a role first."""
        names = list(state.info.get("features") or {})
        used = [str(path).partition(".")[0] for path in (state.info.get("columns") or {}).values()]
        return [name for name in dict.fromkeys((*used, *names)) if name in names]

    def _show_verdict(self, state: DatasetState) -> None:
        line = self.query_one("#verdict", Static)
        if words := progress_words(state):
            show_line(line, Content(f" {words}  x stops it"))
        elif state.is_judging_stopped:
            show_text(line, Content.styled(" the whole set is not judged: it was stopped; i judges it", "$warning"))
        elif state.verdict is not None:
            room = _VERDICT_LINES * (self.size.width - _LONGEST_WORD)
            show_text(line, verdict_line(state, self._has_model(), room))
        elif state.is_open and state.error is not None:
            show_text(line, Content.styled(safe_line(f" {state.error}"), "$error"))
        else:
            show_text(line, Content(""))

    def _show_lengths(self, verdict: dict[str, Any]) -> None:
        counts = verdict.get("lengths")
        if isinstance(counts, list):
            config = self.session.draft.config
            self.query_one(LengthChart).show(
                counts,
                config.data.max_length,
                config.training.per_device_train_batch_size,
                is_packed=config.data.packing,
                num_steps=self._steps_an_epoch,
            )

    def _steps_an_epoch(self, num_rows: int) -> int | None:
        from tui_trainer.config.derive import plan_run
        from tui_trainer.config.launch import num_processes

        config, reading = self.session.draft.config, self.session.services.machine.reading
        return plan_run(config, num_rows, num_processes(config, len(reading.gpus) if reading else 0)).steps_per_epoch

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

    def action_verdict(self) -> None:
        """Show the whole verdict; judge the set if that was stopped."""
        from tui_trainer.tui.screens.verdict import VerdictScreen

        dataset = self.session.dataset
        if not dataset.state.is_open:
            self.say("no dataset is open")
            return
        if dataset.state.verdict is None and dataset.state.verdict_progress is None and dataset.state.error is None:
            dataset.judge()
        self.app.push_screen(VerdictScreen(dataset), self._problem_chosen)

    def _problem_chosen(self, code: str | None) -> None:
        if code:
            self.show_only(RowQuery(problem=code))


def _sources_words(config: RunConfig) -> str:
    """How many sources are mixed; empty if there is one."""
    return f"{len(config.data.sources)} sources" if config.data.sources else ""
