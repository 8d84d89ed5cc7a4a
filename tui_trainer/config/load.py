"""From what the user names on the command line to a resolved configuration; `cli` and `tui` call it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tui_trainer.config.presets import SUFFIX, find_preset
from tui_trainer.config.resolve import Layer, Resolved, Values, resolve, typed_values
from tui_trainer.config.toml import read_document
from tui_trainer.errors import ConfigurationError, Problem, UsageError


def load_config(reference: str, assignments: Sequence[str] = ()) -> Resolved:
    """The configuration that a file or a preset and typed assignments make.

    Args:
        reference: path of a TOML file, or the name of a preset. What looks like a path is one.
        assignments: "key=value" each, as after `--set`; they win over the file.

    Raises:
        UsageError: there is neither such a file nor such a preset.
        ConfigurationError: with every problem of the file and the assignments.
    """
    layers = [_values(reference)]
    problems: list[Problem] = []
    try:
        layers.append(typed_values(assignments))
    except ConfigurationError as error:
        problems.extend(error.problems)
    try:
        resolved = resolve(layers)
    except ConfigurationError as error:
        raise ConfigurationError.of([*error.problems, *problems]) from None
    if problems:
        raise ConfigurationError.of(problems)
    return _without_granted_code(resolved, reference)


def read_layers(reference: str) -> list[Values]:
    """The layers below what is typed, for a configuration that goes on being edited.

    Raises:
        UsageError: there is neither such a file nor such a preset.
        ConfigurationError: with every problem of the file.
    """
    load_config(reference)
    return [_values(reference)]


def _values(reference: str) -> Values:
    path = Path(reference).expanduser()
    if reference.endswith(SUFFIX) or "/" in reference or path.is_file():
        return Values(Layer.FILE, read_document(path))
    try:
        preset = find_preset(reference)
    except UsageError as error:
        raise UsageError(f"there is no file and no preset {reference!r}", remedy=error.remedy) from None
    return Values(Layer.PRESET, read_document(preset.path))


def _without_granted_code(resolved: Resolved, reference: str) -> Resolved:
    """The configuration, unless a preset alone would have a stranger's code run."""
    key = "model.trust_remote_code"
    if resolved.config.model.trust_remote_code and resolved.layer_of(key) is Layer.PRESET:
        problem = Problem(
            key,
            "a preset alone cannot grant it: the code of the model's repository would run on this machine",
            f"if you trust it, say so yourself: --set {key}=true",
            f"preset {reference}",
        )
        raise ConfigurationError.of([problem])
    return resolved
