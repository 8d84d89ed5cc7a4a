"""The verdict on the whole set: what is wrong, in how many rows, what to do; from each problem to its rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from tui_trainer.text import safe, safe_line
from tui_trainer.tui import format as fmt
from tui_trainer.tui.feeds.dataset import DatasetFeed, DatasetState
from tui_trainer.tui.verdict_words import progress_words, title, verdict_figures, verdict_text
from tui_trainer.tui.widgets.cursor_list import CursorList, Parts
from tui_trainer.tui.widgets.sheet import Sheet
from tui_trainer.wire.row_query import ANY_PROBLEM


class ProblemList(CursorList):
    """The problems with how many rows have them; the last line stands for all of them together."""

    def __init__(self) -> None:
        super().__init__(id="problems")
        self._problems: Sequence[dict[str, Any]] = ()

    def show(self, problems: Sequence[dict[str, Any]]) -> None:
        """Show other problems."""
        self._problems = problems
        self.set_num_lines(len(problems) + (len(problems) > 1))

    @property
    def problem(self) -> dict[str, Any] | None:
        """The problem under the cursor; None for all of them together."""
        return self._problems[self.cursor] if self.cursor < len(self._problems) else None

    def line_parts(self, line: int) -> Parts:
        """Severity, rows, what it is, the code by which commands know it."""
        if line >= len(self._problems):
            return ((f"{'':>13} any of them", "list--dim"),)
        problem = self._problems[line]
        is_error = problem.get("severity") == "error"
        sign = ("✘", "list--bad") if is_error else ("⚑", "list--warn")
        count = fmt.count(problem.get("count") or 0)
        code = (f"  {safe_line(str(problem.get('code')))}", "list--dim")
        return ((" ", ""), sign, (f"{count:>10}", ""), (f"  {safe_line(title(problem))}", "list--strong"), code)


class VerdictScreen(Sheet[str | None]):
    """A sheet over the screen; its answer is the code of the problem whose rows are to be shown.

    Args:
        feed: the dataset that is judged.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss", "Close", id="verdict-close", tooltip="Close the verdict"),
        Binding("enter", "show_rows", "Show rows", id="verdict-rows", tooltip="Show the rows that have the problem"),
        Binding("y", "copy", "Copy", id="verdict-copy", tooltip="Copy the verdict as text"),
        Binding("x", "stop", "Stop", id="verdict-stop", tooltip="Stop the judging"),
    ]
    DEFAULT_CSS = """
    VerdictScreen {
        & > Vertical { width: 94%; max-width: 110; }
        & ProblemList { height: auto; min-height: 1; max-height: 12; background: $surface; margin: 1 0; }
        & #detail { min-height: 3; max-height: 10; }
    }
    """

    def __init__(self, feed: DatasetFeed) -> None:
        super().__init__()
        self._feed = feed

    def compose(self) -> ComposeResult:
        """Figures, problems, the one under the cursor in full."""
        with Vertical() as sheet:
            sheet.border_title = "Verdict on the whole set"
            yield Static(Content(""), id="figures")
            yield ProblemList()
            yield Static(Content(""), id="detail")

    def on_mount(self) -> None:
        """Follow the judging."""
        self._feed.changed.subscribe(self, self._show)
        self._show(self._feed.state)
        self.query_one(ProblemList).focus()

    def _show(self, state: DatasetState) -> None:
        verdict = state.verdict
        problems = (verdict or {}).get("problems") or ()
        self.query_one(ProblemList).show(problems)
        self.query_one(ProblemList).display = bool(problems)
        sheet = self.query_one(Vertical)
        if verdict is None:
            words = progress_words(state) or (
                "the judging was stopped" if state.is_judging_stopped else "not judged yet"
            )
            self.query_one("#figures", Static).update(Content(safe(str(state.error or words))))
            sheet.border_subtitle = "x stops the judging · esc closes" if state.verdict_progress else "esc closes"
        else:
            self.query_one("#figures", Static).update(Content(safe(verdict_figures(verdict))))
            sheet.border_subtitle = (
                "enter shows its rows · y copies · esc closes" if problems else "y copies · esc closes"
            )
        self._show_detail()

    @on(CursorList.Highlighted, "#problems")
    def _show_detail(self) -> None:
        verdict = self._feed.state.verdict
        if verdict is None:
            text = ""
        elif not verdict.get("problems"):
            text = "Nothing is wrong with it."
        else:
            problem = self.query_one(ProblemList).problem
            text = f"{problem.get('message')}\n{problem.get('remedy')}" if problem else "Rows that have any problem."
        self.query_one("#detail", Static).update(Content(safe(text)))

    @on(CursorList.Chosen, "#problems")
    def action_show_rows(self) -> None:
        """Show the rows of the problem under the cursor."""
        verdict = self._feed.state.verdict
        if verdict is None or not verdict.get("problems"):
            return
        problem = self.query_one(ProblemList).problem
        if problem is not None and not problem.get("rows"):
            self.notify("every row has it", markup=False)
            return
        self.dismiss(str(problem.get("code")) if problem else ANY_PROBLEM)

    def action_stop(self) -> None:
        """Stop the judging."""
        self._feed.stop_judging()

    def action_copy(self) -> None:
        """Copy the verdict to the terminal's clipboard."""
        if self._feed.state.verdict is not None:
            self.app.copy_to_clipboard(verdict_text(self._feed.state.verdict))
            self.notify("copied", markup=False)
