"""Opening a dataset: one of before, a sample, or a path; the Data screen builds on it."""

from __future__ import annotations

from typing import Any, ClassVar

from textual.binding import Binding, BindingType

from tui_trainer.tui.recent import SAMPLES, recent_sources
from tui_trainer.tui.screens.editing import EditingScreen
from tui_trainer.tui.widgets.ask import AskText, Pick

_TYPE_A_PATH = "…"


class OpeningScreen(EditingScreen):
    """A screen from which another dataset can be opened."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("o", "open_source", "Open", id="data-open", tooltip="Open a dataset"),
        Binding("ctrl+r", "reopen", "Reread", show=False, id="data-reopen", tooltip="Read the files anew"),
    ]

    def action_open_source(self) -> None:
        """Pick a dataset: one of before, a sample, or a path."""
        recent = recent_sources()
        known = [(path, path, "") for path in recent]
        known += [(name, name, note) for name, note in SAMPLES if name not in recent]
        options = [(_TYPE_A_PATH, "type a path or hub id …", ""), *known]
        self.app.push_screen(Pick("Open a dataset", options), self._source_picked)

    def _source_picked(self, source: str | None) -> None:
        if source == _TYPE_A_PATH:
            current = self.session.draft.config.data.path or ""
            about = "A file, a folder, or a hub id. Wildcards go into data.data_files, the split into data.split."
            self.app.push_screen(AskText("Open a dataset", current, about), self._source_picked)
        elif source:
            self._open(source)

    def _open(self, source: str) -> None:
        """Open a source; what was said of the former one's columns and splits does not hold for it."""
        draft = self.session.draft
        reset: dict[str, Any] = {"data.format": "auto", "data.columns": {}, "data.split": "train", "data.name": None}
        draft.set_many({"data.path": source.strip(), **reset})
        self.session.draft_edited()
        self.action_leave_field()

    def action_reopen(self) -> None:
        """Read the files anew."""
        self.session.dataset.open(self.session.draft.config, again=True)
