"""Which weights an answer came from: step, folder, and a short name that changes with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import xxhash

from tui_trainer.engine.models.locate import ModelSource
from tui_trainer.engine.models.weights import ADAPTER_WEIGHTS, weight_files
from tui_trainer.errors import DataError

_READ_WHOLE = 64 << 20
_HEAD = 1 << 20


def stamp_of(source: ModelSource) -> dict[str, Any]:
    """The stamp of a model: {"step", "path", "sha"}; sha is None where the files have gone meanwhile."""
    folder = source.adapter or source.path
    return {"step": source.step, "path": str(folder), "sha": _name(source)}


def _name(source: ModelSource) -> str | None:
    digest = xxhash.xxh3_64()
    try:
        files = [source.adapter / ADAPTER_WEIGHTS] if source.adapter else weight_files(source.path)
        for file in files:
            _add(digest, file)
    except (OSError, DataError):
        return None
    return digest.hexdigest()[:12]


def _add(digest: Any, path: Path) -> None:
    """Add a file: small ones whole, of large ones the head, the size and the time of their change."""
    stat = path.stat()
    with path.open("rb") as file:
        if stat.st_size <= _READ_WHOLE:
            digest.update(file.read())
        else:
            digest.update(file.read(_HEAD))
            digest.update(f"{stat.st_size} {stat.st_mtime_ns}".encode())
