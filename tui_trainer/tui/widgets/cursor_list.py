"""A list of lines with a cursor, drawn line by line; base of the field list, the row table and the token grid.

Only what is visible is ever asked for, so that a list of a million lines costs as much as one of ten.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Click
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from tui_trainer.tui.widgets.scrolling import set_content_size

Parts = Sequence[tuple[str, str]]
"""Pieces of a line: text and the component class of its style ("" for the plain one)."""


class CursorList(ScrollView, can_focus=True):
    """Lines `0 … num_lines - 1` with one under the cursor. Subclasses say what a line looks like."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False, id="list-up", tooltip="One line up"),
        Binding("down,j", "move(1)", "Down", show=False, id="list-down", tooltip="One line down"),
        Binding("pageup", "page(-1)", "Page up", show=False, id="list-page-up", tooltip="One page up"),
        Binding("pagedown", "page(1)", "Page down", show=False, id="list-page-down", tooltip="One page down"),
        Binding("g,home", "jump(0)", "First", show=False, id="list-first", tooltip="To the first line"),
        Binding("G,end", "jump(-1)", "Last", show=False, id="list-last", tooltip="To the last line"),
        Binding(
            "enter", "choose", "Open", show=False, id="list-choose", tooltip="Open or edit what is under the cursor"
        ),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "list--cursor",
        "list--cursor-blurred",
        "list--dim",
        "list--strong",
        "list--accent",
        "list--good",
        "list--bad",
        "list--warn",
        "list--head",
        "list--match",
    }
    DEFAULT_CSS = """
    CursorList {
        height: 1fr;
        scrollbar-size-vertical: 1;
        scrollbar-size-horizontal: 1;
        overflow-x: hidden;
        & .list--cursor { background: $block-cursor-background; color: $block-cursor-foreground; }
        & .list--cursor-blurred { background: $block-cursor-blurred-background; }
        & .list--dim { color: $text-disabled; }
        & .list--strong { color: $text; text-style: bold; }
        & .list--accent { color: $accent; }
        & .list--good { color: $success; }
        & .list--bad { color: $error; }
        & .list--warn { color: $warning; }
        & .list--head { color: $primary; text-style: bold; }
        & .list--match { color: $warning; text-style: bold reverse; }
    }
    """

    class Highlighted(Message):
        """The cursor moved to another line."""

        def __init__(self, control: CursorList, line: int) -> None:
            super().__init__()
            self.line = line
            self._control = control

        @property
        def control(self) -> CursorList:
            """The list."""
            return self._control

    class Chosen(Highlighted):
        """Enter was pressed on a line."""

    def __init__(self, *, id: str | None = None, classes: str | None = None) -> None:
        super().__init__(id=id, classes=classes)
        self.num_lines = 0
        self.cursor = 0

    def line_parts(self, line: int) -> Parts:
        """The pieces of a line."""
        raise NotImplementedError

    def heading(self) -> str:
        """What stands above the lines, drawn by a `Heading`."""
        return ""

    def is_selectable(self, line: int) -> bool:  # noqa: ARG002 - lists that have headings look at it
        """Whether the cursor may stand on a line."""
        return True

    def set_num_lines(self, num_lines: int, *, cursor: int | None = None) -> None:
        """Change the number of lines; the cursor stays where it can."""
        self.num_lines = num_lines
        set_content_size(self, Size(max(self.size.width, 1), num_lines))
        self._place(self.cursor if cursor is None else cursor, tell=False)
        self.refresh()
        # a list that was empty until now can scroll only after the next layout
        self.call_after_refresh(self._show_cursor)

    def render_line(self, y: int) -> Strip:
        """One visible line."""
        width = self.size.width
        line = y + self.scroll_offset.y
        if line >= self.num_lines:
            return Strip.blank(width, self.rich_style)
        ground = self._ground(line)
        segments = [
            Segment(text, ground + self._part_style(name) if name else ground) for text, name in self.line_parts(line)
        ]
        return Strip(segments).adjust_cell_length(width, ground)

    def _ground(self, line: int) -> Style:
        if line != self.cursor or not self.is_selectable(line):
            return self.rich_style
        name = "list--cursor" if self.has_focus else "list--cursor-blurred"
        return self.rich_style + self.get_component_rich_style(name, partial=True)

    def _part_style(self, name: str) -> Style:
        return self.get_component_rich_style(name, partial=True)

    def refresh_line(self, line: int) -> None:
        """Draw one line anew."""
        self.refresh(Region(0, line - self.scroll_offset.y, self.size.width, 1))

    def move_cursor(self, line: int) -> None:
        """Put the cursor on a line and tell."""
        self._place(line, tell=True)

    def _place(self, line: int, *, tell: bool) -> None:
        before = self.cursor
        self.cursor = self._nearest(min(max(line, 0), max(self.num_lines - 1, 0)), 1 if line >= before else -1)
        self.refresh_line(before)
        self.refresh_line(self.cursor)
        self._show_cursor()
        if tell and self.num_lines:
            self.post_message(self.Highlighted(self, self.cursor))

    def _nearest(self, line: int, direction: int) -> int:
        """The nearest line the cursor may stand on, first in `direction`, then the other way."""
        for step in (direction, -direction):
            at = line
            while 0 <= at < self.num_lines:
                if self.is_selectable(at):
                    return at
                at += step
        return line

    def _show_cursor(self) -> None:
        height = self.scrollable_content_region.height
        top = self.scroll_offset.y
        if self.cursor < top or self.cursor < 2:
            self.scroll_to(y=0 if self.cursor < 2 else self.cursor, animate=False, immediate=True)
        elif height and self.cursor >= top + height:
            self.scroll_to(y=self.cursor - height + 1, animate=False, immediate=True)

    def action_move(self, step: int) -> None:
        """Move the cursor by some lines."""
        self.move_cursor(self.cursor + step)

    def action_page(self, step: int) -> None:
        """Move the cursor by a page."""
        self.move_cursor(self.cursor + step * max(self.scrollable_content_region.height - 1, 1))

    def action_jump(self, line: int) -> None:
        """Put the cursor on the first (0) or last (-1) line."""
        self.move_cursor(self.num_lines - 1 if line < 0 else line)

    def action_choose(self) -> None:
        """Open what is under the cursor."""
        if self.num_lines:
            self.post_message(self.Chosen(self, self.cursor))

    def on_click(self, event: Click) -> None:
        """A click moves the cursor, a second one opens."""
        line = event.y + self.scroll_offset.y
        if line < self.num_lines and self.is_selectable(line):
            is_same = line == self.cursor
            self.move_cursor(line)
            if is_same:
                self.action_choose()

    def on_resize(self) -> None:
        """Keep the width of the virtual size and the cursor in view."""
        self.virtual_size = Size(max(self.size.width, 1), self.num_lines)
        self._show_cursor()
        self.refresh()

    def on_focus(self) -> None:
        """Show the cursor bright."""
        self.refresh_line(self.cursor)

    def on_blur(self) -> None:
        """Show the cursor dim."""
        self.refresh_line(self.cursor)


class Heading(Widget):
    """The line above a list; it does not scroll with it.

    Args:
        of: the list below.
    """

    DEFAULT_CSS = "Heading { height: 1; background: $surface; color: $primary; text-style: bold; }"

    def __init__(self, of: CursorList) -> None:
        super().__init__()
        self._list = of

    def render_line(self, y: int) -> Strip:
        """The heading as the list words it now."""
        text = self._list.heading() if y == 0 else ""
        return Strip([Segment(text, self.rich_style)]).adjust_cell_length(self.size.width, self.rich_style)
