"""Editing fields of the draft, the same way on the Data and the Args screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual import on

from tui_trainer.tui.screens.base import WorkbenchScreen
from tui_trainer.tui.widgets.ask import AskText, Confirm, Pick
from tui_trainer.tui.widgets.field_list import Field, FieldList

if TYPE_CHECKING:
    from tui_trainer.config.catalogue import Knob
    from tui_trainer.config.draft import Draft

LORA_KEY = "lora"
_TRUST_KEY = "model.trust_remote_code"


def draft_field(draft: Draft, key: str, problems: frozenset[str] = frozenset(), *, full_name: bool = False) -> Field:
    """A field of the draft as a line of a `FieldList`."""
    from tui_trainer.config.catalogue import catalogue, shown

    if key == LORA_KEY:
        return Field(
            LORA_KEY, "train with LoRA", "true" if draft.value(key) else "false", draft.layer(key).value, "bool"
        )
    knob = catalogue()[key]
    value = draft.value(key)
    text = "" if value is None or value in ([], {}) else value if isinstance(value, str) else shown(value)
    is_off = knob.section == LORA_KEY and not draft.value(LORA_KEY)
    return Field(
        key=key,
        label=key if full_name else knob.name,
        value=text,
        layer=draft.layer(key).value,
        kind=knob.kind,
        choices=knob.choices,
        note=knob.unit,
        has_problem=key in problems,
        is_ignored=is_off,
    )


def about(knob: Knob) -> str:
    """Help, permitted values and default of a knob."""
    from tui_trainer.config.catalogue import shown

    default = "not set" if knob.default is None else shown(knob.default)
    unit = f" {knob.unit}" if knob.unit else ""
    unset = " Empty unsets it." if knob.is_optional else ""
    aliases = f"\nAlso known as {', '.join(knob.aliases)}." if knob.aliases else ""
    return f"{knob.help}\n\nTakes {knob.expected}{unit}. Default: {default}.{unset}{aliases}"


class EditingScreen(WorkbenchScreen):
    """A screen whose field lists edit the draft."""

    @on(FieldList.ValueTyped)
    def _take_value(self, message: FieldList.ValueTyped) -> None:
        if type(message) is FieldList.ValueTyped:
            message.stop()
            self.set_field(message.key, message.text)

    @on(FieldList.ResetRequested)
    def _reset_field(self, message: FieldList.ResetRequested) -> None:
        message.stop()
        self.session.draft.reset(message.key)
        self.session.draft_edited()

    @on(FieldList.EditRequested)
    def _edit_field(self, message: FieldList.EditRequested) -> None:
        message.stop()
        self.edit_field(message.key)

    def edit_field(self, key: str) -> None:
        """Ask for a new value of a field."""
        from tui_trainer.config.catalogue import catalogue, parse_text

        knob = catalogue()[key]
        value = draft_field(self.session.draft, key).value

        def take(text: str | None) -> None:
            if text is not None:
                self.set_field(key, text)

        if knob.choices:
            options = [(choice, choice, "") for choice in knob.choices]
            if knob.is_optional:
                options.insert(0, ("", "not set", ""))
            self.app.push_screen(Pick(key, options, value, knob.help), take)
        else:
            self.app.push_screen(AskText(key, value, about(knob), lambda text: parse_text(knob, text)), take)

    def set_field(self, key: str, text: str) -> None:
        """Set a field of the draft to what was typed; say so if it will not do."""
        draft = self.session.draft
        try:
            if key == LORA_KEY:
                draft.set(key, text == "true")
            else:
                draft.set_text(key, text)
        except ValueError as error:
            self.say(f"{key}: {error}", problem=True)
            return
        self.session.draft_edited()
        self.lacks_consent()

    def lacks_consent(self) -> bool:
        """Ask, where the draft wants the code of the model's repository to run and nobody agreed to it.

        Returns:
            Whether the question is on the screen.
        """
        from tui_trainer import consent

        if self.session.draft.value(_TRUST_KEY) is not True:
            return False
        repository = self.session.draft.value("model.name_or_path")
        if not isinstance(repository, str) or not repository or consent.is_allowed(repository):
            return False

        def decide(is_sure: bool | None) -> None:
            if is_sure:
                consent.allow(repository)
            else:
                self.session.draft.set(_TRUST_KEY, False)
            self.session.draft_edited()

        about = "It can do whatever you can. Your answer holds for the revision that is loaded next, not for others."
        question = "Run the Python code of this repository?"
        self.app.push_screen(Confirm(question, [repository, about], "trusts it"), decide)
        return True

    def action_undo(self) -> None:
        """Take back the last change of the draft."""
        if self.session.draft.undo():
            self.session.draft_edited()
        else:
            self.say("nothing to undo")
