"""The sampling knobs: their values and where these came from, what has no effect and why, what will not do.

The list holds what differs: a preset's values and what was typed. The worker resolves the rest (`show_resolved`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from textual import on
from textual.message import Message

from tui_trainer.tui.widgets.field_list import Field, FieldList

if TYPE_CHECKING:
    from tui_trainer.config.catalogue import Knob

YOURS = "you"
_LAYERS = {"model": "model", "run": "file", YOURS: "typed"}
_ORIGINS = {"default": "default", "model": "the model's generation_config", "run": "the run's [sampling]", YOURS: "you"}


class KnobList(FieldList):
    """The fields of `SamplingParams`."""

    class Changed(Message):
        """Another set of knobs goes with the next question."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._preset_name = ""
        self._preset: dict[str, Any] = {}
        self._typed: dict[str, Any] = {}
        self._resolved: dict[str, tuple[Any, str]] = {}
        self._ignored: dict[str, str] = {}
        self._problems: dict[str, str] = {}
        self.strategy = ""

    def on_mount(self) -> None:
        """Show the defaults."""
        self._show_knobs()

    def params(self) -> dict[str, Any]:
        """The knobs that were set: the preset's, and what was typed above them."""
        return self._preset | self._typed

    def asked_for(self) -> dict[str, Any]:
        """What the model and its run ask for, as far as nothing was set above it."""
        return {name: value for name, (value, source) in self._resolved.items() if source in ("model", "run")}

    def use_preset(self, name: str, values: Mapping[str, Any]) -> None:
        """Take a preset's values in place of another's; what was typed is given back."""
        self._preset_name, self._preset = name, dict(values)
        self._typed.clear()
        self._changed()

    def show_resolved(self, answer: Mapping[str, Any]) -> None:
        """Show what the worker made of the knobs: values, sources, what is ignored, what contradicts what."""
        knobs = answer.get("knobs") or {}
        self._resolved = {name: (knob.get("value"), str(knob.get("source"))) for name, knob in knobs.items()}
        self._ignored = dict(answer.get("ignored") or {})
        self.strategy = str(answer.get("strategy") or "")
        self._problems = {
            str(problem.get("key")): ". ".join(filter(None, (problem.get("message"), problem.get("remedy"))))
            for problem in answer.get("problems") or ()
        }
        self._show_knobs()

    def only_knobs(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the values that are sampling knobs."""
        known = {knob.name for knob in self._knobs()}
        return {name: value for name, value in values.items() if name in known}

    def knob(self, name: str) -> Knob:
        """A knob by name."""
        return next(knob for knob in self._knobs() if knob.name == name)

    def value(self, name: str) -> tuple[Any, str]:
        """The value that counts for a knob and where it came from."""
        if name in self._typed:
            return self._typed[name], YOURS
        if name in self._preset:
            return self._preset[name], f"preset {self._preset_name}"
        value, source = self._resolved.get(name, (self.knob(name).default, "default"))
        return (self.knob(name).default, "default") if source == YOURS else (value, source)

    def set_text(self, name: str, text: str) -> None:
        """Set a knob to a typed text that was checked."""
        self._typed[name] = parse(self.knob(name), text)
        self._changed()

    def neutralise(self) -> Sequence[str]:
        """Set every knob that changes what the model says to having no effect; returns those that had one."""
        from tui_trainer.config.knob_presets import SHAPING

        shaping = [knob for knob in self._knobs() if knob.name in SHAPING]
        acting = [knob for knob in shaping if self.value(knob.name)[0] != knob.default]
        for knob in shaping:
            self._typed.pop(knob.name, None)
            self._preset.pop(knob.name, None)
        # what is left comes from the model or its run, and is set against
        self._typed |= {knob.name: knob.default for knob in shaping if self.value(knob.name)[0] != knob.default}
        self._changed()
        return [knob.name for knob in acting]

    def give_back(self) -> None:
        """Forget the preset and all that was typed."""
        self._preset_name, self._preset = "", {}
        self._typed.clear()
        self._changed()

    def _knobs(self) -> list[Knob]:
        from tui_trainer.config.catalogue import sampling_knobs

        return list(sampling_knobs().values())

    def _changed(self) -> None:
        self._ignored, self._problems = {}, {}
        self._show_knobs()
        self.post_message(self.Changed())

    def _show_knobs(self) -> None:
        self.show([self._field(knob) for knob in self._knobs()])

    def _field(self, knob: Knob) -> Field:
        from tui_trainer.config.catalogue import shown

        value, source = self.value(knob.name)
        text = "" if value is None or value in ([], {}) else value if isinstance(value, str) else shown(value)
        layer = "preset" if source.startswith("preset") else _LAYERS.get(source, "default")
        return Field(
            knob.name,
            knob.name,
            text,
            layer,
            knob.kind,
            knob.choices,
            has_problem=knob.name in self._problems,
            is_ignored=knob.name in self._ignored,
        )

    def about(self) -> tuple[str, str]:
        """What the knob under the cursor does, takes and comes from; and what is wrong with it or the others."""
        field = self.field
        if field is None:
            return "", ""
        from tui_trainer.config.catalogue import shown

        knob = self.knob(field.key)
        _, source = self.value(knob.name)
        unit = f" {knob.unit}" if knob.unit else ""
        unset = ", or unset" if knob.is_optional else ""
        default = "unset" if knob.default is None else shown(knob.default)
        origin = f"From {_ORIGINS.get(source, source)}; default {default}."
        text = f"{knob.help} Takes {knob.expected}{unit}{unset}. {origin}"
        wrong = self._problems.get(knob.name, "")
        if not wrong and knob.name in self._ignored:
            wrong = f"No effect: {self._ignored[knob.name]}."
        if not wrong and self._problems:
            name, message = next(iter(self._problems.items()))
            wrong = f"{name} {message}"
        return text, wrong

    def action_step(self, direction: int) -> None:
        """Step a number; toggle a switch or take the next choice."""
        field = self.field
        knob = self.knob(field.key) if field is not None else None
        if knob is None or knob.kind not in ("int", "float"):
            super().action_step(direction)
            return
        text = stepped(knob, self.value(knob.name)[0], direction)
        try:
            parse(knob, text)
        except ValueError:  # the end of its range
            return
        self.set_text(knob.name, text)

    @on(FieldList.ValueTyped)
    def _value_typed(self, message: FieldList.ValueTyped) -> None:
        if type(message) is FieldList.ValueTyped:
            message.stop()
            self.set_text(message.key, message.text)

    @on(FieldList.ResetRequested)
    def _reset_requested(self, message: FieldList.ResetRequested) -> None:
        message.stop()
        self._typed.pop(message.key, None)
        self._preset.pop(message.key, None)
        self._changed()


def stepped(knob: Knob, value: Any, direction: int) -> str:
    """The number beside a knob's value: 0.05 or 0.1 further, whole numbers by about a tenth; as text.

    A knob that is unset begins at the least it takes.
    """
    least = next((int(limit) for sign, limit in knob.limits if sign in (">", ">=")), 0)
    if value is None:
        return str(least)
    if knob.kind == "float":
        is_share = any(sign == "<=" and limit <= 1 for sign, limit in knob.limits)
        step = 0.05 if is_share else 0.1
        return f"{round(value / step + direction) * step:.2f}"
    step = 10 ** max(len(str(abs(value))) - 2, 0)
    return str(value + direction * step)


def parse(knob: Knob, text: str) -> Any:
    """The value a typed text means for a knob.

    Raises:
        ValueError: it is no permitted value; the message says what is.
    """
    from tui_trainer.config.catalogue import parse_text

    return parse_text(knob, text)
