"""Finding a text or a regular expression in rows; used by `browse` to search and by `cells` to show what was found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import regex

from tui_trainer.engine.data.rows import BadRow, Row
from tui_trainer.errors import UsageError

_MAX_SECONDS = 0.5
"""What an expression may take on one text; some would take years."""

_ESCAPES = regex.compile(r"\\.")


class Matcher:
    """Looks for a text in the values of rows, nested ones too.

    Capitals count only if the text has some.

    Args:
        text: what is looked for.
        is_regex: whether it is a regular expression.

    Raises:
        UsageError: the expression is not valid.
    """

    def __init__(self, text: str, *, is_regex: bool) -> None:
        letters = _ESCAPES.sub("", text) if is_regex else text
        self._is_exact = letters != letters.lower()
        self._needle = "" if is_regex else text
        flags = 0 if self._is_exact else regex.IGNORECASE
        try:
            self._pattern = regex.compile(text if is_regex else regex.escape(text), flags)
        except regex.error as error:
            raise UsageError(
                f"is no regular expression: {error}", where=text, remedy="Search for it as a text instead."
            ) from None

    def matches(self, value: Row | BadRow) -> bool:
        """Whether some value of a row holds it; of an unreadable row the message is looked at.

        Raises:
            TimeoutError: the expression takes too long.
        """
        return any(map(self._is_in, texts_of(value)))

    def place(self, text: str) -> tuple[int, int] | None:
        """Where it is first found in a text, as start and end.

        Raises:
            TimeoutError: the expression takes too long.
        """
        found = self._pattern.search(text, timeout=_MAX_SECONDS, concurrent=True)
        return found.span() if found else None

    def _is_in(self, text: str) -> bool:
        if self._needle:
            # far faster than the expression, and the same
            return self._needle in text if self._is_exact else self._needle in text.lower()
        return self._pattern.search(text, timeout=_MAX_SECONDS, concurrent=True) is not None


def texts_of(value: Any) -> Iterator[str]:
    """The texts of a value, however deep; numbers, true, false and null as JSON writes them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from texts_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts_of(item)
    elif isinstance(value, BadRow):
        yield value.message
    else:
        yield json.dumps(value, default=str)
