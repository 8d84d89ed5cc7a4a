"""What is in a folder, as far as it may be opened as a dataset; for the completion of a path that is typed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tui_trainer.engine.data.sources.recognise import has_data_name

MAX_ENTRIES = 500
_MAX_LOOKED_AT = 20_000


def list_folder(path: str) -> dict[str, Any]:
    """Folders and data files of a folder, in order of their names; what is hidden is left out.

    Args:
        path: the folder, with ~ for the home; empty for the current one.

    Returns:
        `entries`, each with `name`, `is_folder` and `size` in bytes; none if there is no such folder or it cannot be
        read. `is_whole` tells whether that is all there is.
    """
    entries: list[dict[str, Any]] = []
    num_seen = 0
    try:
        with os.scandir(Path(path or ".").expanduser()) as listing:
            for entry in listing:
                num_seen += 1
                if num_seen > _MAX_LOOKED_AT:
                    break
                if not entry.name.startswith(".") and (found := _entry(entry)):
                    entries.append(found)
    except (OSError, RuntimeError, ValueError):
        return {"entries": [], "is_whole": True}
    entries.sort(key=lambda entry: (not entry["is_folder"], entry["name"].lower()))
    return {
        "entries": entries[:MAX_ENTRIES],
        "is_whole": len(entries) <= MAX_ENTRIES and num_seen <= _MAX_LOOKED_AT,
    }


def _entry(entry: os.DirEntry[str]) -> dict[str, Any] | None:
    try:
        if entry.is_dir():
            return {"name": entry.name, "is_folder": True, "size": 0}
        size = entry.stat().st_size
    except OSError:
        # a dangling link
        return None
    return {"name": entry.name, "is_folder": False, "size": size} if has_data_name(entry.name) else None
