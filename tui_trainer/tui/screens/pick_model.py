"""Choosing a model: a line to search or to type in, the known models below; a server is asked what it has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from tui_trainer.errors import WorkbenchError
from tui_trainer.text import safe
from tui_trainer.tui.services import WorkerClient
from tui_trainer.tui.widgets.ask import DIALOG_CSS, option_line

_ABOUT = (
    "Type to search, or type what is not in the list: a hub id, a folder, a .gguf file, RUN, RUN@STEP, RUN@best, "
    "BASE + ADAPTER, or http://host:port/v1 of a server."
)

ModelOption = tuple[str, str, str]
"""Reference, line, note."""


class PickModel(ModalScreen[str | None]):
    """Returns a reference, None when it was left.

    Args:
        title: what the model is for.
        options: the known models.
        current: the reference to begin on.
        worker: asks servers which models they have.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Cancel", id="pick-model-cancel", tooltip="Leave without a change"),
        Binding("down", "move(1)", "Down", show=False, id="pick-model-down", tooltip="One line down"),
        Binding("up", "move(-1)", "Up", show=False, id="pick-model-up", tooltip="One line up"),
        Binding("pagedown", "move(10)", "Page down", show=False, id="pick-model-page-down", tooltip="A page down"),
        Binding("pageup", "move(-10)", "Page up", show=False, id="pick-model-page-up", tooltip="A page up"),
    ]
    DEFAULT_CSS = DIALOG_CSS.format(name="PickModel")

    def __init__(self, title: str, options: Sequence[ModelOption], current: str, worker: WorkerClient) -> None:
        super().__init__()
        self._title, self._options, self._current, self._worker = title, options, current, worker
        self._found: Sequence[ModelOption] = options

    def compose(self) -> ComposeResult:
        """The line, the list, what can be typed."""
        with Vertical() as box:
            box.border_title = Content(safe(self._title))
            box.border_subtitle = "enter takes it · esc leaves"
            yield Input(placeholder="search, or type a reference")
            yield Static("", classes="ask--error", markup=False)
            yield OptionList()
            yield Static(Content(_ABOUT), classes="ask--help")

    def on_mount(self) -> None:
        """Begin on the present model."""
        self._fill("")

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        self.query_one(".ask--error", Static).update("")
        self._fill(event.value)

    def _fill(self, text: str) -> None:
        words = text.lower().split()
        fitting = [option for option in self._options if all(word in " ".join(option).lower() for word in words)]
        typed = text.strip()
        fitting.sort(key=lambda option: _distance(option, typed.lower()))
        is_known = typed in [reference for reference, _, _ in fitting]
        self._found = [*fitting, *([(typed, typed, "as typed")] if typed and not is_known else [])]
        listing = self.query_one(OptionList)
        listing.clear_options()
        listing.add_options([Option(option_line(line, note)) for _, line, note in self._found])
        listing.can_focus = False
        references = [reference for reference, _, _ in self._found]
        if self._found:
            is_first = bool(typed) or self._current not in references
            listing.highlighted = 0 if is_first else references.index(self._current)

    def action_move(self, step: int) -> None:
        """Move the highlight."""
        listing = self.query_one(OptionList)
        if self._found:
            listing.highlighted = min(max((listing.highlighted or 0) + step, 0), len(self._found) - 1)

    @on(OptionList.OptionSelected)
    def _clicked(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._found[event.option_index][0])

    @on(Input.Submitted)
    def _take(self, event: Input.Submitted) -> None:
        text = event.value.strip()
        if text.startswith(("http://", "https://")) and "#" not in text:
            self._ask_server(text)
        elif self._found:
            self.dismiss(self._found[self.query_one(OptionList).highlighted or 0][0])

    @work(group="server", exclusive=True, exit_on_error=False)
    async def _ask_server(self, url: str) -> None:
        """List the models of a server in place of the known ones."""
        said = self.query_one(".ask--error", Static)
        said.update(Content(safe(f"asking {url} …")))
        try:
            answer = await self._worker.call("servers", {"url": url})
        except WorkbenchError as error:
            said.update(Content(safe(str(error))))
            return
        base = str(answer.get("url") or url)
        dialect = str(answer.get("dialect") or "server")
        lacks = ", ".join(answer.get("untranslatable") or ())
        note = f"{dialect}{f', without {lacks}' if lacks else ''}"
        self._options = [(f"{base}#{model}", str(model), note) for model in answer.get("models") or ()]
        said.update(Content(safe("" if self._options else f"{base} has no model")))
        self.query_one(Input).value = ""
        self._fill("")


def _distance(option: ModelOption, typed: str) -> int:
    """How far an option is from what was typed: it begins its name, is in its name, or is only told of it."""
    reference = option[0].lower()
    return 0 if reference.startswith(typed) else 1 if typed in reference else 2
