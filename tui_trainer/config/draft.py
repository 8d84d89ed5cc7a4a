"""A configuration being edited: the layers below, what was typed on top, undo; the Args screen is a view of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tui_trainer.config.catalogue import catalogue, parse_text
from tui_trainer.config.resolve import Layer, Resolved, Values, resolve, values_from
from tui_trainer.config.schema import RunConfig
from tui_trainer.config.toml import dump_toml
from tui_trainer.errors import ConfigurationError

LORA = "lora"
"""The section whose presence is itself a setting: True and False switch it on and off."""


class Draft:
    """What the user is about to run. Every state of it is a valid configuration, field by field.

    Args:
        base: the layers below what is typed.
        origin: what the base is called on the screen: a preset's name, a file, a run.

    Raises:
        ConfigurationError: the base is not valid.
    """

    def __init__(self, base: Sequence[Values] = (), origin: str = "defaults") -> None:
        self.origin = origin
        self._base = tuple(base)
        self._changes: dict[str, Any] = {}
        self._history: list[dict[str, Any]] = []
        self._below = resolve(self._base)
        self._resolved = self._below

    @property
    def resolved(self) -> Resolved:
        """The configuration with the layer of each value."""
        return self._resolved

    @property
    def config(self) -> RunConfig:
        """The configuration as it stands."""
        return self._resolved.config

    @property
    def changes(self) -> Mapping[str, Any]:
        """What was typed, by dotted key."""
        return self._changes

    def value(self, key: str) -> Any:
        """The value of a dotted key."""
        return value_of(self.config, key)

    def layer(self, key: str) -> Layer:
        """Where the value of a key came from."""
        return self._resolved.layer_of(key)

    def is_default(self, key: str) -> bool:
        """Whether a key has the value it has when nobody sets it."""
        return bool(self.value(key) == (False if key == LORA else catalogue()[key].default))

    def set_text(self, key: str, text: str) -> None:
        """Set a key to what was typed.

        Raises:
            ValueError: the text is no permitted value; the message says what is.
        """
        self.set(key, parse_text(catalogue()[key], text))

    def set(self, key: str, value: Any) -> None:
        """Set a key to a value of the right type.

        Raises:
            ValueError: the value is not permitted.
        """
        changes = dict(self._changes)
        if key == LORA:
            changes = {name: old for name, old in changes.items() if name.partition(".")[0] != LORA}
            changes[LORA] = {} if value else None
        else:
            if key.startswith(f"{LORA}."):
                changes.pop(LORA, None)
            changes[key] = value
        self._become(changes)

    def set_many(self, values: Mapping[str, Any]) -> None:
        """Set several keys in one step of the history.

        Raises:
            ValueError: one of the values is not permitted; nothing is changed.
        """
        self._become({**self._changes, **values})

    def reset(self, key: str) -> None:
        """Give a key back to the layer below."""
        if key in self._changes:
            self._become({name: value for name, value in self._changes.items() if name != key})

    def undo(self) -> bool:
        """Take back the last change; whether there was one."""
        if not self._history:
            return False
        previous = self._history.pop()
        self._resolved = self._resolve(previous)
        self._changes = previous
        return True

    def to_toml(self) -> str:
        """The configuration as a file: what differs from the defaults."""
        tree: dict[str, Any] = {"name": self.config.name, "stage": self.config.stage}
        for key, knob in catalogue().items():
            if key.startswith("data.sources.") or knob.section == "" or self.is_default(key):
                continue
            tree.setdefault(knob.section, {})[knob.name] = self.value(key)
        if self.config.lora is not None:
            tree.setdefault(LORA, {})["r"] = self.config.lora.r
        if self.config.data.sources:
            tree.setdefault("data", {})["sources"] = [
                source.model_dump(exclude_defaults=True) for source in self.config.data.sources
            ]
        return dump_toml(tree)

    def _become(self, changes: dict[str, Any]) -> None:
        resolved = self._resolve(changes)
        self._history.append(self._changes)
        self._changes = changes
        self._resolved = resolved

    def _resolve(self, changes: Mapping[str, Any]) -> Resolved:
        try:
            return resolve([*self._base, values_from(Layer.TYPED, changes, "typed")])
        except ConfigurationError as error:
            raise ValueError("; ".join(problem.message for problem in error.problems)) from None


def value_of(config: RunConfig, key: str) -> Any:
    """The value of a dotted key; for a field of an absent section its default; for "lora" whether it is there."""
    if key == LORA:
        return config.lora is not None
    owner: Any = config
    *sections, name = key.split(".")
    for section in sections:
        owner = getattr(owner, section)
    return catalogue()[key].default if owner is None else getattr(owner, name)
