"""What could play which role in a dataset: formats with their roles, and paths into the rows; for the screen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tui_trainer.engine.data.cells import cell_text
from tui_trainer.engine.data.formats.roles import FORMATS
from tui_trainer.engine.data.rows import value_type
from tui_trainer.engine.data.session import DataSession

_SAMPLE_ROWS = 32
_MAX_PATHS = 400
_MAX_DEPTH = 3
_EXAMPLE_CHARACTERS = 80


def mapping_document(session: DataSession) -> dict[str, Any]:
    """The format and mapping as they are, and all that could be chosen instead.

    Returns:
        `format` and `columns` as found; `formats`, for each name its `required` and `optional` roles; `paths`, for each
        dotted path its `type` and an `example`.
    """
    spec = session.opened.specs[0]
    paths: dict[str, dict[str, str]] = {}
    for record in session.records(0, _SAMPLE_ROWS):
        if isinstance(record.value, dict):
            for path, value in _paths(record.value):
                if len(paths) < _MAX_PATHS and (path not in paths or paths[path]["type"] == "null"):
                    example = cell_text(value)[:_EXAMPLE_CHARACTERS]
                    paths[path] = {"path": path, "type": value_type(value), "example": example}
    return {
        "format": spec.format,
        "columns": dict(spec.columns),
        "formats": {
            name: {"required": list(roles.required), "optional": list(roles.optional)}
            for name, roles in FORMATS.items()
        },
        "paths": list(paths.values()),
    }


def _paths(row: dict[str, Any], before: str = "", depth: int = 1) -> Iterator[tuple[str, Any]]:
    """Dotted paths into a row with their values: into nested columns, and into the first item of a list of them."""
    for name, value in row.items():
        path = f"{before}{name}"
        yield path, value
        if depth >= _MAX_DEPTH:
            continue
        if isinstance(value, dict):
            yield from _paths(value, f"{path}.", depth + 1)
        elif isinstance(value, list) and value and isinstance(value[0], dict) and "role" not in value[0]:
            yield from _paths(value[0], f"{path}.0.", depth + 1)
