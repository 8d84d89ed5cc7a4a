"""What is inside a reply: the thoughts before the answer, the answer, the calls of tools; read from its text alone."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_THOUGHTS = (("<think>", "</think>"), ("<thinking>", "</thinking>"), ("<|begin_of_thought|>", "<|end_of_thought|>"))
_TAGGED_CALL = re.compile(r"<(tool_call|function_call)>\s*(.*?)\s*(?:</\1>|\Z)", re.DOTALL)
_LISTED_CALLS = re.compile(r"(?:\[TOOL_CALLS\]|<\|python_tag\|>)\s*(.*)\Z", re.DOTALL)


@dataclass(frozen=True)
class Reply:
    """The parts of a reply.

    Attributes:
        answer: what is left without thoughts; calls of tools are still in it.
        thinking: the thoughts, None if there are none.
        is_closed: whether the thoughts came to an end.
        tool_calls: {"name", "arguments"} of each call whose JSON could be read.
    """

    answer: str
    thinking: str | None = None
    is_closed: bool = True
    tool_calls: tuple[dict[str, Any], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The parts as a JSON object."""
        thinking = None if self.thinking is None else {"text": self.thinking, "is_closed": self.is_closed}
        return {"answer": self.answer, "thinking": thinking, "tool_calls": list(self.tool_calls)}


def read_reply(text: str, prompt: str = "") -> Reply:
    """The parts of a reply.

    Args:
        text: the reply, with what it was made to begin with.
        prompt: what stands before it; where that opens a thought, as some templates do, the reply goes on with it.
    """
    for opening, closing in _THOUGHTS:
        is_open = prompt.rstrip().endswith(opening)
        start = text.lstrip()
        if is_open or start.startswith(opening):
            inner = text if is_open and not start.startswith(opening) else start.removeprefix(opening)
            thinking, closed, rest = inner.partition(closing)
            answer = rest.lstrip() if closed else ""
            return Reply(answer, thinking.strip(), bool(closed), _calls(answer))
    return Reply(text, tool_calls=_calls(text))


def _calls(text: str) -> tuple[dict[str, Any], ...]:
    written = [match[2] for match in _TAGGED_CALL.finditer(text)]
    if not written and (listed := _LISTED_CALLS.search(text)):
        written = [listed[1]]
    if not written and text.lstrip().startswith(("{", "[{")):
        written = [text.strip()]
    found = []
    for one in written:
        try:
            value = json.loads(one)
        except (ValueError, RecursionError):
            continue
        found += [call for call in (value if isinstance(value, list) else [value]) if _is_call(call)]
    return tuple(
        {"name": call["name"], "arguments": call.get("arguments", call.get("parameters")) or {}} for call in found
    )


def _is_call(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("name"), str)
        and ("arguments" in value or "parameters" in value)
    )
