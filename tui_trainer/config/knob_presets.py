"""Sampling knobs under a name: only what differs from what the model itself asks for, in a file a preset.

Files lie in the configuration folder, `knobs/NAME.toml`, flat tables of knobs; used by the Chat screen and `chat`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tui_trainer import paths
from tui_trainer.config.catalogue import check_value, sampling_knobs
from tui_trainer.config.toml import dump_toml, read_document
from tui_trainer.errors import ConfigurationError, Problem, UsageError, WorkbenchError

_SUFFIX = ".toml"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

SHAPING = frozenset(
    {
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "presence_penalty",
        "frequency_penalty",
        "repetition_penalty",
        "min_tokens",
        "ignore_eos",
        "logit_bias",
        "bad_words",
        "allowed_token_ids",
        "use_beam_search",
        "length_penalty",
        "early_stopping",
        "best_of",
    }
)
"""The knobs that change what the model says, which neutralising sets to having no effect; not how long or how often."""


@dataclass(frozen=True)
class KnobPreset:
    """Some knobs under a name.

    Attributes:
        name: the file's name without its suffix.
        values: knob to value, only what is set.
        path: the file; None for those that come with the package.
        problem: why it cannot be used; empty if it can.
    """

    name: str
    values: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None
    problem: str = ""


SHIPPED = (
    KnobPreset("greedy", {"temperature": 0.0}),
    KnobPreset("careful", {"temperature": 0.3, "top_p": 0.9}),
    KnobPreset("balanced", {"temperature": 0.7, "top_p": 0.95, "min_p": 0.05}),
    KnobPreset("lively", {"temperature": 1.2, "min_p": 0.1}),
    KnobPreset("beams", {"temperature": 0.0, "use_beam_search": True, "beam_width": 4}),
)
"""The presets that come with the package; one of the user's own takes the place of one of the same name."""


def knob_presets_dir() -> Path:
    """Where the user's own are."""
    return paths.config_dir() / "knobs"


def list_knob_presets() -> list[KnobPreset]:
    """All presets; a file with mistakes is listed with its problem."""
    found = {preset.name: preset for preset in SHIPPED}
    for path in sorted(knob_presets_dir().glob(f"*{_SUFFIX}")):
        try:
            found[path.stem] = KnobPreset(path.stem, _read(path), path)
        except WorkbenchError as error:
            found[path.stem] = KnobPreset(path.stem, path=path, problem=str(error))
    return list(found.values())


def find_knob_preset(name: str) -> KnobPreset:
    """The preset of that name.

    Raises:
        UsageError: there is none; the message has the nearest name, or all of them.
        ConfigurationError: its file has mistakes; all are named.
    """
    presets = {preset.name: preset for preset in list_knob_presets()}
    found = presets.get(name)
    if found is None:
        near = difflib.get_close_matches(name, presets, n=1, cutoff=0.5)
        remedy = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(presets)}."
        raise UsageError(f"there is no knob preset {name!r}", remedy=remedy)
    if found.problem and found.path is not None:
        _read(found.path)
    return found


def save_knob_preset(name: str, values: Mapping[str, Any]) -> Path:
    """Write a preset, in place of one of the same name.

    Args:
        name: letters, digits, dots, dashes.
        values: the knobs that are set.

    Raises:
        UsageError: the name will not do, nothing is set, or the file cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name for a preset", remedy="Letters, digits, dots, dashes, at most 64.")
    if not values:
        raise UsageError("no knob is set, so there is nothing to keep", remedy="Set one first.")
    path = knob_presets_dir() / f"{name}{_SUFFIX}"
    # TOML has no "not set"; a knob that was unset on purpose is written as a text that `_read` knows
    tree = {knob: "none" if value is None else value for knob, value in values.items()}
    try:
        paths.make_private(path.parent)
        path.write_text(dump_toml(tree), "utf-8")
    except OSError as error:
        raise UsageError(f"cannot be written: {error.strerror}", where=str(path)) from None
    return path


def _read(path: Path) -> dict[str, Any]:
    document = read_document(path)
    knobs = sampling_knobs()
    values: dict[str, Any] = {}
    problems = []
    for name, value in document.tree.items():
        knob = knobs.get(name)
        if knob is None:
            problems.append(Problem(name, "there is no such knob", where=document.where((name,))))
            continue
        try:
            values[name] = check_value(knob, None if value == "none" and knob.is_optional else value)
        except ValueError as error:
            problems.append(Problem(name, str(error), where=document.where((name,))))
    if problems:
        raise ConfigurationError.of(problems)
    return values
