"""The manifest of a checkpoint: every file with size and digest, written last, so that a checkpoint proves itself.

Safetensors has no digest of its own: one flipped bit loads without a word. Standard library and xxhash only, so that
`runs show` can verify a checkpoint without loading the engine.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import xxhash

from tui_trainer.runs.files import read_json, sync, write_json
from tui_trainer.runs.store import MANIFEST

VERSION = 1
_CHUNK = 1 << 22


def write_manifest(directory: Path, step: int, **facts: Any) -> int:
    """Sync every file of a checkpoint to the disk and write its manifest.

    Args:
        directory: the checkpoint, still unpublished.
        step: its step.
        facts: what else the manifest is to hold.

    Returns:
        Size of the checkpoint in bytes.

    Raises:
        OSError: the disk is full.
    """
    files: dict[str, dict[str, Any]] = {}
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        sync(path)
        files[path.relative_to(directory).as_posix()] = {"bytes": path.stat().st_size, "xxh3_128": digest(path)}
    document = {"version": VERSION, "step": step, "created": time.time(), **facts, "files": files}
    write_json(directory / MANIFEST, document, durable=True)
    return sum(int(file["bytes"]) for file in files.values())


def digest(path: Path) -> str:
    """XXH3 digest (128 bits, hexadecimal) of a file."""
    state = xxhash.xxh3_128()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            state.update(chunk)
    return str(state.hexdigest())


def verify_checkpoint(directory: Path, *, deep: bool = True) -> list[str]:
    """What is wrong with a checkpoint; empty if it is whole.

    Args:
        directory: the checkpoint.
        deep: compare digests too, not only sizes.
    """
    manifest = read_json(directory / MANIFEST)
    files = manifest.get("files") if manifest else None
    if not isinstance(files, dict):
        return [f"{MANIFEST} is missing or unreadable"]
    problems = []
    for name, entry in files.items():
        path = directory / name
        try:
            size = path.stat().st_size
            if size != entry["bytes"]:
                problems.append(f"{name} has {size} bytes instead of {entry['bytes']}")
            elif deep and digest(path) != entry["xxh3_128"]:
                problems.append(f"{name} was changed or damaged")
        except OSError as error:
            problems.append(f"{name} cannot be read: {error.strerror}")
        except (KeyError, TypeError):
            problems.append(f"{MANIFEST} has no size and digest for {name}")
    return problems
