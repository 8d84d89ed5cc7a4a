"""The dialog that mixes several datasets, each with a weight, a format and columns of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from tui_trainer.errors import WorkbenchError
from tui_trainer.text import safe, safe_line
from tui_trainer.tui.feeds.dataset import DatasetFeed
from tui_trainer.tui.screens.mapping import MappingScreen
from tui_trainer.tui.screens.open_dataset import OpenDatasetScreen
from tui_trainer.tui.widgets.ask import AskText
from tui_trainer.tui.widgets.cursor_list import CursorList, Parts
from tui_trainer.tui.widgets.sheet import Sheet

Source = dict[str, Any]
"""A source as the configuration has it: path, weight, split and whatever else is set of it."""


class SourceList(CursorList):
    """The sources with their weights, and what was said of their rows."""

    def __init__(self, sources: Sequence[Source]) -> None:
        super().__init__(id="sources")
        self.sources = [dict(source) for source in sources]

    def show(self, sources: Sequence[Source], cursor: int | None = None) -> None:
        """Show other sources."""
        self.sources = list(sources)
        self.set_num_lines(len(sources), cursor=cursor)

    def line_parts(self, line: int) -> Parts:
        """Weight, path, split, format and columns."""
        source = self.sources[line]
        said = [f"split {source['split']}"] if "split" in source else []
        said += [str(source["format"])] if source.get("format", "auto") != "auto" else []
        said += [f"{role} ← {column}" for role, column in (source.get("columns") or {}).items()]
        return (
            (f" x{source.get('weight', 1.0):<6g}", "list--accent"),
            (safe_line(str(source["path"])), "list--strong"),
            (safe_line(f"  {' · '.join(said)}") if said else "", "list--dim"),
        )


class MixingScreen(Sheet[list[Source] | None]):
    """A sheet over the screen; its answer is the sources to train on.

    Args:
        feed: lists folders for the dialog that adds a source.
        sources: the sources as they are.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss", "Cancel", id="mixing-cancel", tooltip="Leave without a change"),
        Binding("a,o", "add", "Add", id="mixing-add", tooltip="Add a dataset"),
        Binding("w", "weigh", "Weight", id="mixing-weight", tooltip="How often the rows of a source are used"),
        Binding(
            "c", "map_columns", "Columns", id="mixing-columns", tooltip="What the rows of a source hold, and where"
        ),
        Binding("backspace,delete", "remove", "Remove", id="mixing-remove", tooltip="Take a source out"),
        Binding("s", "take", "Take it", id="mixing-take", tooltip="Train on these sources"),
    ]
    DEFAULT_CSS = """
    MixingScreen {
        & > Vertical { width: 94%; max-width: 100; }
        & Static { color: $text-muted; }
        & SourceList { height: auto; min-height: 1; max-height: 14; background: $surface; margin: 1 0; }
    }
    """

    def __init__(self, feed: DatasetFeed, sources: Sequence[Source]) -> None:
        super().__init__()
        self._feed = feed
        self._first = sources

    def compose(self) -> ComposeResult:
        """The sources, and what a weight means."""
        with Vertical() as box:
            box.border_title = "Datasets that are mixed"
            box.border_subtitle = "a adds · w weight · c columns · del removes · s takes it · esc leaves"
            yield Static(Content("Weight 1: every row once an epoch; 2: twice; 0.5: every second row."))
            yield SourceList(self._first)
            yield Static("", id="mixing-note", markup=False)

    def on_mount(self) -> None:
        """Show what there is."""
        self._listing.show(self._listing.sources)
        self._listing.focus()

    @property
    def _listing(self) -> SourceList:
        return self.query_one(SourceList)

    def action_add(self) -> None:
        """Ask for another dataset."""
        self.app.push_screen(OpenDatasetScreen(self._feed), self._added)

    def _added(self, path: str | None) -> None:
        if path:
            listing = self._listing
            listing.show([*listing.sources, {"path": path.strip()}], len(listing.sources))

    @on(CursorList.Chosen, "#sources")
    def action_weigh(self) -> None:
        """Ask for the weight of a source."""
        listing = self._listing
        if listing.sources:
            weight = f"{listing.sources[listing.cursor].get('weight', 1.0):g}"
            title = f"Weight of {listing.sources[listing.cursor]['path']}"
            self.app.push_screen(AskText(title, weight, "A number above 0.", parse_weight), self._weighed)

    def _weighed(self, text: str | None) -> None:
        if text is not None:
            listing = self._listing
            listing.sources[listing.cursor]["weight"] = parse_weight(text)
            listing.show(listing.sources)

    @work(group="mapping", exclusive=True, exit_on_error=False)
    async def action_map_columns(self) -> None:
        """Say what the rows of a source hold: format and columns."""
        listing = self._listing
        if not listing.sources:
            return
        at = listing.cursor
        source, note = listing.sources[at], self.query_one("#mixing-note", Static)
        note.update(Content(safe(f"reading {source['path']} …")))
        try:
            found = await self._feed.columns(source)
        except WorkbenchError as error:
            note.update(Content.styled(safe(str(error)), "$error"))
            return
        note.update("")
        mapping = MappingScreen(found, str(source.get("format") or "auto"), source.get("columns") or {})
        self.app.push_screen(mapping, lambda taken: self._mapped(at, taken))

    def _mapped(self, at: int, mapping: tuple[str, dict[str, str]] | None) -> None:
        if mapping is not None:
            listing = self._listing
            listing.sources[at] |= {"format": mapping[0], "columns": mapping[1]}
            listing.show(listing.sources)

    def action_remove(self) -> None:
        """Take the source under the cursor out."""
        listing = self._listing
        listing.show([source for at, source in enumerate(listing.sources) if at != listing.cursor])

    def action_take(self) -> None:
        """Give the sources back."""
        self.dismiss(self._listing.sources)


def parse_weight(text: str) -> float:
    """A weight that was typed.

    Raises:
        ValueError: it is no number above 0.
    """
    try:
        weight = float(text.strip().replace(",", "."))
    except ValueError:
        weight = 0.0
    if not 0 < weight < float("inf"):
        raise ValueError("is no number above 0")
    return weight
