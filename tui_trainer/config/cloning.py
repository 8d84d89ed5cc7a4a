"""A run's configuration as one to start from again: what was chosen, not the defaults that were written out with it.

The file of a run holds every field. Called by `tui-trainer runs clone` and by the Runs screen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tui_trainer.config.draft import Draft
from tui_trainer.config.load import load_config
from tui_trainer.config.resolve import Layer, Values, typed_values, values_from
from tui_trainer.config.schema import RunConfig
from tui_trainer.config.toml import read_document

_PATHS = (
    "model.name_or_path",
    "model.tokenizer_name_or_path",
    "data.path",
    "data.eval_split",
    "data.template",
    "training.deepspeed",
    "training.fsdp_config",
    "training.accelerator_config",
)
"""Fields that may name a file relative to the folder in which the run was started."""
_NAMES_FIRST = ("data.eval_split", "data.template")
"""Those of them that name something else first."""


def clone(file: Path, assignments: Sequence[str] = (), *, started_in: Path, here: Path) -> Draft:
    """The configuration in a run's file with other values typed, as a draft.

    Args:
        file: the run's configuration.
        assignments: "key=value" each; they win over the file.
        started_in: the folder the run was started in.
        here: the folder from which the clone is started; what lies beside the run's start keeps being found.

    Raises:
        UsageError: the file is missing.
        ConfigurationError: with every problem of the file and the assignments.
    """
    config = load_config(str(file), assignments).config
    layers = [Values(Layer.FILE, read_document(file)), typed_values(assignments)]
    if started_in != here:
        typed = layers[1].document.tree
        found = {key: path for key, path in _found_paths(config, started_in).items() if not _holds(typed, key)}
        layers.append(values_from(Layer.TYPED, found, "found"))
    return Draft(layers)


def _found_paths(config: RunConfig, folder: Path) -> dict[str, Any]:
    """The fields that name something in a folder by a relative path, with the whole path in its place."""
    values = config.model_dump()
    found: dict[str, Any] = {}
    for key in _PATHS:
        section, _, name = key.partition(".")
        path = _in_folder(values[section][name], folder)
        # the split test is not the folder test, nor the template chatml a file of that name
        if path and (key not in _NAMES_FIRST or (Path(path).is_file() and Path(path).suffix)):
            found[key] = path
    sources = [source.model_dump(exclude_defaults=True) for source in config.data.sources]
    moved = [source | {"path": _in_folder(source.get("path"), folder) or source.get("path")} for source in sources]
    if moved != sources:
        found["data.sources"] = moved
    return found


def _in_folder(value: Any, folder: Path) -> str | None:
    if not isinstance(value, str) or not value or Path(value).is_absolute() or value.startswith("~"):
        return None
    path = folder / value
    try:
        return str(path) if path.exists() else None
    except OSError:  # too long for a name: no path
        return None


def _holds(tree: Mapping[str, Any], key: str) -> bool:
    section, _, name = key.partition(".")
    return name in tree.get(section, {})
