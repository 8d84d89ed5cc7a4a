"""Errors of libraries in one line, for the sentences shown to the user."""

from __future__ import annotations

from tui_trainer.text import shortened

_LONGEST = 300


def first_line(error: BaseException) -> str:
    """The first line of an error's text that says something: a heading that ends in a colon is passed over."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    line = lines[1] if len(lines) > 1 and lines[0].endswith(":") else lines[0]
    return shortened(line, _LONGEST)
