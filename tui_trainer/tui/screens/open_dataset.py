"""The dialog that opens a dataset: what was opened before, the samples, and files here or where a typed path leads."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, Static

from tui_trainer.errors import WorkbenchError
from tui_trainer.text import safe_line, shortened_front
from tui_trainer.tui import format as fmt
from tui_trainer.tui.feeds.dataset import DatasetFeed
from tui_trainer.tui.recent import SAMPLES, recent_sources
from tui_trainer.tui.widgets.cursor_list import CursorList, Parts
from tui_trainer.tui.widgets.sheet import Sheet

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Suggestion:
    """A line of the dialog.

    Attributes:
        text: what the line of input becomes, or what is opened.
        note: what it is.
        is_folder: whether it is gone into instead of opened.
    """

    text: str
    note: str
    is_folder: bool = False


class SuggestionList(CursorList, can_focus=False):
    """What could be meant."""

    def __init__(self) -> None:
        super().__init__(id="suggestions")
        self.suggestions: Sequence[Suggestion] = ()

    def show(self, suggestions: Sequence[Suggestion]) -> None:
        """Show other suggestions, the first of them marked."""
        self.suggestions = suggestions
        self.set_num_lines(len(suggestions), cursor=0)

    def line_parts(self, line: int) -> Parts:
        """Text and note."""
        shown = self.suggestions[line]
        mark = "▸ " if line == self.cursor else "  "
        room = max(self.size.width - len(shown.note) - 6, 12)
        text = shortened_front(safe_line(shown.text), room)
        return ((mark, "list--accent"), (text, "list--strong"), (f"  {safe_line(shown.note)}", "list--dim"))


class OpenDatasetScreen(Sheet[str | None]):
    """Asks for a dataset; its answer is a path, a hub id or a sample's name.

    Args:
        feed: lists folders.
        current: the source that is open.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Cancel", id="open-cancel", tooltip="Leave without opening anything"),
        Binding("down", "move(1)", "Down", show=False, priority=True, id="open-down", tooltip="Next suggestion"),
        Binding("up", "move(-1)", "Up", show=False, priority=True, id="open-up", tooltip="Suggestion before"),
        Binding("tab", "complete", "Complete", priority=True, id="open-complete", tooltip="Complete what is typed"),
    ]
    DEFAULT_CSS = """
    OpenDatasetScreen {
        & > Vertical { width: 94%; max-width: 100; }
        & Static { color: $text-muted; }
        & Input { border: tall $border; height: 3; }
        & SuggestionList { height: 14; max-height: 60%; background: $surface; }
    }
    """

    def __init__(self, feed: DatasetFeed, current: str = "") -> None:
        super().__init__()
        self._feed = feed
        self._current = current
        self._folder: str | None = None
        self._entries: list[dict[str, Any]] = []

    def compose(self) -> ComposeResult:
        """The line, what could be meant, how it goes."""
        with Vertical() as box:
            box.border_title = "Open a dataset"
            box.border_subtitle = "enter takes the marked line · tab completes · esc leaves"
            yield Input(placeholder="part of a name, a path, or a hub id as openai/gsm8k")
            yield SuggestionList()
            yield Static(Content("A file, a folder with splits or shards, what save_to_disk wrote, or a hub id."))

    def on_mount(self) -> None:
        """Begin with what was opened before."""
        self.query_one(Input).focus()
        self._typed()

    @property
    def _text(self) -> str:
        return self.query_one(Input).value.strip()

    @on(Input.Changed)
    def _typed(self) -> None:
        folder = _folder_of(self._text)
        if folder != self._folder:
            self._folder, self._entries = folder, []
            self._list(folder)
        self._suggest()

    @work(group="list", exclusive=True, exit_on_error=False)
    async def _list(self, folder: str) -> None:
        try:
            listing = await self._feed.list_folder(folder or ".")
        except WorkbenchError as error:
            self.query_one(Static).update(Content(safe_line(str(error))))
            return
        self._entries = list(listing.get("entries") or ())
        self._suggest()

    def _suggest(self) -> None:
        self.query_one(SuggestionList).show(list(dict.fromkeys(self._suggestions())))

    def _suggestions(self) -> Iterable[Suggestion]:
        text = self._text
        if text.endswith("/") and self._entries:
            yield Suggestion(text, "this folder, with all its splits")
        if text:
            yield from self._completions(text)
        lowered = text.lower()
        recent = recent_sources()
        for path in recent:
            if lowered in path.lower() and path != text:
                yield Suggestion(path, "open now" if path == self._current else "opened before")
        for name, note in SAMPLES:
            if lowered in name and name not in recent:
                yield Suggestion(name, note)
        if not text:
            yield from self._completions(text)
        else:
            yield Suggestion(text, "on the hub, or a file or folder" if _HUB_ID.fullmatch(text) else "as it is typed")

    def _completions(self, text: str) -> Iterable[Suggestion]:
        """Entries of the folder that is typed, else of the working one, whose names begin with what follows it."""
        before = _folder_of(text)
        if before != self._folder:
            return
        begin = text[len(before) :].lower()
        for entry in self._entries:
            name = str(entry.get("name"))
            if name.lower().startswith(begin):
                is_folder = bool(entry.get("is_folder"))
                note = "folder" if is_folder else fmt.size(entry.get("size"))
                yield Suggestion(f"{before}{name}{'/' if is_folder else ''}", note, is_folder)

    def action_move(self, step: int) -> None:
        """Mark another line."""
        self.query_one(SuggestionList).action_move(step)
        self.query_one(SuggestionList).refresh()

    def action_complete(self) -> None:
        """Put the marked line into the line of input."""
        listing = self.query_one(SuggestionList)
        if listing.suggestions:
            self._type(listing.suggestions[listing.cursor].text)

    def _type(self, text: str) -> None:
        line = self.query_one(Input)
        line.value = text
        line.cursor_position = len(text)

    @on(Input.Submitted)
    def _take(self) -> None:
        listing = self.query_one(SuggestionList)
        if not listing.suggestions:
            return
        chosen = listing.suggestions[listing.cursor]
        if chosen.is_folder and chosen.text != self._text:
            self._type(chosen.text)
        else:
            self.dismiss(chosen.text)

    @on(CursorList.Chosen, "#suggestions")
    def _clicked(self) -> None:
        self._take()


def _folder_of(text: str) -> str:
    """The folder of a path that is typed, with the stroke at its end; empty for a name."""
    return text[: text.rfind("/") + 1]
