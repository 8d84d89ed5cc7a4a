"""The questions that a command line, a file or a pipe asks."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tui_trainer.engine.chat.prompt_file import Item, read_prompts
from tui_trainer.errors import UsageError


def prompts_of(prompts: Sequence[str], file: Path | None) -> list[Item] | None:
    """All questions, those of the options first; None if nobody asked and somebody sits at the terminal.

    Raises:
        DataError: the file cannot be read, or a line of it is no question.
        UsageError: the pipe holds nothing.
    """
    items = [Item(prompt, prompt) for prompt in prompts] + (read_prompts(file) if file else [])
    if items or file is not None:
        return items
    if sys.stdin.isatty():
        return None
    piped = sys.stdin.read().rstrip("\n")
    if not piped.strip():
        raise UsageError("there is no question", remedy="Give --prompt or --prompts, or pipe the question in.")
    return [Item(piped, piped)]
