"""The table of a dataset's rows: its pages, and selections of rows; `browsing` builds on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textual import on, work
from textual.content import Content

from tui_trainer.errors import WorkbenchError
from tui_trainer.text import safe_line
from tui_trainer.tui import format as fmt
from tui_trainer.tui.rows_query import query_words
from tui_trainer.tui.screens.opening import OpeningScreen
from tui_trainer.tui.session import Session
from tui_trainer.tui.widgets.row_table import RowTable, row_cells
from tui_trainer.wire.row_query import RowQuery


class RowsScreen(OpeningScreen):
    """A screen with a table of rows, `RowTable`, in a pane `#rows-pane`.

    Attributes:
        query_shown: which rows are shown.
        last_search: the text that was searched for last.
    """

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.query_shown = RowQuery()
        self.last_search = RowQuery()
        self._column_names: Sequence[str] = ()
        self._search_progress = ""
        self._counted: tuple[int | None, int] = (None, 0)

    @property
    def table(self) -> RowTable:
        """The table of rows."""
        return self.query_one(RowTable)

    @property
    def row_looked_at(self) -> int:
        """The row under the cursor."""
        return self.table.row_number or 0

    # What is shown

    def open_rows(self, columns: Sequence[str], *, row: int = 0) -> None:
        """Show all rows of a dataset that was opened.

        Args:
            columns: names of its columns.
            row: the row to begin on.
        """
        self._column_names = columns
        self.query_shown = RowQuery()
        self.workers.cancel_group(self, "select")
        self._search_progress = ""
        self.table.open(columns, self.num_rows, cursor=row)
        self.show_rows_title()

    def grow_rows(self) -> None:
        """Rows were counted on."""
        state = self.session.dataset.state
        if (counted := (state.num_rows, state.num_rows_at_least)) != self._counted:
            self._counted = counted
            if self.query_shown.is_all:
                self.table.set_num_lines(self.num_rows)
            self.show_rows_title()

    @property
    def num_rows(self) -> int:
        """Rows of the dataset, as far as they are counted."""
        state = self.session.dataset.state
        return state.num_rows_at_least if state.num_rows is None else state.num_rows

    def show_rows_title(self) -> None:
        """Say which rows are shown, and how many."""
        pane = self.query_one("#rows-pane")
        pane.set_class(not self.query_shown.is_all, "-filtered")
        if self.query_shown.is_all:
            pane.border_title = Content(safe_line(f"Rows  {self._split_words()}"))
            pane.border_subtitle = ""
        else:
            found = f"{fmt.count(self.table.num_lines)} of {self._count_words()}"
            words = filter(None, (found, query_words(self.query_shown), self._search_progress))
            pane.border_title = Content(safe_line(f"▼ Rows  {' · '.join(words)}"))
            pane.border_subtitle = Content("x stops" if self._search_progress else "a shows all rows")
        for heading in self.query("#rows-pane Heading"):
            heading.refresh()

    def _split_words(self) -> str:
        """The splits of the sources with their rows."""
        state = self.session.dataset.state
        shown = str(state.info.get("split"))
        splits = {shown: "", **state.splits} if shown not in state.splits else state.splits
        return " · ".join(f"{name} {self._count_words() if name == shown else words}" for name, words in splits.items())

    def _count_words(self) -> str:
        return (
            fmt.count(self.num_rows)
            if self.session.dataset.state.num_rows is not None
            else (f"at least {fmt.count(self.num_rows)} …")
        )

    # Pages

    @on(RowTable.PageNeeded)
    def _page_needed(self, message: RowTable.PageNeeded) -> None:
        self._load_page(message.first, message.end, message.columns)

    @on(RowTable.ColumnsScrolled)
    def _columns_scrolled(self) -> None:
        self.show_rows_title()

    @work(group="page", exit_on_error=False)
    async def _load_page(self, start: int, stop: int, columns: Sequence[str]) -> None:
        query = self.query_shown
        try:
            rows = await self.session.dataset.rows(start, stop, columns, query)
        except WorkbenchError as error:
            self.say(str(error), problem=True)
            return
        if query == self.query_shown:
            self.table.put(start, [row_cells(item) for item in rows])
            self.show_rows_title()

    # Selections

    def show_only(self, query: RowQuery) -> None:
        """Show the rows of a query; the row under the cursor stays under it if it is among them and not sorted."""
        table, anchor = self.table, self.table.row_number
        if query == self.query_shown:
            return
        self.workers.cancel_group(self, "select")
        self.query_shown, self._search_progress = query, ""
        if query.text:
            self.last_search = RowQuery(query.text, query.is_regex)
        if query.is_all:
            table.open(self._column_names, self.num_rows, cursor=anchor or 0)
            table.move_cursor(anchor or 0)
        else:
            table.open(self._column_names, 0, is_selection=True, found=bool(query.text))
            self._select(query, None if query.order else anchor)
        self.show_rows_title()
        table.focus()

    @work(group="select", exclusive=True, exit_on_error=False)
    async def _select(self, query: RowQuery, anchor: int | None) -> None:
        def on_progress(item: dict[str, Any]) -> None:
            done, total = item.get("done"), item.get("total")
            if query == self.query_shown and isinstance(done, int):
                share = f"{done / total:.0%}" if isinstance(total, int) and total else f"{fmt.count(done)} rows"
                self._search_progress = f"searching, {share} …"
                self._grow_selection(int(item.get("found") or 0) if not query.order else 0)

        try:
            found = await self.session.dataset.select(query, on_progress)
            place = {} if anchor is None or not found else await self.session.dataset.find(query, anchor, 0)
        except WorkbenchError as error:
            self._search_progress = ""
            self.say(str(error), problem=True)
            self.show_rows_title()
            return
        self._search_progress = ""
        self._grow_selection(found)
        if isinstance(place.get("line"), int) and self.table.cursor == 0:
            self.table.move_cursor(place["line"])
        if not found:
            self.say(f"no row: {query_words(query)}")

    def _grow_selection(self, found: int) -> None:
        if found != self.table.num_lines:
            self.table.set_num_lines(found)
        self.show_rows_title()

    @property
    def is_searching(self) -> bool:
        """Whether rows are being searched."""
        return bool(self._search_progress)

    def go_to_row(self, row: int) -> None:
        """Put the cursor on a row; show all rows if it is not known to be among those shown."""
        if self.query_shown.is_all:
            self.table.move_cursor(row)
        else:
            self._go_to_row_of_selection(row)

    @work(group="match", exclusive=True, exit_on_error=False)
    async def _go_to_row_of_selection(self, row: int) -> None:
        try:
            found = await self.session.dataset.find(self.query_shown, row, 0)
        except WorkbenchError as error:
            self.say(str(error), problem=True)
            return
        if isinstance(found.get("line"), int):
            self.table.move_cursor(found["line"])
        else:
            self.show_all_rows()
            self.table.move_cursor(row)

    def show_all_rows(self) -> None:
        """Show all rows; the cursor stays on its row."""
        self.show_only(RowQuery())

    def stop_searching(self) -> None:
        """End the search; what was found so far stays."""
        self.workers.cancel_group(self, "select")
        self._search_progress = ""
        self.show_rows_title()
