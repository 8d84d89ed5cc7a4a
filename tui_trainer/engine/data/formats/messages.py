"""Conversations made uniform: OpenAI messages and ShareGPT turns become the messages that chat templates take.

Null keys are dropped, roles are put into the templates' words, text parts are joined, arguments of tool calls become
objects. What cannot be put into text is refused with the reason; nothing is ever printed as a Python object.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tui_trainer.engine.data.formats.roles import ROLE_ALIASES
from tui_trainer.engine.data.problems import Code, UnusableRowError

Message = dict[str, Any]
"""role, content, and where present tool_calls, tool_call_id, name, reasoning_content, weight."""

PART_SEPARATOR = "\n"
"""Between the text parts of one message, as inference servers join them."""

_ROLE_KEYS = ("role", "from")
_CONTENT_KEYS = ("content", "value", "text")
_REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
_WEIGHT_KEYS = ("weight", "loss_weight", "train", "training")
_MAX_WEIGHT = 1e6
_KEPT_KEYS = ("name", "tool_call_id")
_PLAIN_KEYS = {"role", "content"}
_PLAIN_ROLES = ("user", "assistant", "system")
_TEXT_PARTS = ("text", "input_text", "output_text")
_PRINTED_OBJECT = re.compile(r"""\s*(\[\s*\{\s*'|\{\s*')\w+'\s*:""")
_THOUGHT = re.compile(r"\A\s*<think>(.*?)</think>\s*", re.DOTALL)


def clean_messages(value: Any, column: str) -> list[Message]:
    """The messages of a conversation.

    Args:
        value: a list of messages or turns, or its JSON text.
        column: its column, for messages to the user.

    Raises:
        UnusableRowError: it is no conversation, or a message cannot be text.
    """
    turns = _as_list(value, column)
    return [_clean(turn, f"{column}.{number}") for number, turn in enumerate(turns)]


def clean_message(value: Any, column: str, role: str) -> Message:
    """A single message: a text, which `role` says, or a message or turn of its own."""
    if isinstance(value, str):
        return {"role": role, "content": checked_text(value, column)}
    if not isinstance(value, Mapping):
        raise UnusableRowError(_missing(value), f"{column} is {kind_of(value)}, not text or a message")
    return _clean(value, column)


def checked_text(value: Any, column: str) -> str:
    """A text that may be trained on.

    Raises:
        UnusableRowError: it is null, no text, the printed form of a Python object, or no valid Unicode.
    """
    if not isinstance(value, str):
        raise UnusableRowError(_missing(value), f"{column} is {kind_of(value)}, not text")
    if _PRINTED_OBJECT.match(value):
        raise UnusableRowError(Code.SCHEMA, f"{column} is a printed Python object, not text: {value[:60]}")
    return value


def clean_tools(value: Any, column: str) -> list[dict[str, Any]] | None:
    """Tool descriptions as templates take them, from a list or its JSON text; None if there are none.

    Raises:
        UnusableRowError: it is neither.
    """
    if value is None or value in ("", [], "[]"):
        return None
    if isinstance(value, str):
        value = _parsed(value, column)
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(tool, Mapping) for tool in value):
        raise UnusableRowError(Code.SCHEMA, f"{column} is {kind_of(value)}, not a list of tools")
    return [
        dict(tool) if "function" in tool or "name" not in tool else {"type": "function", "function": dict(tool)}
        for tool in value
    ]


def without_reasoning(messages: Sequence[Message]) -> list[Message]:
    """The messages without the thoughts of the assistant, in their own field or at the start of the content."""
    cleaned = []
    for message in messages:
        kept = {key: value for key, value in message.items() if key not in _REASONING_KEYS}
        if kept["role"] == "assistant" and isinstance(kept.get("content"), str):
            kept["content"] = _THOUGHT.sub("", kept["content"])
        cleaned.append(kept)
    return cleaned


def kind_of(value: Any) -> str:
    """A JSON value's kind in words."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case dict():
            return "an object"
        case _:
            return f"a value of type {type(value).__name__}"


def _as_list(value: Any, column: str) -> list[Any]:
    if isinstance(value, str) and value.strip():
        value = _parsed(value, column)
    if not isinstance(value, list):
        raise UnusableRowError(_missing(value), f"{column} is {kind_of(value)}, not a list of messages")
    if not value:
        raise UnusableRowError(Code.NO_TRAINED_TOKENS, f"{column} has no message")
    return value


def _parsed(text: str, column: str) -> Any:
    if _PRINTED_OBJECT.match(text):
        raise UnusableRowError(Code.SCHEMA, f"{column} is a printed Python object, not JSON: {text[:60]}")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise UnusableRowError(Code.SCHEMA, f"{column} is text that is not JSON") from None


def _missing(value: Any) -> Code:
    return Code.NULL_FIELD if value is None else Code.SCHEMA


def _clean(turn: Any, column: str) -> Message:
    if isinstance(turn, dict) and turn.keys() == _PLAIN_KEYS and turn["role"] in _PLAIN_ROLES:
        # what most messages of most datasets look like
        return {"role": turn["role"], "content": _content_of_plain(turn["content"], turn["role"], column)}
    if not isinstance(turn, Mapping):
        raise UnusableRowError(_missing(turn), f"{column} is {kind_of(turn)}, not a message")
    role = _role(turn, column)
    content = next((turn[key] for key in _CONTENT_KEYS if turn.get(key) is not None), None)
    if role == "function_call":
        return {
            "role": "assistant",
            "content": "",
            "tool_calls": _calls_of_text(content, column),
            **_weight(turn, column),
        }
    calls = _tool_calls(turn, column)
    reasoning = next((turn[key] for key in _REASONING_KEYS if turn.get(key) is not None), None)
    message: Message = {"role": role}
    message["content"] = "" if content is None and calls else _content_of_plain(content, role, column)
    if isinstance(reasoning, str) and reasoning:
        message["reasoning_content"] = message["thinking"] = checked_text(reasoning, f"{column}.reasoning")
    if calls:
        message["tool_calls"] = calls
    for key in _KEPT_KEYS:
        if isinstance(turn.get(key), str):
            message[key] = turn[key]
    return message | _weight(turn, column)


def _content_of_plain(content: Any, role: str, column: str) -> str:
    if content is None:
        raise UnusableRowError(Code.NULL_FIELD, f"{column}.content of the {role} is null or missing")
    return _content(content, f"{column}.content")


def _role(turn: Mapping[str, Any], column: str) -> str:
    role = next((turn[key] for key in _ROLE_KEYS if turn.get(key) is not None), None)
    if not isinstance(role, str):
        raise UnusableRowError(_missing(role), f"{column} has no role")
    known = ROLE_ALIASES.get(role.strip().lower())
    if known is None:
        raise UnusableRowError(
            Code.SCHEMA, f"{column} has the unknown role {role[:40]!r}; known are system, user, assistant and tool"
        )
    return known


def _content(value: Any, column: str) -> str:
    if not isinstance(value, list):
        return checked_text(value, column)
    texts = []
    for number, part in enumerate(value):
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, Mapping) and part.get("type", "text") in _TEXT_PARTS:
            texts.append(checked_text(part.get("text"), f"{column}.{number}.text"))
        else:
            kind = part.get("type") if isinstance(part, Mapping) else kind_of(part)
            raise UnusableRowError(Code.UNSUPPORTED_PART, f"{column}.{number} is a part of type {kind!s:.40}, not text")
    return PART_SEPARATOR.join(texts)


def _tool_calls(turn: Mapping[str, Any], column: str) -> list[dict[str, Any]]:
    calls = turn.get("tool_calls")
    if not calls:
        single = turn.get("function_call")
        calls = [{"function": single}] if isinstance(single, Mapping) else []
    if isinstance(calls, str):
        calls = _parsed(calls, f"{column}.tool_calls")
    if not isinstance(calls, list):
        raise UnusableRowError(Code.SCHEMA, f"{column}.tool_calls is {kind_of(calls)}, not a list")
    return [_tool_call(call, f"{column}.tool_calls.{number}") for number, call in enumerate(calls)]


def _tool_call(call: Any, column: str) -> dict[str, Any]:
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise UnusableRowError(Code.SCHEMA, f"{column} names no function")
    arguments = function.get("arguments", function.get("parameters"))
    if isinstance(arguments, str):
        arguments = _arguments(arguments)
    cleaned: dict[str, Any] = {"type": "function"}
    if isinstance(call.get("id"), str):
        cleaned["id"] = call["id"]
    cleaned["function"] = {"name": function["name"], "arguments": {} if arguments is None else arguments}
    return cleaned


def _arguments(text: str) -> Any:
    """Arguments written as JSON text, as the OpenAI API has them; text that is none stays text."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict) else text


def _calls_of_text(content: Any, column: str) -> list[dict[str, Any]]:
    """The calls in a ShareGPT turn "function_call"."""
    value = _parsed(content, f"{column}.value") if isinstance(content, str) else content
    calls = value if isinstance(value, list) else [value]
    return [_tool_call(call, f"{column}.value") for call in calls]


def _weight(turn: Mapping[str, Any], column: str) -> dict[str, float]:
    """How much the message counts in the loss, where the row says so; 0 for not at all."""
    key = next((key for key in _WEIGHT_KEYS if isinstance(turn.get(key), (int, float))), None)
    if key is None:
        return {}
    weight = float(turn[key])
    if not 0 <= weight <= _MAX_WEIGHT:
        raise UnusableRowError(Code.SCHEMA, f"{column}.{key} is {weight:g}, not from 0 to {_MAX_WEIGHT:g}")
    return {"weight": weight}
