"""A dialog with a line to search or to type in above a list of what is known; models and templates are chosen in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from tui_trainer.text import safe
from tui_trainer.tui.widgets.ask import option_line
from tui_trainer.tui.widgets.sheet import Dialog

KnownOption = tuple[str, str, str]
"""Value, line, note."""


class SearchPick(Dialog[str | None]):
    """Returns a value of the list or what was typed, None when it was left.

    Args:
        title: what is chosen.
        options: what is known.
        current: the value to begin on.
        placeholder: what can be typed, in the empty line.
        about: help below the list.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Cancel", id="search-pick-cancel", tooltip="Leave without a change"),
        Binding("down", "move(1)", "Down", show=False, id="search-pick-down", tooltip="One line down"),
        Binding("up", "move(-1)", "Up", show=False, id="search-pick-up", tooltip="One line up"),
        Binding("pagedown", "move(10)", "Page down", show=False, id="search-pick-page-down", tooltip="A page down"),
        Binding("pageup", "move(-10)", "Page up", show=False, id="search-pick-page-up", tooltip="A page up"),
    ]

    def __init__(self, title: str, options: Sequence[KnownOption], current: str, placeholder: str, about: str) -> None:
        super().__init__()
        self._title, self._current, self._placeholder, self._about = title, current, placeholder, about
        self._options: Sequence[KnownOption] = options
        self._found: Sequence[KnownOption] = options

    def compose(self) -> ComposeResult:
        """The line, the list, what can be typed."""
        with Vertical() as box:
            box.border_title = Content(safe(self._title))
            box.border_subtitle = "enter takes it · esc leaves"
            yield Input(placeholder=self._placeholder)
            yield Static("", classes="ask--error", markup=False)
            yield OptionList()
            yield from self.compose_below()
            yield Static(Content(self._about), classes="ask--help")

    def compose_below(self) -> ComposeResult:
        """What stands between the list and the help."""
        yield from ()

    def on_mount(self) -> None:
        """Begin on the present value."""
        self.fill("")

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        self.tell("")
        self.fill(event.value)

    def tell(self, text: str) -> None:
        """Say something below the line."""
        self.query_one(".ask--error", Static).update(Content(safe(text)))

    def offer(self, options: Sequence[KnownOption]) -> None:
        """Show other options."""
        self._options = options
        self.query_one(Input).value = ""
        self.fill("")

    def fill(self, text: str) -> None:
        """Show the options that fit a text, and the text itself where none is it."""
        words = text.lower().split()
        fitting = [option for option in self._options if all(word in " ".join(option).lower() for word in words)]
        typed = text.strip()
        fitting.sort(key=lambda option: _distance(option, typed.lower()))
        is_known = not typed or typed in [value for value, _, _ in fitting]
        as_typed = [] if is_known else [(typed, typed, "as typed")]
        # who writes a path or a hub id means that one, not one that begins like it or is told of beside another
        self._found = [*as_typed, *fitting] if "/" in typed else [*fitting, *as_typed]
        listing = self.query_one(OptionList)
        listing.clear_options()
        listing.add_options([Option(option_line(line, note)) for _, line, note in self._found])
        listing.can_focus = False
        values = [value for value, _, _ in self._found]
        if self._found:
            is_first = bool(typed) or self._current not in values
            listing.highlighted = 0 if is_first else values.index(self._current)

    @property
    def marked(self) -> str | None:
        """The value that is marked; None where there is nothing to choose."""
        if not self._found:
            return None
        return self._found[min(self.query_one(OptionList).highlighted or 0, len(self._found) - 1)][0]

    def action_move(self, step: int) -> None:
        """Move the highlight."""
        listing = self.query_one(OptionList)
        if self._found:
            listing.highlighted = min(max((listing.highlighted or 0) + step, 0), len(self._found) - 1)

    @on(OptionList.OptionSelected)
    def _clicked(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._found[event.option_index][0])

    @property
    def typed(self) -> str:
        """What is typed."""
        return self.query_one(Input).value.strip()

    @on(Input.Submitted)
    def _submitted(self) -> None:
        self.take()

    def take(self) -> None:
        """Answer with what is marked; a subclass may make something else of what is typed."""
        if self.marked is not None:
            self.dismiss(self.marked)


def _distance(option: KnownOption, typed: str) -> int:
    """How far an option is from what was typed: it is its name, begins it, is in it, or is only told of it."""
    name = option[0].lower()
    return 0 if name == typed else 1 if name.startswith(typed) else 2 if typed in name else 3
