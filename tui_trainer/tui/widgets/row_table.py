"""The rows of a dataset, page by page: only pages and columns that are looked at are ever asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from rich.cells import cell_len, set_cell_size
from textual.binding import Binding, BindingType
from textual.message import Message

from tui_trainer.text import safe_line
from tui_trainer.tui.widgets.cursor_list import CursorList, Parts

PAGE = 64
_MAX_PAGES = 64
_MIN_COLUMN = 8
_COLUMNS_ASKED = 24
_WIDTH_FOR_TRAINED = 90
_FOUND_SHARE = 0.45


@dataclass(frozen=True)
class Found:
    """What was searched for, in a row.

    Attributes:
        column: where it was found.
        text: the text around it.
        start: where in that text it begins.
        end: where it ends.
    """

    column: str
    text: str
    start: int
    end: int


@dataclass(frozen=True)
class RowCells:
    """One row as shown.

    Attributes:
        row: its number in the dataset.
        cells: column name to text.
        num_tokens: its length, None while it is not known.
        num_trained: tokens that count in the loss, None while that is not known.
        flags: short signs of its problems.
        error: why it cannot be read, if so.
        found: what was searched for, if something was.
    """

    row: int
    cells: dict[str, str]
    num_tokens: int | None = None
    num_trained: int | None = None
    flags: str = ""
    error: str = ""
    found: Found | None = None


class RowTable(CursorList):
    """A table over any number of rows; some of them, in any order, may be shown alone."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "columns(-1)", "Columns left", show=False, id="rows-left", tooltip="One column to the left"),
        Binding("right,l", "columns(1)", "Columns right", show=False, id="rows-right", tooltip="One column further"),
    ]
    DEFAULT_CSS = """
    RowTable { min-height: 3; }
    """

    class PageNeeded(Message):
        """Lines `first … end - 1` are looked at and not known yet, in some columns."""

        def __init__(self, first: int, end: int, columns: Sequence[str]) -> None:
            super().__init__()
            self.first, self.end, self.columns = first, end, columns

    class ColumnsScrolled(Message):
        """Other columns are shown, so that the heading has to change."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._columns: Sequence[str] = ()
        self._left = 0
        self._is_selection = False
        self._has_found = False
        self._pages: dict[int, Sequence[RowCells]] = {}
        self._asked: set[int] = set()
        self._stale: set[int] = set()
        self._widths: dict[str, int] = {}
        self._fitted_to: tuple[object, ...] = ()

    def open(
        self,
        columns: Sequence[str],
        num_lines: int,
        *,
        cursor: int = 0,
        is_selection: bool = False,
        found: bool = False,
    ) -> None:
        """Show other rows.

        Args:
            columns: names of the columns.
            num_lines: how many rows are shown, as far as that is known.
            cursor: the line to begin on.
            is_selection: whether the lines are some of the rows, so that their numbers come with them.
            found: whether rows come with what was searched for.
        """
        if columns != self._columns:
            self._columns, self._left = columns, 0
        self._is_selection, self._has_found = is_selection, found
        self._pages.clear()
        self._asked.clear()
        self._stale.clear()
        self._fitted_to = ()
        self.set_num_lines(num_lines, cursor=cursor)
        if num_lines:
            self._page_of(self.cursor)

    def refetch(self) -> None:
        """Ask for all pages anew and show what is known meanwhile, as after the verdict came."""
        self._stale |= set(self._pages)
        self._asked.clear()
        self.refresh()

    def put(self, start: int, rows: Sequence[RowCells]) -> None:
        """Take in a page that was asked for; tells of the row under the cursor if it was not known before."""
        page = start // PAGE
        is_news = self.row is None
        self._asked.discard(page)
        self._stale.discard(page)
        self._pages[page] = rows
        while len(self._pages) > _MAX_PAGES:
            farthest = max(self._pages, key=lambda known: abs(known - page))
            del self._pages[farthest]
        self.refresh()
        if is_news and self._is_selection and self.row is not None:
            self.post_message(self.Highlighted(self, self.cursor))

    @property
    def row(self) -> RowCells | None:
        """The row under the cursor, None while it is not known."""
        return self._row(self.cursor) if self.cursor < self.num_lines else None

    @property
    def row_number(self) -> int | None:
        """Number of the row under the cursor, None while it is not known."""
        if not self._is_selection:
            return self.cursor if self.num_lines else None
        return self.row.row if self.row else None

    def numbers(self, first: int, count: int) -> list[int]:
        """Numbers of the rows from a line on, as far as they are known."""
        lines = range(first, min(first + count, self.num_lines))
        return [found.row for line in lines if (found := self._row(line))] if self._is_selection else list(lines)

    def _row(self, line: int) -> RowCells | None:
        page = self._page_of(line)
        return page[line % PAGE] if page and line % PAGE < len(page) else None

    def _page_of(self, line: int) -> Sequence[RowCells] | None:
        page = line // PAGE
        known = self._pages.get(page)
        end = min((page + 1) * PAGE, self.num_lines)
        is_short = known is not None and len(known) < end - page * PAGE
        if (known is None or is_short or page in self._stale) and page not in self._asked:
            self._asked.add(page)
            self.post_message(self.PageNeeded(page * PAGE, end, self._asked_columns()))
        return known

    def _asked_columns(self) -> Sequence[str]:
        return self._columns[self._left : self._left + _COLUMNS_ASKED]

    def action_columns(self, step: int) -> None:
        """Show columns further left or right."""
        left = min(max(self._left + step, 0), max(len(self._columns) - 1, 0))
        if left != self._left:
            self._left = left
            self._fitted_to = ()
            self.refetch()
            self.post_message(self.ColumnsScrolled())

    # Widths

    def _fitted(self) -> dict[str, int]:
        """Widths of the columns that are visible, fitted to the first known page and to the width of the table."""
        key = (self.size.width, self._left, bool(self._pages))
        if self._fitted_to != key and self._pages:
            self._fitted_to = key
            self._widths = self._fit_columns(next(iter(self._pages.values())))
        return self._widths

    def _fit_columns(self, rows: Sequence[RowCells]) -> dict[str, int]:
        """Widths by how long the texts are, none wider than it needs; columns without room are left out."""
        room = self.size.width - self._digits - 3 - self._right_width - self._found_width
        names = self._columns[self._left : self._left + max(room // (_MIN_COLUMN + 2), 1)]
        wanted = {
            name: max(
                cell_len(safe_line(name[:200])),
                max((cell_len(safe_line(row.cells.get(name, "")[:200])) for row in rows), default=0),
            )
            for name in names
        }
        widths: dict[str, int] = {}
        for position, name in enumerate(sorted(names, key=lambda name: wanted[name])):
            share = max(room // (len(names) - position) - 2, min(_MIN_COLUMN, wanted[name]), 1)
            widths[name] = min(wanted[name], share)
            room -= widths[name] + 2
        return {name: widths[name] for name in names}

    @property
    def _digits(self) -> int:
        longest = max((row.row for page in self._pages.values() for row in page[-1:]), default=0)
        return max(len(str(max(self.num_lines - 1, 0))), len(str(longest)))

    @property
    def _right_width(self) -> int:
        return 18 if self.size.width >= _WIDTH_FOR_TRAINED else 11

    @property
    def _found_width(self) -> int:
        return int(self.size.width * _FOUND_SHARE) if self._has_found else 0

    # Lines

    def line_parts(self, line: int) -> Parts:
        """Number, what was found, cells, tokens, flags."""
        row = self._row(line)
        digits = self._digits
        if row is None:
            return ((f" {line if not self._is_selection else '…':>{digits}}  ", "list--dim"), ("…", "list--dim"))
        parts = [(f" {row.row:>{digits}}  ", "list--dim")]
        if self._has_found:
            parts += self._found_parts(row)
        if row.error:
            parts.append((safe_line(row.error), "list--bad"))
        else:
            for name, width in self._fitted().items():
                parts.append((set_cell_size(safe_line(row.cells.get(name, "")[:400]), width) + "  ", ""))
        room = self.size.width - self._right_width
        return [*_cut_to(parts, room), *self._right_parts(row)]

    def _right_parts(self, row: RowCells) -> Parts:
        parts = [(f"{'' if row.num_tokens is None else row.num_tokens:>6}", "list--dim")]
        if self._right_width > 11:
            parts.append((f" {'' if row.num_trained is None else row.num_trained:>6}", "list--dim"))
        return [*parts, (f" {row.flags:<3}", "list--warn")]

    def _found_parts(self, row: RowCells) -> list[tuple[str, str]]:
        """The text around what was found, that itself marked."""
        found, width = row.found, self._found_width - 2
        if found is None:
            return [(" " * (width + 2), "")]
        column = f"{safe_line(found.column[:16])}: " if found.column else ""
        before = safe_line(found.text[: found.start])
        match = safe_line(found.text[found.start : found.end])
        after = safe_line(found.text[found.end :])
        if cell_len(column + before) > width // 2:
            before = f"…{before[-max(width // 2 - cell_len(column) - 1, 0) :]}"
        pieces = [(column, "list--dim"), (before, ""), (match, "list--match"), (after, "")]
        return [*_cut_to(pieces, width), ("  ", "")]

    def heading(self) -> str:
        """Number, names of the columns, tokens, flags."""
        text = f" {'#':>{self._digits}}  "
        if self._has_found:
            text += set_cell_size("found", self._found_width)
        for name, width in self._fitted().items():
            text += set_cell_size(safe_line(name[:200]), width) + "  "
        more = len(self._columns) - self._left - len(self._fitted())
        room = self.size.width - self._right_width
        note = f" {'← ' if self._left else ''}{f'{more} more →' if more > 0 else ''}".rstrip()
        text = set_cell_size(text, max(room - cell_len(note), 0)) + note
        trained = f" {'train':>6}" if self._right_width > 11 else ""
        return f"{set_cell_size(text, max(room, 0))}{'tok':>6}{trained} ⚑"


def _cut_to(parts: Sequence[tuple[str, str]], room: int) -> list[tuple[str, str]]:
    """Pieces of a line cut or filled to a width."""
    cut: list[tuple[str, str]] = []
    for text, style in parts:
        width = min(cell_len(text), room)
        cut.append((text if cell_len(text) <= room else set_cell_size(text, max(room, 0)), style))
        room -= width
    return [*cut, (" " * max(room, 0), "")]


def row_cells(item: dict[str, Any]) -> RowCells:
    """A row of the data worker's `rows` answer."""
    tokens, trained, found = item.get("num_tokens"), item.get("num_trained"), item.get("found")
    return RowCells(
        int(item.get("row", 0)),
        {str(name): str(text) for name, text in (item.get("cells") or {}).items()},
        tokens if isinstance(tokens, int) else None,
        trained if isinstance(trained, int) else None,
        "".join(dict.fromkeys(FLAGS.get(str(code), "•") for code in item.get("problems") or ()))[:3],
        str(item.get("error") or ""),
        Found(str(found["column"]), str(found["text"]), int(found["start"]), int(found["end"])) if found else None,
    )


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
    "template_not_prefix": "≠",
}
"""One sign a problem code; others show as •."""
