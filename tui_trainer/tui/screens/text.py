"""A sheet of text over the screen: the command that would run, a file, an error in full."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from tui_trainer.text import safe
from tui_trainer.tui.widgets.sheet import Sheet


class TextScreen(Sheet[None]):
    """Shows a text that can be scrolled and copied.

    Args:
        title: what it is.
        text: shown as it is, control characters made visible.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter", "dismiss", "Close", id="text-close", tooltip="Close the sheet"),
        Binding("y", "copy", "Copy", id="text-copy", tooltip="Copy the text"),
    ]
    DEFAULT_CSS = """
    TextScreen {
        & > VerticalScroll { width: 94%; }
    }
    """

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self._title, self._text = title, text

    def compose(self) -> ComposeResult:
        """The text."""
        with VerticalScroll() as sheet:
            sheet.border_title = Content(safe(self._title))
            sheet.border_subtitle = "y copies · esc closes"
            yield Static(Content(safe(self._text)))

    def action_copy(self) -> None:
        """Copy the text to the terminal's clipboard."""
        self.app.copy_to_clipboard(self._text)
        self.notify("copied", markup=False)
