"""Datasets the user opened before, newest first, in a small file of the state directory."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence

from tui_trainer.paths import make_private, state_dir
from tui_trainer.runs.files import write_bytes

_FILE = "recent.json"
_MOST = 20

SAMPLES: Sequence[tuple[str, str]] = (
    ("demo:dates", "generated: dates in ten ways of writing, and their ISO form"),
    ("demo:identity", "who the model is, with general questions beside it"),
    ("demo:chat", "short conversations"),
    ("demo:stories", "plain text"),
)
"""The datasets that come with the package."""


def recent_sources() -> list[str]:
    """Paths and hub ids, newest first; an unreadable file counts as empty."""
    try:
        listed = json.loads((state_dir() / _FILE).read_bytes())
    except (OSError, ValueError):
        return []
    return [item for item in listed if isinstance(item, str)] if isinstance(listed, list) else []


def remember_source(source: str) -> None:
    """Put a source at the head of the list; a full disk is no reason to stop."""
    listed = [source, *(known for known in recent_sources() if known != source)][:_MOST]
    with contextlib.suppress(OSError):
        write_bytes(make_private(state_dir()) / _FILE, json.dumps(listed).encode())
