"""From layers of values to one configuration that knows where each value came from.

Layers, from below: the defaults, a preset, a file, what the user typed (`--set`, the Args screen). What is typed beats
a file, a file beats a preset. All problems are reported at once, each with file, line, key and the nearest name.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from tui_trainer.config.catalogue import ALIASES, catalogue, find_key, parse_text, section_keys, shown
from tui_trainer.config.schema import RunConfig
from tui_trainer.config.toml import Document, KeyPath
from tui_trainer.config.training import RESERVED
from tui_trainer.errors import ConfigurationError, Problem


class Layer(StrEnum):
    """Where a value came from."""

    DEFAULT = "default"
    PRESET = "preset"
    FILE = "file"
    TYPED = "typed"


@dataclass(frozen=True)
class Values:
    """The values of one layer."""

    layer: Layer
    document: Document


@dataclass(frozen=True)
class Resolved:
    """A configuration and the layer of each value that is not a default."""

    config: RunConfig
    layers: Mapping[str, Layer]

    def layer_of(self, key: str) -> Layer:
        """The layer that set a dotted key."""
        return self.layers.get(key, Layer.DEFAULT)


def typed_values(assignments: Sequence[str]) -> Values:
    """The layer of `--set key=value` options.

    Raises:
        ConfigurationError: an assignment has no "=", names no field, or its value is not permitted.
    """
    tree: dict[str, Any] = {}
    problems = []
    for assignment in assignments:
        name, separator, text = assignment.partition("=")
        name = name.strip()
        key = find_key(name)
        where = f"--set {assignment}"
        if not separator:
            problems.append(Problem(name, "has no value", "write key=value", where))
        elif key is None:
            problems.append(Problem(name, _unknown(tuple(name.split("."))), where=where))
        else:
            try:
                _put(
                    tree,
                    key,
                    parse_text(catalogue()[ALIASES.get(key, key)], text) if key not in _CONVERTED else _plain(text),
                )
            except ValueError as error:
                problems.append(Problem(key, str(error), where=where))
    if problems:
        raise ConfigurationError.of(problems)
    return Values(Layer.TYPED, Document("--set", tree))


def values_from(layer: Layer, changes: Mapping[str, Any], origin: str) -> Values:
    """A layer of dotted keys and values, as the Args screen holds them."""
    tree: dict[str, Any] = {}
    for key, value in changes.items():
        _put(tree, key, value)
    return Values(layer, Document(origin, tree))


def resolve(layers: Sequence[Values]) -> Resolved:
    """Merge layers, the later ones winning, and validate the result.

    Raises:
        ConfigurationError: with every problem found.
    """
    merged: dict[str, Any] = {}
    origins: dict[str, Values] = {}
    problems: list[Problem] = []
    for layer in layers:
        values, found = _without_aliases(layer)
        problems.extend(found)
        _merge(merged, values.document.tree, (), values, origins)
    try:
        config: RunConfig | None = RunConfig.model_validate(merged)
    except ValidationError as error:
        problems.extend(_problems(error, origins))
        config = None
    if problems or config is None:
        raise ConfigurationError.of(problems)
    return Resolved(config, {key: values.layer for key, values in origins.items()})


def _put(tree: dict[str, Any], key: str, value: Any) -> None:
    *parents, name = key.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[name] = value


def _plain(text: str) -> Any:
    return parse_text(catalogue()["data.eval_split"], text) if text not in ("true", "false") else text == "true"


def _merge(
    into: dict[str, Any], tree: Mapping[str, Any], path: KeyPath, values: Values, origins: dict[str, Values]
) -> None:
    """Sections are merged key by key; anything else, tables that are values among it, is replaced whole."""
    for name, value in tree.items():
        key = ".".join(map(str, (*path, name)))
        if key in section_keys() and isinstance(value, Mapping):
            inner = into.get(name)
            into[name] = inner if isinstance(inner, dict) else {}
            origins.setdefault(key, values)
            _merge(into[name], value, (*path, name), values, origins)
        else:
            into[name] = value
            origins[key] = values


def _ratio(value: Any) -> Any:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1:
        return float(value)
    raise ValueError(f"must be a number at least 0 and below 1, not {shown(value)}")


def _group_by_length(value: Any) -> str:
    if isinstance(value, bool):
        return "group_by_length" if value else "random"
    raise ValueError(f"must be true or false, not {shown(value)}")


_CONVERTED = {"training.warmup_ratio": _ratio, "training.group_by_length": _group_by_length}
"""Aliases whose value has to be rewritten for the field they stand for."""


def _without_aliases(values: Values) -> tuple[Values, list[Problem]]:
    """The layer with aliases replaced by the names of the schema, which take over their lines."""
    document = values.document
    tree = {name: dict(value) if isinstance(value, Mapping) else value for name, value in document.tree.items()}
    lines = dict(document.lines)
    problems = []
    for alias, key in ALIASES.items():
        section, _, name = alias.rpartition(".")
        table = tree.get(section)
        if not isinstance(table, dict) or name not in table:
            continue
        value = table.pop(name)
        target_section, _, target = key.rpartition(".")
        target_table = tree.setdefault(target_section, {})
        path = (*section.split("."), name)
        if target in target_table:
            problems.append(
                Problem(
                    alias,
                    f"is another name for {key}, which is set too",
                    "keep one of them",
                    document.where(path),
                )
            )
        else:
            try:
                target_table[target] = _CONVERTED.get(alias, lambda same: same)(value)
            except ValueError as error:
                problems.append(Problem(alias, str(error), where=document.where(path)))
            if path in lines:
                lines[(*target_section.split("."), target)] = lines[path]
    return Values(values.layer, Document(document.path, tree, lines)), problems


def _problems(error: ValidationError, origins: Mapping[str, Values]) -> Iterator[Problem]:
    """One problem for each wrong key; pydantic reports several for a field of several types."""
    seen = set()
    for detail in error.errors(include_url=False):
        path, knob_key = _known_part(detail["loc"])
        key = ".".join(map(str, path))
        if key in seen:
            continue
        seen.add(key)
        values = next((origins[part] for part in _ancestors(path) if part in origins), None)
        where = values.document.where(path) if values else ""
        if detail["type"] == "extra_forbidden":
            yield Problem(key, _unknown(path), where=where)
        elif knob_key:
            yield Problem(key, f"must be {catalogue()[knob_key].expected}, not {_brief(detail['input'])}", where=where)
        else:
            yield Problem(
                key, f"must be a section, not {_brief(detail['input'])}", f"write [{key}] and its keys below", where
            )


def _known_part(location: Sequence[str | int]) -> tuple[KeyPath, str | None]:
    """The part of a pydantic location that is a path in the file, and the knob it names."""
    for end in range(len(location), 0, -1):
        key = ".".join(part for part in location[:end] if isinstance(part, str))
        if key in catalogue():
            return tuple(location[:end]), key
    return tuple(location), None


def _ancestors(path: KeyPath) -> Iterator[str]:
    for end in range(len(path), 0, -1):
        yield ".".join(map(str, path[:end]))


def _brief(value: Any) -> str:
    text = shown(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _unknown(path: KeyPath) -> str:
    """What to say of a key that does not exist: why, or which name is nearest."""
    section = ".".join(str(part) for part in path[:-1] if isinstance(part, str))
    name = str(path[-1])
    if section == "training" and name in RESERVED:
        return f"cannot be set: {RESERVED[name]}"
    names = {key.rpartition(".")[2]: key for key in (*catalogue(), *ALIASES, *section_keys())}
    siblings = {
        key.rpartition(".")[2]: key
        for key in (*catalogue(), *ALIASES, *section_keys())
        if key.rpartition(".")[0] == section
    }
    if name in names:
        return f"unknown key; did you mean {names[name]}?"
    for candidates in (siblings, names):
        if near := difflib.get_close_matches(name, candidates, n=1, cutoff=0.7):
            return f"unknown key; did you mean {candidates[near[0]]}?"
    return "unknown key"
