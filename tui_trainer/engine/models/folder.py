"""What a folder on the disk holds: a model, an adapter, a tokenizer, code of its own. Only JSON and names are read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tui_trainer.errors import DataError

ADAPTER_CONFIG = "adapter_config.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "tekken.json")
_LOADING_KEYS = (
    "_attn",
    "attn_implementation",
    "_experts_implementation",
    "experts_implementation",
    "trust_remote_code",
)
"""Keys of config.json with which a model can name a kernel of the hub or consent to its own code."""


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file that has to be there.

    Raises:
        DataError: the file is missing, unreadable or no object.
    """
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from None
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"is not valid JSON: {error}", where=str(path), remedy="Fetch or save the model again."
        ) from None
    if not isinstance(value, dict):
        raise DataError("holds no JSON object", where=str(path), remedy="Fetch or save the model again.")
    return value


def is_model(folder: Path) -> bool:
    """Whether a folder holds a whole model's configuration."""
    return (folder / "config.json").is_file() and not is_adapter(folder)


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds a PEFT adapter."""
    return (folder / ADAPTER_CONFIG).is_file()


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a tokenizer's vocabulary."""
    return any((folder / name).is_file() for name in TOKENIZER_FILES)


@dataclass(frozen=True)
class ForeignCode:
    """What in a model's folder asks for more than arithmetic.

    Attributes:
        classes: class name to "module.Class" of the repository, from `auto_map`.
        files: the Python files beside the model.
        keys: keys of config.json that reach beyond the model: kernels, nested consent, addresses.
    """

    classes: Mapping[str, str]
    files: tuple[str, ...]
    keys: tuple[str, ...]

    @property
    def summary(self) -> str:
        """What it asks for, in one phrase; empty if nothing."""
        parts = []
        if self.classes:
            named = ", ".join(f"{name} from {target}" for name, target in self.classes.items())
            parts.append(f"code of its own ({named})")
        if self.keys:
            parts.append(f"these keys in config.json: {', '.join(self.keys)}")
        return " and ".join(parts)


def foreign_code(folder: Path) -> ForeignCode:
    """Look through the configurations in a folder for code of the repository and keys that load something else."""
    classes: dict[str, str] = {}
    keys: list[str] = []
    for name in ("config.json", "tokenizer_config.json"):
        if not (folder / name).is_file():
            continue
        config = read_object(folder / name)
        auto_map = config.get("auto_map")
        if isinstance(auto_map, dict):
            classes |= {str(key): _class_name(target) for key, target in auto_map.items()}
        if name == "config.json":
            keys.extend(_suspicious(config, ""))
    return ForeignCode(classes, tuple(sorted(path.name for path in folder.glob("*.py"))), tuple(keys))


def _class_name(target: Any) -> str:
    """An `auto_map` value is a class, or a slow and a fast one of a tokenizer, either of which may be null."""
    if isinstance(target, list):
        return " or ".join(str(item) for item in target if item)
    return str(target)


def _suspicious(config: Mapping[str, Any], prefix: str) -> Iterable[str]:
    for key, value in config.items():
        is_address = isinstance(value, str) and value.startswith(("http://", "https://"))
        if is_address or key.startswith(_LOADING_KEYS):
            yield f"{prefix}{key} = {json.dumps(value)[:80]}"
        elif isinstance(value, dict):
            yield from _suspicious(value, f"{prefix}{key}.")
