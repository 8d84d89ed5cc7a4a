"""Keys to find rows by: search, filters, order, jumps; the Data screen builds on it."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType

from tui_trainer.errors import WorkbenchError
from tui_trainer.tui import format as fmt
from tui_trainer.tui.rows_query import ORDER_WORDS, lengths_text, parse_lengths, parse_search
from tui_trainer.tui.screens.rows import RowsScreen
from tui_trainer.tui.widgets.ask import AskText, Pick
from tui_trainer.wire.row_query import ANY_PROBLEM, RowQuery


class BrowsingScreen(RowsScreen):
    """A screen on which rows are searched, filtered, sorted and jumped to."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "search", "Search", key_display="/", id="data-search", tooltip="Only rows that hold a text"),
        Binding("greater_than_sign", "match(1)", "Next match", show=False, id="data-next-match", tooltip="Next match"),
        Binding("less_than_sign", "match(-1)", "Match back", show=False, id="data-match-back", tooltip="Match before"),
        Binding("b", "lengths", "Lengths", show=False, id="data-lengths", tooltip="Only rows of some length in tokens"),
        Binding("s", "sort", "Sort", id="data-sort", tooltip="Order of the rows: longest first, most trained first, …"),
        Binding("a", "all_rows", "All rows", id="data-all", tooltip="All rows again, in their own order"),
        Binding("number_sign,colon", "row", "Row", show=False, id="data-row", tooltip="To a row by its number"),
        Binding("x", "stop", "Stop", show=False, id="data-stop", tooltip="Stop the search, or the judging of the set"),
        Binding("e", "problem", "Problem", show=False, id="data-problem", tooltip="Next row with a problem"),
    ]

    def action_search(self) -> None:
        """Ask for a text, and show the rows that hold it."""
        shown = self.query_shown
        current = f"/{shown.text}/" if shown.is_regex else shown.text
        about = (
            "Shows the rows that have it in some value, nested ones too. /…/ is a regular expression. Capitals count "
            "if there are any. Empty: whatever the text."
        )
        self.app.push_screen(AskText("Search the rows", current, about, parse_search), self._search)

    def _search(self, text: str | None) -> None:
        if text is not None:
            wanted, is_regex = parse_search(text)
            self.show_only(replace(self.query_shown, text=wanted, is_regex=is_regex))

    def action_match(self, direction: int) -> None:
        """To the next match of the last search, whatever rows are shown."""
        if not self.last_search.text:
            self.say("nothing was searched for yet; / searches")
        elif self.query_shown.text:
            self.table.action_move(direction)
        else:
            self._go_to_match(direction)

    @work(group="match", exclusive=True, exit_on_error=False)
    async def _go_to_match(self, direction: int) -> None:
        row = self.table.row_number
        try:
            found = await self.session.dataset.find(self.last_search, -1 if row is None else row, direction)
        except WorkbenchError as error:
            self.say(str(error), problem=True)
            return
        if isinstance(found.get("row"), int):
            self.go_to_row(found["row"])
        else:
            self.say("no further match" + ("" if found.get("is_complete") else " in what was searched"))

    def action_lengths(self) -> None:
        """Ask for a range of lengths, and show its rows."""
        if not self._is_judged():
            return
        shown = self.query_shown
        current = lengths_text(shown.min_tokens, shown.max_tokens).replace("\u202f", "")
        about = "Tokens of a row before anything is cut: 100..200, 1024.. or ..50. Empty: whatever the length."
        self.app.push_screen(AskText("Rows of some length", current, about, parse_lengths), self._filter_lengths)

    def _filter_lengths(self, text: str | None) -> None:
        if text is not None:
            least, most = parse_lengths(text)
            self.show_only(replace(self.query_shown, min_tokens=least, max_tokens=most))

    def action_sort(self) -> None:
        """Ask for an order."""
        if self._is_judged():
            options = [(name, words, "") for name, words in ORDER_WORDS.items()]
            self.app.push_screen(Pick("Order of the rows", options, self.query_shown.order), self._sort)

    def _sort(self, order: str | None) -> None:
        if order is not None:
            self.show_only(replace(self.query_shown, order=order))

    def _is_judged(self) -> bool:
        if self.session.dataset.state.verdict is None:
            self.say("lengths and problems are known once the whole set is judged; i judges it")
            return False
        return True

    def action_all_rows(self) -> None:
        """Show all rows; the cursor stays on its row."""
        self.show_all_rows()

    def action_row(self) -> None:
        """Ask for the number of a row, and go there."""
        about = f"The first row is 0, the last {fmt.count(max(self.num_rows - 1, 0))}."
        self.app.push_screen(AskText("To row", "", about, self._row_being_typed), self._row_typed)

    def _row_being_typed(self, text: str) -> None:
        """Get the row while its number is typed, so that it is there when the number is taken.

        Raises:
            ValueError: it is no number.
        """
        if (row := _row_number(text)) < self.num_rows:
            self.session.dataset.fetch_ahead([row])

    def _row_typed(self, text: str | None) -> None:
        if text:
            row = _row_number(text)
            if row >= self.num_rows:
                self.say(f"there is no row {row}; the last is {self.num_rows - 1}", problem=True)
                return
            self.go_to_row(row)

    def action_problem(self) -> None:
        """To the next row that the verdict names."""
        if not self._is_judged():
            return
        self._go_to_problem(self.table.row_number or 0)

    @work(group="match", exclusive=True, exit_on_error=False)
    async def _go_to_problem(self, row: int) -> None:
        query, dataset = RowQuery(problem=ANY_PROBLEM), self.session.dataset
        try:
            if not await dataset.select(query, lambda _: None):
                self.say("no row has a problem")
                return
            found = await dataset.find(query, row, 1)
            if found.get("row") is None:
                # round to the first one
                found = await dataset.find(query, -1, 1)
        except WorkbenchError as error:
            self.say(str(error), problem=True)
            return
        self.go_to_row(int(found["row"]))

    def action_stop(self) -> None:
        """Stop the search, else the judging."""
        if self.is_searching:
            self.stop_searching()
            self.say("the search was stopped; the rows found so far are shown")
        elif self.session.dataset.stop_judging():
            self.say("the judging was stopped; i begins it anew")
        else:
            self.say("nothing is going on")

    def action_leave_field(self) -> None:
        """Back to the rows; from there, back to all of them."""
        if self.table.has_focus and not self.query_shown.is_all:
            self.action_all_rows()
        else:
            super().action_leave_field()


def _row_number(text: str) -> int:
    """A row number that was typed.

    Raises:
        ValueError: it is none.
    """
    digits = text.strip().replace("\u202f", "").replace(",", "").replace(" ", "")
    if not digits.isdecimal():
        raise ValueError("is no row number")
    return int(digits)
