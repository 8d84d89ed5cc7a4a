"""The help of a screen: what it is for, and every key that works now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import ActiveBinding, Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from tui_trainer.tui.widgets.sheet import Sheet


class HelpScreen(Sheet[None]):
    """A sheet over the screen; any of its keys closes it.

    Args:
        text: what the screen is for.
        bindings: the keys that work there.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,enter", "dismiss", "Close", id="help-close", tooltip="Close the help"),
    ]
    DEFAULT_CSS = """
    HelpScreen {
        & > VerticalScroll { width: 90%; max-width: 90; }
    }
    """

    def __init__(self, text: str, bindings: Sequence[ActiveBinding]) -> None:
        super().__init__()
        self._text = text
        self._shown = bindings

    def compose(self) -> ComposeResult:
        """The purpose, then the keys, those of the focused pane first; what Textual binds by itself is left out."""
        with VerticalScroll() as sheet:
            sheet.border_title = "Help"
            sheet.border_subtitle = "esc closes"
            yield Static(Content(f"{self._text}\n"))
            yield Static(Content("\n").join(self._lines()))

    def _lines(self) -> Iterable[Content]:
        seen = set()
        for active in self._shown:
            binding = active.binding
            if not active.enabled or not binding.id or binding.action in seen:
                continue
            seen.add(binding.action)
            key = self.app.get_key_display(binding)
            about = binding.tooltip or binding.description
            yield Content.assemble((f"{key:>12}  ", "bold $accent"), (about, ""))
