"""The knobs of the Chat screen: the panel, presets, neutral; the worker says what comes of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Static

from tui_trainer.errors import WorkbenchError
from tui_trainer.text import safe, safe_line
from tui_trainer.tui.screens.chat_models import ModelsScreen
from tui_trainer.tui.screens.editing import about
from tui_trainer.tui.widgets.ask import AskText, Confirm, Pick
from tui_trainer.tui.widgets.cursor_list import CursorList
from tui_trainer.tui.widgets.field_list import FieldList
from tui_trainer.tui.widgets.knob_list import KnobList, parse

_KEEP = "/keep"
_GIVE_BACK = "/give back"


class KnobsScreen(ModelsScreen):
    """A screen with a panel of sampling knobs."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "knobs", "Knobs", id="chat-knobs", tooltip="To the sampling knobs"),
        Binding("P", "preset", "Presets", show=False, id="chat-preset", tooltip="Take a knob preset, or keep one"),
        Binding("z", "neutral", "Neutral", show=False, id="chat-neutral", tooltip="No knob acts: the model as it is"),
        Binding("Z", "give_back", "Give back", show=False, id="chat-give-back", tooltip="All knobs as the model asks"),
    ]

    def on_mount(self) -> None:
        """The knobs of the configuration, where the model is the configuration's."""
        super().on_mount()
        draft = self.session.draft.config
        if self.models.slot("a").reference == draft.model.name_or_path:
            known = self._knobs.only_knobs(draft.sampling.model_dump(exclude_unset=True))
            if known:
                self._knobs.use_preset("of the configuration", known)
        self._show_about()

    @property
    def _knobs(self) -> KnobList:
        return self.query_one(KnobList)

    def params(self) -> dict[str, Any]:
        """The knobs that go with the next question; what is not in here the model and its run decide."""
        return self._knobs.params()

    async def models_loaded(self) -> None:
        """Another model asks for other knobs."""
        await self._ask_what_they_come_to()

    @on(KnobList.Changed)
    def _knobs_changed(self, message: KnobList.Changed) -> None:
        message.stop()
        if self.models.slot("a").is_loaded:
            self._resolve()
        self._show_about()

    @work(group="knobs", exclusive=True, exit_on_error=False)
    async def _resolve(self) -> None:
        await self._ask_what_they_come_to()

    async def _ask_what_they_come_to(self) -> None:
        try:
            answer = await self.models.call("knobs", {"params": self.params()})
        except WorkbenchError as error:
            self.say(str(error), problem=True)
            return
        self.show_resolved(answer)

    def show_resolved(self, answer: Mapping[str, Any]) -> None:
        """Show what the knobs come to."""
        self._knobs.show_resolved(answer)
        self._show_about()

    @on(CursorList.Highlighted, "#knobs")
    def _show_about(self) -> None:
        text, wrong = self._knobs.about()
        strategy = self._knobs.strategy
        self.query_one("#about-knob", Static).update(
            Content.assemble(
                (f"{safe_line(strategy)}\n" if strategy else "", "bold"),
                (f"{safe(wrong)}\n" if wrong else "", "$error"),
                (safe(text), "$text-muted"),
            )
        )

    @on(FieldList.EditRequested)
    def _edit_knob(self, message: FieldList.EditRequested) -> None:
        message.stop()
        knobs = self._knobs
        knob = knobs.knob(message.key)

        def take(typed: str | None) -> None:
            if typed is not None:
                knobs.set_text(knob.name, typed)

        self.app.push_screen(AskText(knob.name, message.text, about(knob), lambda typed: parse(knob, typed)), take)

    def action_knobs(self) -> None:
        """To the knobs; on a narrow screen they lie over the transcript."""
        self.add_class("-knobs")
        self.query_one("#knobs").focus()

    def action_neutral(self) -> None:
        """Let no knob change what the model says."""
        acting = self._knobs.neutralise()
        self.say(f"neutral: {', '.join(acting)}" if acting else "the knobs were neutral already")

    def action_give_back(self) -> None:
        """Give all knobs back to the model and its run."""
        self._knobs.give_back()
        self.say("all knobs are the model's own")

    # Presets

    def action_preset(self) -> None:
        """Take a preset, or keep the present knobs as one."""
        from tui_trainer.config.catalogue import shown
        from tui_trainer.config.knob_presets import list_knob_presets

        options = [(_KEEP, "keep the present knobs under a name …", ""), (_GIVE_BACK, "none: as the model asks", "")]
        for preset in list_knob_presets():
            values = ", ".join(f"{name} {shown(value)}" for name, value in preset.values.items())
            options.append((preset.name, preset.name, preset.problem or values))
        self.app.push_screen(Pick("Knob presets", options), self._preset_picked)

    def _preset_picked(self, name: str | None) -> None:
        from tui_trainer.config.knob_presets import find_knob_preset

        if name == _KEEP:
            text = "Only what differs from what the model asks for is kept."
            self.app.push_screen(AskText("Keep the knobs as", "", text), self._preset_named)
        elif name == _GIVE_BACK:
            self.action_give_back()
        elif name is not None:
            try:
                preset = find_knob_preset(name)
            except WorkbenchError as error:
                self.say(str(error), problem=True)
                return
            self._knobs.use_preset(preset.name, preset.values)

    def _preset_named(self, name: str | None) -> None:
        from tui_trainer.config.knob_presets import knob_presets_dir

        if not name:
            return

        def keep(is_sure: bool | None = True) -> None:
            if is_sure:
                self._keep_preset(name)

        if (knob_presets_dir() / f"{name}.toml").exists():
            self.app.push_screen(Confirm(f"{name} is there already", ["It would be replaced."], "replaces it"), keep)
        else:
            keep()

    def _keep_preset(self, name: str) -> None:
        from tui_trainer.config.knob_presets import save_knob_preset

        values = self.params()
        try:
            save_knob_preset(name, values)
        except WorkbenchError as error:
            self.say(str(error), problem=True)
            return
        self._knobs.use_preset(name, values)
        self.say(f"kept {len(values)} knobs as {name}")
