"""Small dialogs: ask for a text, pick from a list, confirm. Each returns its answer, None when it was left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from tui_trainer.text import safe
from tui_trainer.tui.widgets.sheet import Dialog


class AskText(Dialog[str | None]):
    """Asks for one line of text.

    Args:
        title: what is asked.
        value: the text to begin with.
        about: help below the line: what the value does, its range and unit.
        check: called with the text; raises ValueError with a sentence if it will not do.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Cancel", id="ask-cancel", tooltip="Leave without a change")
    ]

    def __init__(
        self, title: str, value: str = "", about: str = "", check: Callable[[str], object] | None = None
    ) -> None:
        super().__init__()
        self._title, self._value, self._about, self._check = title, value, about, check

    def compose(self) -> ComposeResult:
        """The line, what is wrong with it, what it means."""
        with Vertical() as box:
            box.border_title = Content(safe(self._title))
            box.border_subtitle = "enter takes it · esc leaves"
            yield Input(self._value, select_on_focus=True)
            yield Static(Content(""), classes="ask--error")
            yield Static(Content(safe(self._about)), classes="ask--help")

    @on(Input.Changed)
    def _judge(self, event: Input.Changed) -> None:
        self._error_of(event.value)

    def _error_of(self, text: str) -> str:
        error = ""
        if self._check is not None:
            try:
                self._check(text)
            except ValueError as problem:
                error = str(problem)
        self.query_one(".ask--error", Static).update(Content(safe(error)))
        return error

    @on(Input.Submitted)
    def _take(self, event: Input.Submitted) -> None:
        if not self._error_of(event.value):
            self.dismiss(event.value)


class Pick(Dialog[str | None]):
    """Offers a list to pick from.

    Args:
        title: what is picked.
        options: value, line, and an explanation that may be empty.
        current: the value to begin on.
        about: text above the list.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss", "Cancel", id="pick-cancel", tooltip="Leave without a change"),
        Binding("j", "move('down')", "Down", show=False, id="pick-down", tooltip="One line down"),
        Binding("k", "move('up')", "Up", show=False, id="pick-up", tooltip="One line up"),
    ]

    def __init__(self, title: str, options: Sequence[tuple[str, str, str]], current: str = "", about: str = "") -> None:
        super().__init__()
        self._title, self._options, self._current, self._about = title, options, current, about

    def compose(self) -> ComposeResult:
        """The list."""
        with Vertical() as box:
            box.border_title = Content(safe(self._title))
            box.border_subtitle = "enter takes it · esc leaves"
            if self._about:
                yield Static(Content(safe(self._about)), classes="ask--help")
            yield OptionList(*(Option(option_line(line, note)) for _, line, note in self._options))

    def on_mount(self) -> None:
        """Begin on the present value."""
        values = [value for value, _, _ in self._options]
        self.query_one(OptionList).highlighted = values.index(self._current) if self._current in values else 0

    def action_move(self, direction: str) -> None:
        """Move the highlight."""
        listing = self.query_one(OptionList)
        listing.action_cursor_down() if direction == "down" else listing.action_cursor_up()

    @on(OptionList.OptionSelected)
    def _take(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._options[event.option_index][0])


def option_line(line: str, note: str) -> Content:
    """A line of a list to pick from, with its explanation dim behind it."""
    parts: list[tuple[str, str]] = [(safe(line), "")]
    if note:
        parts.append((f"  {safe(note)}", "$text-disabled"))
    return Content.assemble(*parts)


class Confirm(Dialog[bool]):
    """Asks yes or no.

    Args:
        question: what is about to happen.
        details: what speaks against it, a line each.
        yes: what the yes key does, as a verb.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes", id="confirm-yes", tooltip="Do it"),
        Binding("n,escape,q", "answer(False)", "No", id="confirm-no", tooltip="Do not"),
    ]

    def __init__(self, question: str, details: Sequence[str] = (), yes: str = "yes") -> None:
        super().__init__()
        self._question, self._details, self._yes = question, details, yes

    def compose(self) -> ComposeResult:
        """The question and its details."""
        with Vertical() as box:
            box.border_title = Content(safe(self._question))
            box.border_subtitle = Content(safe(f"y {self._yes} · n leaves it"))
            yield Static(self._text())

    def describe(self, details: Sequence[str]) -> None:
        """Show other details, as when they were still being read as the question was asked."""
        self._details = details
        if self.is_mounted:
            self.query_one(Static).update(self._text())

    def _text(self) -> Content:
        return Content("\n".join(safe(line) for line in self._details))

    def action_answer(self, answer: bool) -> None:
        """Take the answer."""
        self.dismiss(answer)
