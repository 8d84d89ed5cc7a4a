"""The help of a screen: what it is for, and every key that works now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import ActiveBinding, Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static


class HelpScreen(ModalScreen[None]):
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
        align: center middle;
        & > VerticalScroll {
            width: 90%; max-width: 90; height: auto; max-height: 90%;
            background: $surface; border: round $primary; padding: 0 1;
        }
        & Static { width: 100%; height: auto; }
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
