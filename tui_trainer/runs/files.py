"""Atomic and tolerant file access, shared by all that write into a run directory."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def jsonable(value: Any) -> Any:
    """`value` with non-finite numbers as the texts "NaN", "Infinity", "-Infinity", as the file contract wants."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    return value


def number(value: Any) -> float | None:
    """A number as written by `jsonable`; None if it is none."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, (int, float)):
        return float(value)
    return (
        {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}.get(value) if isinstance(value, str) else None
    )


def whole_number(value: Any) -> int | None:
    """A whole number from a file; None if it is none."""
    found = number(value)
    return int(found) if found is not None and math.isfinite(found) else None


def dump_line(value: Mapping[str, Any]) -> bytes:
    """One line of a JSON lines file, line break included."""
    return (
        json.dumps(jsonable(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode(
            "utf-8", "replace"
        )
        + b"\n"
    )


def write_json(path: Path, value: Mapping[str, Any], *, durable: bool = False) -> None:
    """Replace a file atomically: readers see the old or the new document, never a part.

    Args:
        path: the file.
        value: the document; non-finite numbers become texts.
        durable: survive a power cut too, by syncing file and directory first.

    Raises:
        OSError: the disk is full or not writable; the old file is untouched.
    """
    write_bytes(
        path, json.dumps(jsonable(value), ensure_ascii=False, indent=1).encode("utf-8", "replace"), durable=durable
    )


def write_bytes(path: Path, content: bytes, *, durable: bool = False) -> None:
    """As `write_json`, for any content. The file is readable by its owner only."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if durable:
        sync(path.parent)


def sync(path: Path) -> None:
    """Force a file or directory to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None if the file is missing, unreadable or no object."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    return parse_object(content)


def parse_object(content: bytes) -> dict[str, Any] | None:
    """The object in a JSON text; None if it is torn, or no object."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
