"""Real chat templates where they are installed: of the package `trl`, or in the folder TUI_TRAINER_TEMPLATES."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

from tests.engine.data.helpers import said

CALL = {"type": "function", "id": "abcdefghi", "function": {"name": "weather", "arguments": {"city": "Paris"}}}
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]
CONVERSATIONS: dict[str, list[dict[str, Any]]] = {
    "one": said("First question?", "First reply."),
    "three": said(
        "First question?", "First reply.", "Second one!", "Second reply, longer.", "And then?", "Third reply."
    ),
    "system": [{"role": "system", "content": "Be brief."}, *said("First question?", "First reply.", "More?", "No.")],
    "reasoning": [
        {"role": "user", "content": "First question?"},
        {"role": "assistant", "content": "First reply.", "reasoning_content": "thought", "thinking": "thought"},
        {"role": "user", "content": "More?"},
        {"role": "assistant", "content": "No.", "reasoning_content": "thought again", "thinking": "thought again"},
    ],
    "tools": [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "22 degrees", "name": "weather", "tool_call_id": "abcdefghi"},
        {"role": "assistant", "content": "It is warm."},
    ],
}


def installed_templates() -> list[Path]:
    """The template files; none where neither the package nor the folder is there."""
    folder = os.environ.get("TUI_TRAINER_TEMPLATES")
    spec = None if folder else importlib.util.find_spec("trl")
    if spec and spec.submodule_search_locations:
        folder = str(Path(next(iter(spec.submodule_search_locations))) / "chat_templates")
    return sorted(Path(folder).glob("*.jinja")) if folder else []
