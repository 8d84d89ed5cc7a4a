"""Long text in blocks of one style each, wrapped once and drawn line by line; for turns and records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from rich.cells import cell_len, chop_cells
from rich.segment import Segment
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui_trainer.text import safe
from tui_trainer.tui.widgets.scrolling import set_content_size

Block = tuple[str, str]
"""A text and the component class of its style ("" for the plain one)."""


class TextPane(ScrollView, can_focus=True):
    """Shows blocks of text, each beginning on a line of its own."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "scroll_down", "Down", show=False, id="text-down", tooltip="One line down"),
        Binding("k", "scroll_up", "Up", show=False, id="text-up", tooltip="One line up"),
        Binding("g", "scroll_home", "First", show=False, id="text-first", tooltip="To the beginning"),
        Binding("G", "scroll_end", "Last", show=False, id="text-last", tooltip="To the end"),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "text--head",
        "text--user",
        "text--system",
        "text--tool",
        "text--trained",
        "text--trained-head",
        "text--muted",
        "text--warn",
        "text--bad",
    }
    DEFAULT_CSS = """
    TextPane {
        height: 1fr;
        padding: 0 1;
        scrollbar-size-vertical: 1;
        overflow-x: hidden;
        & .text--head { color: $foreground; text-style: bold; }
        & .text--user { color: $primary; text-style: bold; }
        & .text--system { color: $warning; text-style: bold; }
        & .text--tool { color: $secondary; text-style: bold; }
        & .text--trained-head { color: $success; text-style: bold; }
        & .text--trained { color: #d9ffe6; }
        & .text--muted { color: $text-disabled; }
        & .text--warn { color: $warning; text-style: italic; }
        & .text--bad { color: $error; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._blocks: Sequence[Block] = ()
        self._lines: list[Block] = []

    def show(self, blocks: Sequence[Block]) -> None:
        """Show other blocks, from their beginning."""
        self._blocks = blocks
        self._wrap()
        self.scroll_home(animate=False, immediate=True)

    def on_resize(self) -> None:
        """Wrap for the new width."""
        self._wrap()

    def _wrap(self) -> None:
        width = max(self.scrollable_content_region.width, 8)
        self._lines = [(line, style) for text, style in self._blocks for line in wrapped(safe(text), width)]
        set_content_size(self, Size(width, len(self._lines)))
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One visible line."""
        width, line = self.scrollable_content_region.width, y + self.scroll_offset.y
        if line >= len(self._lines):
            return Strip.blank(width, self.rich_style)
        text, name = self._lines[line]
        style = self.rich_style + self.get_component_rich_style(name, partial=True) if name else self.rich_style
        return Strip([Segment(text, style)]).adjust_cell_length(width, self.rich_style)


def wrapped(text: str, width: int) -> Iterator[str]:
    """The lines of a text, long ones broken at a blank where there is one, else anywhere."""
    for line in text.expandtabs(4).split("\n"):
        rest = line
        while cell_len(rest) > width:
            piece = rest[:width] if rest[:width].isascii() else chop_cells(rest[:width], width)[0]
            blank = piece.rfind(" ")
            cut = blank + 1 if blank > width // 3 else len(piece)
            yield rest[:cut].rstrip()
            rest = rest[cut:]
        yield rest
