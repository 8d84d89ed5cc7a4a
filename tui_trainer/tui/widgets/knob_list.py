"""The sampling knobs as a list: what the model asks for, what was typed on top, what has no effect."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from textual import on

from tui_trainer.tui.widgets.field_list import Field, FieldList

if TYPE_CHECKING:
    from tui_trainer.config.catalogue import Knob


class KnobList(FieldList):
    """The fields of `SamplingParams` with their values and where these came from."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._defaults: dict[str, tuple[Any, str]] = {}
        self._typed: dict[str, Any] = {}
        self._ignored: frozenset[str] = frozenset()

    def set_defaults(self, values: Mapping[str, Any], layer: str) -> None:
        """Lay values below what is typed: the configuration's ("preset"), then the model's own ("model")."""
        self._defaults |= {name: (value, layer) for name, value in values.items()}
        self._show_knobs()

    def set_ignored(self, names: Iterable[str]) -> None:
        """Mark the knobs that had no effect on the last answer."""
        self._ignored = frozenset(names)
        self._show_knobs()

    def params(self) -> dict[str, Any]:
        """The knobs that differ from vLLM's defaults or were typed, for the worker."""
        known = {knob.name for knob in self._knobs()}
        values = {name: value for name, (value, _) in self._defaults.items()} | self._typed
        return {name: value for name, value in values.items() if name in known}

    def knob(self, name: str) -> Knob:
        """A knob by name."""
        return next(knob for knob in self._knobs() if knob.name == name)

    def set_text(self, name: str, text: str) -> None:
        """Set a knob to a typed text that was checked."""
        self._typed[name] = parse(self.knob(name), text)
        self._ignored = frozenset()
        self._show_knobs()

    def neutralise(self) -> None:
        """Give all knobs back."""
        self._typed.clear()
        self._show_knobs()

    def _knobs(self) -> list[Knob]:
        from tui_trainer.config.catalogue import knobs_of
        from tui_trainer.config.sampling import SamplingParams

        return knobs_of(SamplingParams)

    def _show_knobs(self) -> None:
        from tui_trainer.config.catalogue import shown

        fields = []
        for knob in self._knobs():
            value, layer = self._defaults.get(knob.name, (knob.default, "default"))
            if knob.name in self._typed:
                value, layer = self._typed[knob.name], "typed"
            text = "" if value is None or value == [] else value if isinstance(value, str) else shown(value)
            is_ignored = knob.name in self._ignored
            fields.append(Field(knob.name, knob.name, text, layer, knob.kind, knob.choices, is_ignored=is_ignored))
        self.show(fields)

    @on(FieldList.ValueTyped)
    def _value_typed(self, message: FieldList.ValueTyped) -> None:
        if type(message) is FieldList.ValueTyped:
            message.stop()
            self.set_text(message.key, message.text)

    @on(FieldList.ResetRequested)
    def _reset_requested(self, message: FieldList.ResetRequested) -> None:
        message.stop()
        self._typed.pop(message.key, None)
        self._show_knobs()


def parse(knob: Knob, text: str) -> Any:
    """The value a typed text means for a knob.

    Raises:
        ValueError: it is no permitted value; the message says what is.
    """
    from tui_trainer.config.catalogue import parse_text

    return parse_text(knob, text)
