"""The questions that a command line, a file or a pipe asks."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tui_trainer.engine.chat.question import Question
from tui_trainer.errors import DataError, UsageError

Asked = str | list[dict[str, Any]]
"""A question alone, or the conversation that ends with it."""


def questions_of(
    prompts: Sequence[str], file: Path | None, system: str | None, knobs: Mapping[str, Any], *, is_templated: bool
) -> list[Question] | None:
    """All questions, those of the options first; None if nobody asked and somebody sits at the terminal.

    Raises:
        DataError: the file cannot be read, or a line of it is no question.
        UsageError: the pipe holds nothing.
    """
    asked: list[Asked] = [*prompts, *(_from_file(file) if file else ())]
    if not asked and file is None:
        if sys.stdin.isatty():
            return None
        piped = sys.stdin.read().rstrip("\n")
        if not piped.strip():
            raise UsageError("there is no question", remedy="Give --prompt or --prompts, or pipe the question in.")
        asked = [piped]
    return [
        Question(prompt=one, params=knobs)
        if isinstance(one, str) and not is_templated
        else Question(messages=with_system(one, system), params=knobs)
        for one in asked
    ]


def with_system(asked: Asked, system: str | None) -> list[dict[str, Any]]:
    """A question as a conversation, begun with a system message if there is one and it has none of its own."""
    messages = [{"role": "user", "content": asked}] if isinstance(asked, str) else list(asked)
    if system and not any(message.get("role") == "system" for message in messages):
        messages.insert(0, {"role": "system", "content": system})
    return messages


def _from_file(path: Path) -> Iterator[Asked]:
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"is not UTF-8 text (byte {error.start})", where=str(path)) from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from None
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    if not lines:
        raise DataError("holds no question", where=str(path), remedy="Write one question a line.")
    for number, line in lines:
        yield line if path.suffix.lower() not in (".jsonl", ".json") else _from_json(line, f"{path}:{number}")


def _from_json(line: str, where: str) -> Asked:
    try:
        value: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not valid JSON: {error}", where=where, remedy="Each line has to be an object.") from None
    asked = value.get("prompt", value.get("messages")) if isinstance(value, dict) else value
    if isinstance(asked, str) and asked:
        return asked
    if isinstance(asked, list) and asked and all(isinstance(message, dict) for message in asked):
        return asked
    raise DataError('asks nothing: it has neither "prompt" nor "messages"', where=where)
