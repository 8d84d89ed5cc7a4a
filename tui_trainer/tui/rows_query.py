"""Which rows of a dataset are shown, as the Data screen asks for them; the worker's `Query` is its twin."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields
from typing import Any

from tui_trainer.text import safe_line
from tui_trainer.tui import format as fmt

ORDERS: dict[str, str] = {
    "": "as in the data",
    "longest": "longest first",
    "shortest": "shortest first",
    "most_trained": "most trained tokens first",
    "least_trained": "fewest trained tokens first",
}
"""Orders of the rows, in words."""

ANY_PROBLEM = "any"
"""Stands for every problem code."""

_LENGTHS = re.compile(r"\s*(\d*)\s*(\.\.|-|:)\s*(\d*)\s*")
_SHOWN_CHARACTERS = 40


@dataclass(frozen=True)
class RowQuery:
    """What a row has to be like to be shown.

    Attributes:
        text: some value of it holds this.
        is_regex: whether the text is a regular expression.
        problem: code of a problem it has.
        min_tokens: tokens it has at least.
        max_tokens: tokens it has at most.
        order: one of `ORDERS`.
    """

    text: str = ""
    is_regex: bool = False
    problem: str = ""
    min_tokens: int | None = None
    max_tokens: int | None = None
    order: str = ""

    @property
    def is_all(self) -> bool:
        """Whether it shows all rows in their own order."""
        return self == RowQuery()

    def to_dict(self) -> dict[str, Any]:
        """What the worker is asked: what differs from the defaults."""
        return {name.name: value for name in fields(self) if (value := asdict(self)[name.name]) != name.default}

    def words(self) -> str:
        """What is shown, in one line."""
        text = safe_line(self.text[:_SHOWN_CHARACTERS]) + ("…" if len(self.text) > _SHOWN_CHARACTERS else "")
        words = [f"/{text}/" if self.is_regex else f"“{text}”"] if self.text else []
        words += [f"{self.problem} problem" if self.problem == ANY_PROBLEM else safe_line(self.problem)] * bool(
            self.problem
        )
        if lengths := lengths_text(self.min_tokens, self.max_tokens):
            words.append(f"{lengths} tokens")
        words += [ORDERS[self.order]] if self.order else []
        return " · ".join(words)


def parse_search(text: str) -> tuple[str, bool]:
    """What was typed to be searched for, and whether it is a regular expression: /…/.

    Raises:
        ValueError: the expression is not valid.
    """
    if len(text) > 2 and text.startswith("/") and text.endswith("/"):
        try:
            re.compile(text[1:-1])
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from None
        return text[1:-1], True
    return text, False


def parse_lengths(text: str) -> tuple[int | None, int | None]:
    """Least and most tokens from "100..200", "100..", "..200"; None where one is left open.

    Raises:
        ValueError: it is no range.
    """
    if not text.strip():
        return None, None
    match = _LENGTHS.fullmatch(text)
    if match is None:
        raise ValueError("write it as 100..200, 100.. or ..200")
    least, most = (int(part) if part else None for part in match.group(1, 3))
    if least is not None and most is not None and least > most:
        raise ValueError("the first number is the smaller one")
    return least, most


def lengths_text(least: int | None, most: int | None) -> str:
    """The inverse of `parse_lengths`, for people."""
    if least is None and most is None:
        return ""
    return f"{'' if least is None else fmt.count(least)}..{'' if most is None else fmt.count(most)}"
