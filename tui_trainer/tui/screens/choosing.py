"""Fields of the draft that are chosen from what there is: the model, the chat template; Data and Args build on it."""

from __future__ import annotations

import asyncio

from textual import work

from tui_trainer.errors import WorkbenchError
from tui_trainer.tui.screens.editing import EditingScreen

_MODEL = "model.name_or_path"
_TEMPLATE = "data.template"
_ABOUT_MODEL = (
    "Type to search, or type what is not in the list: a hub id, a folder, a .gguf file, RUN, RUN@STEP, RUN@best."
)


class ChoosingScreen(EditingScreen):
    """A screen on which model and template are looked for in a list; what is not in it can be typed."""

    def edit_field(self, key: str) -> None:
        """Ask for a new value of a field."""
        if key == _MODEL:
            self._pick_model()
        elif key == _TEMPLATE:
            self._pick_template()
        else:
            super().edit_field(key)

    @work(group="model", exclusive=True, exit_on_error=False)
    async def _pick_model(self) -> None:
        """Pick the model to train from the checkpoints and models that are known."""
        from tui_trainer.tui.chat.targets import model_options
        from tui_trainer.tui.widgets.search_pick import SearchPick

        current = self.session.draft.config.model.name_or_path or ""
        with self.session.type_ahead.held():
            known = await asyncio.to_thread(model_options, self.session.root, current)
        options = [("", "not set", "as a new model may have it (model.from_scratch)"), *known]
        picker = SearchPick(_MODEL, options, current, "search, or type a reference", _ABOUT_MODEL)
        self.app.push_screen(picker, lambda reference: self._take(_MODEL, reference, current))

    @work(group="template", exclusive=True, exit_on_error=False)
    async def _pick_template(self) -> None:
        """Pick a chat template from those there are, looking at a row."""
        from tui_trainer.tui.screens.pick_template import PickTemplate

        draft, dataset = self.session.draft, self.session.dataset
        current = draft.config.data.template or ""
        try:
            with self.session.type_ahead.held():
                templates = await dataset.templates(draft.config)
        except WorkbenchError as error:
            self.say(str(error), problem=True)
            return
        row = self.row_looked_at if dataset.state.is_open else None
        picker = PickTemplate(dataset, templates, current, row)
        self.app.push_screen(picker, lambda name: self._take(_TEMPLATE, name, current))

    def _take(self, key: str, picked: str | None, current: str) -> None:
        if picked is not None and picked != current:
            self.set_field(key, picked)

    @property
    def row_looked_at(self) -> int:
        """The row that a choice is tried on."""
        return 0
