"""The rows of a dataset, page by page: only pages that are looked at are ever asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rich.cells import cell_len, set_cell_size
from textual.message import Message

from tui_trainer.text import safe_line
from tui_trainer.tui.widgets.cursor_list import CursorList, Parts

PAGE = 64
_MAX_PAGES = 64
_MIN_COLUMN = 8


@dataclass(frozen=True)
class RowCells:
    """One row as shown.

    Attributes:
        row: its number in the dataset.
        cells: column name to text.
        num_tokens: its length, None while it is not known.
        flags: short signs of its problems.
    """

    row: int
    cells: dict[str, str]
    num_tokens: int | None = None
    flags: str = ""


class RowTable(CursorList):
    """A table over any number of rows."""

    DEFAULT_CSS = """
    RowTable { min-height: 3; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = set()

    class PageNeeded(Message):
        """Rows `start … stop - 1` are looked at and not known yet."""

        def __init__(self, start: int, stop: int) -> None:
            super().__init__()
            self.first, self.end = start, stop

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._columns: Sequence[str] = ()
        self._pages: dict[int, Sequence[RowCells]] = {}
        self._asked: set[int] = set()
        self._widths: dict[str, int] = {}
        self._fitted_to = 0

    def open(self, columns: Sequence[str], num_rows: int) -> None:
        """Show another dataset."""
        self._columns = columns
        self._pages.clear()
        self._asked.clear()
        self._fitted_to = 0
        self.set_num_lines(num_rows, cursor=0)
        if num_rows:
            self._page_of(0)

    def forget(self) -> None:
        """Ask for all pages anew, as after the format changed."""
        self._pages.clear()
        self._asked.clear()
        self.refresh()

    def put(self, start: int, rows: Sequence[RowCells]) -> None:
        """Take in a page that was asked for."""
        page = start // PAGE
        self._asked.discard(page)
        self._pages[page] = rows
        while len(self._pages) > _MAX_PAGES:
            farthest = max(self._pages, key=lambda known: abs(known - page))
            del self._pages[farthest]
        self.refresh()

    @property
    def row(self) -> RowCells | None:
        """The row under the cursor, None while it is not known."""
        return self._row(self.cursor) if self.cursor < self.num_lines else None

    def _row(self, line: int) -> RowCells | None:
        page = self._page_of(line)
        return page[line % PAGE] if page and line % PAGE < len(page) else None

    def _page_of(self, line: int) -> Sequence[RowCells] | None:
        page = line // PAGE
        if page not in self._pages and page not in self._asked:
            self._asked.add(page)
            self.post_message(self.PageNeeded(page * PAGE, min((page + 1) * PAGE, self.num_lines)))
        return self._pages.get(page)

    def _width_of(self, name: str) -> int:
        """Width of a column, fitted to what the first known page holds and to the width of the table."""
        if self._fitted_to != self.size.width and self._pages:
            self._fitted_to = self.size.width
            self._widths = self._fit_columns(next(iter(self._pages.values())))
        return self._widths.get(name, _MIN_COLUMN)

    def _fit_columns(self, rows: Sequence[RowCells]) -> dict[str, int]:
        """Widths by how long the texts are, none wider than it needs."""
        room = self.size.width - len(str(self.num_lines)) - 13
        wanted = {
            name: max(cell_len(name), max((cell_len(row.cells.get(name, "")[:200]) for row in rows), default=0))
            for name in self._columns
        }
        widths: dict[str, int] = {}
        names = sorted(self._columns, key=lambda name: wanted[name])
        for position, name in enumerate(names):
            share = max(room // (len(names) - position) - 2, _MIN_COLUMN)
            widths[name] = min(wanted[name], share)
            room -= widths[name] + 2
        return widths

    def line_parts(self, line: int) -> Parts:
        """Number, cells, tokens, flags."""
        row = self._row(line)
        digits = len(str(max(self.num_lines - 1, 0)))
        if row is None:
            return ((f" {line:>{digits}}  ", "list--dim"), ("…", "list--dim"))
        parts = [(f" {row.row:>{digits}}  ", "list--dim")]
        for name in self._columns:
            text = safe_line(row.cells.get(name, "")[:400])
            parts.append((set_cell_size(text, self._width_of(name)) + "  ", ""))
        used = sum(cell_len(text) for text, _ in parts)
        tokens = f"{row.num_tokens:>6}" if row.num_tokens is not None else " " * 6
        parts.append((" " * max(self.size.width - used - 11, 0), ""))
        parts.append((tokens, "list--dim"))
        parts.append((f" {row.flags:<3}", "list--warn"))
        return parts

    def heading(self) -> str:
        """Number, names of the columns, tokens, flags."""
        digits = len(str(max(self.num_lines - 1, 0)))
        text = f" {'#':>{digits}}  "
        for name in self._columns:
            text += set_cell_size(safe_line(name), self._width_of(name)) + "  "
        return set_cell_size(text, max(self.size.width - 11, 0)) + f"{'tok':>6} ⚑"


def row_cells(item: dict[str, Any]) -> RowCells:
    """A row of the data worker's `rows` answer."""
    cells = {str(name): str(text) for name, text in (item.get("cells") or {}).items()}
    tokens = item.get("num_tokens")
    problems = item.get("problems") or ()
    return RowCells(
        int(item.get("row", 0)),
        cells,
        tokens if isinstance(tokens, int) else None,
        "".join(dict.fromkeys(FLAGS.get(_code(problem), "•") for problem in problems))[:3],
    )


def _code(problem: Any) -> str:
    return str(problem.get("code")) if isinstance(problem, dict) else str(problem)


FLAGS = {
    "no_trained_tokens": "∅",
    "answer_cut": "✂",
    "truncated": "✂",
    "too_long_dropped": "✂",
    "empty_answer": "○",
    "duplicate": "≡",
    "double_bos": "B",
    "no_end_of_turn": "E",
    "parse_error": "✘",
    "schema": "✘",
    "template_error": "✘",
}
"""One sign a problem code; others show as •."""
