"""A conversation: what was said, by whom, and under each answer how it came about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from tui_trainer.text import safe, safe_line

_ROLE_STYLES = {"system": "$warning", "user": "$primary", "assistant": "$success", "error": "$error"}


@dataclass
class Entry:
    """One turn.

    Attributes:
        role: "system", "user", "assistant", or "error" for what went wrong.
        candidates: the texts; several where several answers were asked for.
        chosen: which of them goes on in the conversation.
        note: how the answer came about: stop reason, tokens, speed.
        is_streaming: whether it is still growing.
    """

    role: str
    candidates: list[str] = field(default_factory=lambda: [""])
    chosen: int = 0
    note: str = ""
    is_streaming: bool = False

    @property
    def text(self) -> str:
        """The text that counts."""
        return self.candidates[self.chosen]


class Transcript(VerticalScroll, can_focus=True):
    """Shows entries; only the last one is drawn again while it grows."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j", "scroll_down", "Down", show=False, id="transcript-down", tooltip="Scroll down"),
        Binding("k", "scroll_up", "Up", show=False, id="transcript-up", tooltip="Scroll up"),
        Binding("g", "scroll_home", "First", show=False, id="transcript-first", tooltip="To the beginning"),
        Binding("G", "scroll_end", "Last", show=False, id="transcript-last", tooltip="To the end"),
    ]
    DEFAULT_CSS = """
    Transcript {
        height: 1fr;
        scrollbar-size-vertical: 1;
        & > Static { width: 100%; height: auto; padding: 0 1 1 1; }
        & > Static.-system, & > Static.-user { background: $surface; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.entries: list[Entry] = []

    def on_mount(self) -> None:
        """Stay at the end while it grows, unless the user scrolled away."""
        self.anchor()

    async def show(self, entries: Sequence[Entry]) -> None:
        """Show another conversation."""
        self.entries = list(entries)
        await self.remove_children()
        await self.mount_all([self._widget(entry) for entry in self.entries])
        self.anchor()

    async def add(self, entry: Entry) -> None:
        """Append a turn."""
        self.entries.append(entry)
        await self.mount(self._widget(entry))
        self.anchor()

    def _widget(self, entry: Entry) -> Static:
        return Static(_content(entry), markup=False, classes=f"-{entry.role}")

    def refresh_last(self) -> None:
        """Draw the last turn again."""
        if self.entries and self.children:
            widget = self.children[-1]
            assert isinstance(widget, Static)
            widget.update(_content(self.entries[-1]))


def _content(entry: Entry) -> Content:
    style = _ROLE_STYLES.get(entry.role, "$text-muted")
    lines = [Content.styled(safe_line(entry.role), f"bold {style}")]
    many = len(entry.candidates) > 1
    for number, text in enumerate(entry.candidates):
        if many:
            mark = "▸" if number == entry.chosen else " "
            lines.append(
                Content.styled(f"{mark} {number + 1}", "$accent" if number == entry.chosen else "$text-disabled")
            )
        cursor = "▏" if entry.is_streaming and (number == len(entry.candidates) - 1 or many) else ""
        lines.append(Content.styled(safe(text) + cursor, "$text" if entry.role != "error" else "$error"))
    if entry.note:
        lines.append(Content.styled(safe_line(entry.note), "$text-disabled"))
    return Content("\n").join(lines)
