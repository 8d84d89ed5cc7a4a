"""The questions that a command line, a file or a pipe asks."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tui_trainer.engine.chat.prompt_file import read_prompts
from tui_trainer.engine.chat.question import Question
from tui_trainer.errors import UsageError

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
    asked: list[Asked] = [*prompts, *(item.asked for item in read_prompts(file))] if file else [*prompts]
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
