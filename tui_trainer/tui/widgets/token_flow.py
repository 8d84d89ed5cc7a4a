"""The text of a row with the mask laid over its tokens: what is trained stands out by colour, weight and underline.

Of a long row a window of tokens is there at a time; whoever shows it is asked for another when the cursor leaves it.
The lines are laid out a slice at a time, so that keys are answered meanwhile.
"""

from __future__ import annotations

import time
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui_trainer.text import safe
from tui_trainer.tui.widgets.sample import Sample
from tui_trainer.tui.widgets.scrolling import set_content_size

_SLICE_SECONDS = 0.008
_PAUSE_SECONDS = 0.02
_NEWLINE = "⏎"


class TokenFlow(ScrollView, can_focus=True):
    """Tokens flowing over lines, one under the cursor."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "token(-1)", "Previous token", show=False, id="token-previous", tooltip="Previous token"),
        Binding("right,l", "token(1)", "Next token", show=False, id="token-next", tooltip="Next token"),
        Binding("up,k", "line(-1)", "Up", show=False, id="token-up", tooltip="One line up"),
        Binding("down,j", "line(1)", "Down", show=False, id="token-down", tooltip="One line down"),
        Binding("pageup", "page(-1)", "Page up", show=False, id="token-page-up", tooltip="One page up"),
        Binding("pagedown", "page(1)", "Page down", show=False, id="token-page-down", tooltip="One page down"),
        Binding("home,g", "first", "First token", show=False, id="token-first", tooltip="To the first token"),
        Binding("end,G", "last", "Last token", show=False, id="token-last", tooltip="To the last token"),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "token--trained",
        "token--trained-odd",
        "token--masked",
        "token--masked-odd",
        "token--weighted",
        "token--special",
        "token--added",
        "token--differs",
        "token--cursor",
    }
    DEFAULT_CSS = """
    TokenFlow {
        height: 1fr;
        scrollbar-size-vertical: 1;
        overflow-x: hidden;
        & .token--trained { background: #1c5a38; color: #d9ffe6; text-style: bold underline; }
        & .token--trained-odd { background: #2a7049; color: #d9ffe6; text-style: bold underline; }
        & .token--masked { color: $foreground 65%; }
        & .token--masked-odd { color: $foreground 65%; background: $surface; }
        & .token--weighted { background: #1b4f66; color: #d9f2ff; text-style: underline; }
        & .token--special { color: $accent; }
        & .token--added { color: $warning; text-style: italic; }
        & .token--differs { color: $error; text-style: reverse bold; }
        & .token--cursor { background: $primary; color: $background; text-style: bold; }
    }
    """

    class Highlighted(Message):
        """The cursor moved to another token."""

        def __init__(self, token: int) -> None:
            super().__init__()
            self.token = token

    class WindowNeeded(Highlighted):
        """The cursor is on a token that is not there."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._sample: Sample | None = None
        self._differs: int | None = None
        self._lines: list[list[tuple[int, str]]] = []
        self._starts: list[int] = []
        self._next = 0
        self._layout_run = 0
        self.cursor = 0

    def show(self, sample: Sample | None) -> None:
        """Show a row; the cursor goes to its first trained token, if it has one."""
        self._sample = sample
        self.cursor = 0
        difference = sample.first_difference() if sample else None
        self._differs = difference.token if difference else None
        if sample is not None and sample.num_trained and not sample.is_trained(0):
            self.cursor = sample.next_change(0, 1)
        self._lay_out_anew()

    def take_window(self, sample: Sample) -> None:
        """Show the same row with other tokens; the cursor stays."""
        self._sample = sample
        self._lay_out_anew()

    def on_resize(self) -> None:
        """Lay the lines out for the new width."""
        self._lay_out_anew()

    def _lay_out_anew(self) -> None:
        first = self._sample.first if self._sample else 0
        self._lines, self._starts, self._next = [[]], [first], first
        self._layout_run += 1
        self._extend(self._layout_run)

    def _extend(self, run: int) -> None:
        """Lay out for a slice of time, then let the app breathe."""
        if run != self._layout_run or self._sample is None or not self.size.width:
            self.refresh()
            return
        deadline = time.monotonic() + _SLICE_SECONDS
        sample, width = self._sample, max(self.size.width - 1, 8)
        used = sum(cell_len(piece) for _, piece in self._lines[-1])
        before = self._next
        while self._next < sample.end:
            used = self._place(self._next, sample.text_of(self._next), used, width)
            self._next += 1
            if self._next % 64 == 0 and time.monotonic() > deadline:
                self.set_timer(_PAUSE_SECONDS, lambda: self._extend(run))
                break
        set_content_size(self, Size(self.size.width, len(self._lines)))
        self.refresh()
        if before <= self.cursor < self._next:
            self._show_cursor()
            # a view that got its scroll bar just now can scroll only after the next layout
            self.call_after_refresh(self._show_cursor)

    def _place(self, token: int, text: str, used: int, width: int) -> int:
        """Append a token's text to the lines; returns the cells used of the last line."""
        for number, part in enumerate(safe(text).replace("\t", "→").split("\n")):
            if number:
                self._lines[-1].append((token, _NEWLINE))
                self._new_line(token)
                used = 0
            while part:
                # a token is kept whole where it fits into a line
                is_better_below = used and used + cell_len(part) > width >= cell_len(part)
                fitting = "" if is_better_below else _fitting(part, width - used)
                if not fitting:
                    self._new_line(token)
                    used = 0
                    continue
                self._lines[-1].append((token, fitting))
                used += cell_len(fitting)
                part = part[len(fitting) :]
        if not text:
            self._lines[-1].append((token, "·"))
            used += 1
        return used

    def _new_line(self, token: int) -> None:
        self._lines.append([])
        self._starts.append(token)

    def render_line(self, y: int) -> Strip:
        """One visible line."""
        line = y + self.scroll_offset.y
        width = self.size.width
        if self._sample is None or line >= len(self._lines):
            return Strip.blank(width, self.rich_style)
        base = self.rich_style
        segments = [Segment(piece, base + self.look_of(token)) for token, piece in self._lines[line]]
        return Strip(segments).adjust_cell_length(width, base)

    def look_of(self, token: int) -> Style:
        """How a token is drawn."""
        return self.get_component_rich_style(self._style_of(token), partial=True)

    def _style_of(self, token: int) -> str:
        assert self._sample is not None
        if token == self.cursor:
            return "token--cursor"
        if token == self._differs:
            return "token--differs"
        if weight := self._sample.weight(token):
            return "token--weighted" if weight != 1 else "token--trained-odd" if token % 2 else "token--trained"
        if self._sample.id_of(token) in self._sample.special:
            return "token--special"
        if self._sample.is_added(token):
            return "token--added"
        return "token--masked-odd" if token % 2 else "token--masked"

    def move_cursor(self, token: int) -> None:
        """Put the cursor on a token."""
        if self._sample is None or not self._sample.num_tokens:
            return
        self.cursor = min(max(token, 0), self._sample.num_tokens - 1)
        self._show_cursor()
        self.refresh()
        is_known = self._sample.is_known(self.cursor)
        self.post_message(self.Highlighted(self.cursor) if is_known else self.WindowNeeded(self.cursor))

    def _line_of(self, token: int) -> int:
        low, high = 0, len(self._starts)
        while low < high:
            middle = (low + high) // 2
            if self._starts[middle] <= token:
                low = middle + 1
            else:
                high = middle
        line = max(low - 1, 0)
        while line > 0 and not any(at == token for at, _ in self._lines[line]) and self._starts[line] == token:
            line -= 1
        return line

    def _show_cursor(self) -> None:
        line = self._line_of(self.cursor)
        height, top = self.scrollable_content_region.height, self.scroll_offset.y
        if line < top or (height and line >= top + height):
            self.scroll_to(y=max(line - height // 3, 0), animate=False, immediate=True)

    def action_token(self, step: int) -> None:
        """Move by tokens."""
        self.move_cursor(self.cursor + step)

    def action_line(self, step: int) -> None:
        """Move by lines."""
        line = self._line_of(self.cursor) + step
        if 0 <= line < len(self._lines) and self._lines[line]:
            self.move_cursor(self._lines[line][0][0])
        elif self._sample is not None:
            self.move_cursor(self._sample.end if step > 0 else self._sample.first - 1)

    def action_page(self, step: int) -> None:
        """Move by pages."""
        target = self._line_of(self.cursor) + step * max(self.scrollable_content_region.height - 1, 1)
        if not 0 <= target < len(self._lines) and self._sample is not None:
            self.move_cursor(self._sample.end if target > 0 else self._sample.first - 1)
            return
        line = self._lines[target]
        self.move_cursor(line[0][0] if line else self._starts[target])

    def action_first(self) -> None:
        """To the first token."""
        self.move_cursor(0)

    def action_last(self) -> None:
        """To the last token."""
        self.move_cursor(self._sample.num_tokens - 1 if self._sample else 0)

    def action_difference(self) -> None:
        """To the first token that differs from what a chat feeds."""
        if self._differs is not None:
            self.move_cursor(self._differs)

    def action_change(self, direction: int) -> None:
        """To the next place where trained and untrained tokens meet."""
        if self._sample is not None:
            self.move_cursor(self._sample.next_change(self.cursor, direction))


def _fitting(text: str, room: int) -> str:
    """The longest beginning of `text` that fits into `room` cells."""
    if len(text) <= room and text.isascii():
        return text
    used = 0
    for at, glyph in enumerate(text):
        used += cell_len(glyph)
        if used > room:
            return text[:at]
    return text
