"""Where a question is typed: enter sends, ctrl+j begins a line, a pasted text may have as many lines as it likes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.events import Key
from textual.message import Message
from textual.widgets import TextArea


class PromptLine(TextArea):
    """A field that grows with its text, up to a third of the screen.

    Attributes:
        ideas: what up and down put into the line while nothing of one's own stands there.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "Send", id="line-send", tooltip="Send what the line says"),
        Binding("ctrl+j", "newline", "New line", id="line-newline", tooltip="Begin a new line"),
    ]
    DEFAULT_CSS = """
    PromptLine, PromptLine:focus {
        height: auto; min-height: 3; max-height: 10; padding: 0 1; border: round $border; background: $background;
        scrollbar-size-vertical: 1;
        & .text-area--cursor-line { background: transparent; }
    }
    PromptLine:focus { border: round $primary; }
    """

    class Submitted(Message):
        """Enter was pressed."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self, placeholder: str, *, id: str | None = None) -> None:
        super().__init__(placeholder=placeholder, id=id, highlight_cursor_line=False)
        self.ideas: Sequence[str] = ()

    async def _on_key(self, event: Key) -> None:
        if event.key == "enter":
            event.stop()
            event.prevent_default()
            self.action_submit()
            return
        if event.key in ("up", "down") and self.ideas and (not self.text or self.text in self.ideas):
            event.stop()
            event.prevent_default()
            self._take_idea(1 if event.key == "down" else -1)
            return
        await super()._on_key(event)

    def _take_idea(self, direction: int) -> None:
        """The idea after or before the one in the line; past the last the line is empty again."""
        choices = ["", *self.ideas]
        self.fill(choices[(choices.index(self.text) + direction) % len(choices)])

    def check_consume_key(self, key: str, character: str | None = None) -> bool:
        """Also the slash, of which Textual does not know that it is a character."""
        return super().check_consume_key(key, character) or key == "slash"

    def action_submit(self) -> None:
        """Send the text."""
        self.post_message(self.Submitted(self.text))

    def action_newline(self) -> None:
        """Begin a new line."""
        self.insert("\n")

    def fill(self, text: str) -> None:
        """Put a text there to be edited, the cursor at its end."""
        self.load_text(text)
        self.move_cursor(self.document.end)
