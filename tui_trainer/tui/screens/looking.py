"""The row under the cursor as it will be trained on: fetched, shown, copied; the Data screen builds on it."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.content import Content

from tui_trainer.errors import WorkbenchError
from tui_trainer.tui import format as fmt
from tui_trainer.tui.screens.browsing import BrowsingScreen
from tui_trainer.tui.session import Session
from tui_trainer.tui.widgets.cursor_list import CursorList
from tui_trainer.tui.widgets.length_chart import LengthChart
from tui_trainer.tui.widgets.sample import Sample
from tui_trainer.tui.widgets.sample_view import SampleView

_PATIENCE_SECONDS = 0.1
"""A row that takes longer than this is given up for the next one that is looked at."""

_ROUNDS_UNTIL_SAID = 3
"""After so many of these waits the screen says what it is waiting for."""

_WINDOW = 8192
"""Tokens of a row that are there at a time."""

_MAX_SEQUENCES = 64
"""Rows of a batch that are shown at most."""

_MAX_COPIED = 1 << 20
"""Characters that are copied at most; terminals throw away what is longer."""


class LookingScreen(BrowsingScreen):
    """A screen that shows the row under the cursor in a `SampleView`, in a pane `#sample-pane`."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("v", "view(1)", "View", id="data-view", tooltip="Next view of the row"),
        Binding("V", "view(-1)", "Previous view", show=False, id="data-view-back", tooltip="Previous view of the row"),
        Binding("n", "change(1)", "Mask", id="data-next-change", tooltip="Next change of the mask"),
        Binding(
            "N", "change(-1)", "Mask back", show=False, id="data-previous-change", tooltip="Previous change of the mask"
        ),
        Binding(
            "left_square_bracket",
            "cutoff(-1)",
            "Cutoff down",
            show=False,
            key_display="[",
            id="data-cutoff-down",
            tooltip="In the length statistics: move the cutoff down",
        ),
        Binding(
            "right_square_bracket",
            "cutoff(1)",
            "Cutoff up",
            show=False,
            key_display="]",
            id="data-cutoff-up",
            tooltip="In the length statistics: move the cutoff up",
        ),
        Binding("d", "difference", "Differs", show=False, id="data-differs", tooltip="Where training and chat differ"),
        Binding("p", "piece(1)", "Piece", show=False, id="data-piece", tooltip="Next piece of a row that is split"),
        Binding("P", "piece(-1)", "Piece back", show=False, id="data-piece-back", tooltip="Previous piece of the row"),
        Binding("r", "record", "Record", show=False, id="data-record", tooltip="The record as it stands in the file"),
        Binding(
            "y",
            "copy",
            "Copy",
            show=False,
            id="data-copy",
            tooltip="Copy the row: its text, in the grid its ids, its record",
        ),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._wanted: tuple[int, int] | None = None
        self._is_following = False

    @on(CursorList.Highlighted, "#rows")
    def _row_highlighted(self) -> None:
        row, sample = self.table.row_number, self.query_one(SampleView).sample
        is_shown = sample is not None and (sample.row, sample.piece) == (row, 0)
        if row is not None and not (is_shown and self.session.dataset.known_sample(row)):
            self.look_at(row)

    def go_to_row(self, row: int) -> None:
        """Put the cursor on a row, and show the row with it instead of once the table has told of its cursor."""
        super().go_to_row(row)
        if self.table.row_number == row:
            self.look_at(row)

    @on(CursorList.Chosen, "#rows")
    def _row_chosen(self) -> None:
        self.query_one(SampleView).focus_view()

    def look_at(self, row: int, piece: int = 0) -> None:
        """Show a row or a piece of it, at once if it was fetched ahead; the last one looked at comes next."""
        known = None if self._is_following or piece else self.session.dataset.known_sample(row)
        if known is not None:
            self._sample_came(Sample.of(known))
            return
        self._wanted = row, piece
        if not self._is_following:
            self._is_following = True
            self._follow()

    @work(group="sample", exit_on_error=False)
    async def _follow(self) -> None:
        try:
            while self._wanted is not None:
                (row, piece), self._wanted = self._wanted, None
                await self._show_sample(row, piece)
        finally:
            self._is_following = False

    async def _show_sample(self, row: int, piece: int) -> None:
        view, pane = self.query_one(SampleView), self.query_one("#sample-pane")
        waited = 0
        request = asyncio.create_task(self.session.dataset.sample(row, piece))
        while not (await asyncio.wait({request}, timeout=_PATIENCE_SECONDS))[0]:
            waited += 1
            if self._wanted is not None:
                request.cancel()
                return
            if waited == _ROUNDS_UNTIL_SAID:
                pane.border_title = Content(f"Reading row {fmt.count(row)} …")
                view.show(None, f"row {row} is being read and turned into tokens …")
        try:
            sample = Sample.of(request.result())
        except WorkbenchError as error:
            view.show(None, str(error))
            pane.border_title = Content(f"Row {fmt.count(row)}")
        else:
            self._sample_came(sample)

    def _sample_came(self, sample: Sample) -> None:
        view = self.query_one(SampleView)
        view.show(sample)
        self.query_one("#sample-pane").border_title = Content(f"Row {fmt.count(sample.row)}")
        self.sample_came(sample)
        if view.view == "batch":
            self._load_batch()
        cursor = self.table.cursor
        neighbours = self.table.numbers(cursor + 1, 1) + self.table.numbers(max(cursor - 1, 0), 1)
        self.session.dataset.fetch_ahead(neighbours)

    def sample_came(self, sample: Sample) -> None:
        """Called with every row that is shown."""

    @on(SampleView.TokensNeeded)
    def _tokens_needed(self, message: SampleView.TokensNeeded) -> None:
        self._load_tokens(message.row, message.piece, message.token)

    @work(group="tokens", exclusive=True, exit_on_error=False)
    async def _load_tokens(self, row: int, piece: int, token: int) -> None:
        view = self.query_one(SampleView)
        try:
            answer = await self.session.dataset.tokens(row, max(token - _WINDOW // 2, 0), piece)
        except WorkbenchError as error:
            self.say(str(error), problem=True)
            return
        if view.sample is not None and (view.sample.row, view.sample.piece) == (row, piece):
            view.take_window(answer)

    @on(SampleView.ViewChanged)
    def _view_changed(self, message: SampleView.ViewChanged) -> None:
        if message.view == "batch":
            self._load_batch()

    @work(group="batch", exclusive=True, exit_on_error=False)
    async def _load_batch(self) -> None:
        size = min(self.session.draft.config.training.per_device_train_batch_size, _MAX_SEQUENCES)
        rows = self.table.numbers(self.table.cursor, size)
        sample = self.query_one(SampleView).sample
        piece = sample.piece if sample is not None and sample.row in rows[:1] else 0
        try:
            batch = await self.session.dataset.batch(rows, piece, size)
        except WorkbenchError as error:
            self.say(str(error), problem=True)
            return
        self.query_one(SampleView).show_batch(batch)

    # Keys

    def action_view(self, step: int) -> None:
        """Another view of the row."""
        self.query_one(SampleView).next_view(step)

    def action_change(self, direction: int) -> None:
        """To the next change of the mask."""
        self.query_one(SampleView).next_change(direction)

    def action_piece(self, step: int) -> None:
        """To another of the pieces that the row is split into."""
        sample = self.query_one(SampleView).sample
        if sample is None or sample.num_pieces == 1:
            self.say("the row is one piece; data.truncation = split makes several of a long text")
        elif 0 <= sample.piece + step < sample.num_pieces:
            self.look_at(sample.row, sample.piece + step)
        else:
            self.say(f"this is the {'last' if step > 0 else 'first'} of {fmt.count(sample.num_pieces)} pieces")

    def action_record(self) -> None:
        """The record, and back to the tokens."""
        view = self.query_one(SampleView)
        view.set_view("tokens" if view.view == "record" else "record")

    def action_cutoff(self, direction: int) -> None:
        """Move the cutoff of the length statistics, once they are on the screen."""
        view = self.query_one(SampleView)
        if view.view == "stats":
            self.query_one(LengthChart).move_cutoff(direction)
        else:
            view.set_view("stats")

    def action_difference(self) -> None:
        """To the first token in which training differs from what a chat feeds."""
        if not self.query_one(SampleView).go_to_difference():
            self.say("in this row training and a chat do not differ")

    @work(group="copy", exclusive=True, exit_on_error=False)
    async def action_copy(self) -> None:
        """Copy to the terminal's clipboard (OSC 52)."""
        view = self.query_one(SampleView)
        if view.sample is None:
            self.say("there is no row to copy")
            return
        what = view.copied
        try:
            text = await self.session.dataset.whole(view.sample.row, what, view.sample.piece)
        except WorkbenchError as error:
            self.say(str(error), problem=True)
            return
        self.app.copy_to_clipboard(text[:_MAX_COPIED])
        rest = f"; {fmt.count(len(text) - _MAX_COPIED)} more are too much for a terminal" if text[_MAX_COPIED:] else ""
        self.say(
            f"copied {fmt.count(min(len(text), _MAX_COPIED))} characters: the {what} of row {view.sample.row}{rest}"
        )
