"""Opening a dataset: one of before, a sample, or a path; the Data screen builds on it."""

from __future__ import annotations

from typing import Any, ClassVar

from textual import work
from textual.binding import Binding, BindingType

from tui_trainer.errors import WorkbenchError
from tui_trainer.tui.screens.choosing import ChoosingScreen
from tui_trainer.tui.widgets.ask import Pick

_OF_A_SOURCE = {"path", "name", "data_files", "split", "revision", "token_env", "format", "columns"}
"""Fields of `[data]` that belong to its one source."""

_TYPE_A_SPLIT = "\0type"


class OpeningScreen(ChoosingScreen):
    """A screen from which another dataset can be opened."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("o", "open_source", "Open", id="data-open", tooltip="Open a dataset"),
        Binding("c", "map_columns", "Columns", show=False, id="data-columns", tooltip="What the rows hold, and where"),
        Binding("M", "mix", "Mix", show=False, id="data-mix", tooltip="Mix several datasets, each with a weight"),
        Binding("ctrl+r", "reopen", "Reread", show=False, id="data-reopen", tooltip="Read the files anew"),
    ]

    def edit_field(self, key: str) -> None:
        """Ask for a new value of a field; source, columns and split have ways of their own."""
        splits = self.session.dataset.state.splits
        if key == "data.path":
            self.action_open_source()
        elif key == "data.columns":
            self.action_map_columns()
        elif key == "data.split" and len(splits) > 1:
            options = [(name, name, words) for name, words in splits.items()]
            options.append((_TYPE_A_SPLIT, "a part of one …", "as train[:10%]"))
            self.app.push_screen(Pick("data.split", options, self.session.draft.config.data.split), self._split_picked)
        else:
            super().edit_field(key)

    def _split_picked(self, split: str | None) -> None:
        if split == _TYPE_A_SPLIT:
            super().edit_field("data.split")
        elif split is not None:
            self.set_field("data.split", split)

    def action_open_source(self) -> None:
        """Pick a dataset: one of before, a sample, or a path."""
        from tui_trainer.tui.screens.open_dataset import OpenDatasetScreen

        current = self.session.draft.config.data.path or ""
        self.app.push_screen(OpenDatasetScreen(self.session.dataset, current), self._source_picked)

    def _source_picked(self, source: str | None) -> None:
        if source:
            self._open(source)

    def _open(self, source: str) -> None:
        """Open a source; what was said of the former one's columns and splits does not hold for it."""
        reset: dict[str, Any] = {"data.format": "auto", "data.columns": {}, "data.split": "train", "data.name": None}
        self._set({"data.path": source.strip(), **reset, "data.sources": []})
        self.action_leave_field()

    @work(group="mapping", exclusive=True, exit_on_error=False)
    async def action_map_columns(self) -> None:
        """Say what the rows hold: format and columns; of several datasets those of each."""
        from tui_trainer.tui.screens.mapping import MappingScreen

        data = self.session.draft.config.data
        if data.sources:
            self.action_mix()
            return
        if data.path is None:
            self.say("no dataset is open")
            return
        try:
            with self.session.type_ahead.held():
                found = await self.session.dataset.columns()
        except WorkbenchError as error:
            self.say(str(error), problem=True)
            return
        self.app.push_screen(MappingScreen(found, data.format, data.columns), self._mapping_taken)

    def _mapping_taken(self, mapping: tuple[str, dict[str, str]] | None) -> None:
        if mapping is not None:
            self.session.draft.set_many({"data.format": mapping[0], "data.columns": mapping[1]})
            self.session.draft_edited()

    def action_mix(self) -> None:
        """Mix several datasets."""
        from tui_trainer.tui.screens.mixing import MixingScreen

        data = self.session.draft.config.data
        sources = [source.model_dump(exclude_defaults=True) for source in data.sources]
        if not sources and data.path is not None:
            own = data.model_dump(include=_OF_A_SOURCE, exclude_defaults=True)
            sources = [{name: value for name, value in own.items() if value not in (None, {})}]
        self.app.push_screen(MixingScreen(self.session.dataset, sources), self._mixed)

    def _mixed(self, sources: list[dict[str, Any]] | None) -> None:
        """Take several sources; one alone is an ordinary dataset again."""
        if sources is None:
            return
        unset: dict[str, Any] = {"data.format": "auto", "data.columns": {}, "data.split": "train", "data.name": None}
        unset |= {"data.data_files": None, "data.revision": None, "data.token_env": None, "data.sources": []}
        if len(sources) == 1 and sources[0].get("weight", 1.0) == 1:
            alone = {f"data.{name}": value for name, value in sources[0].items() if name != "weight"}
            self._set({**unset, **alone})
        else:
            self._set({**unset, "data.path": None, "data.sources": sources})

    def _set(self, values: dict[str, Any]) -> None:
        """Set what is not so already, in one step that can be taken back."""
        draft = self.session.draft
        draft.set_many({key: value for key, value in values.items() if draft.value(key) != value})
        self.session.draft_edited()

    def action_reopen(self) -> None:
        """Read the files anew."""
        self.session.dataset.open(self.session.draft.config, again=True)
