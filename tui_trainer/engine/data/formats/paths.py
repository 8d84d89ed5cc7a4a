"""Dotted paths into nested columns: "answer.text", "instances.0.output"; a column whose own name has dots wins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ABSENT: Any = object()
"""What `look_up` returns where a row has no such column."""


def look_up(row: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path, or `ABSENT`."""
    if path in row:
        return row[path]
    value: Any = row
    for part in path.split("."):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.lstrip("-").isdecimal() and -len(value) <= int(part) < len(value):
            value = value[int(part)]
        else:
            return ABSENT
    return value
