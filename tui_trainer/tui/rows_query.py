"""Which rows of a dataset are shown, as it is typed and as it is told; the screens of Data use it."""

from __future__ import annotations

import re

from tui_trainer.text import safe_line
from tui_trainer.tui import format as fmt
from tui_trainer.wire.row_query import ANY_PROBLEM, RowQuery

ORDER_WORDS: dict[str, str] = {
    "": "as in the data",
    "longest": "longest first",
    "shortest": "shortest first",
    "most_trained": "most trained tokens first",
    "least_trained": "fewest trained tokens first",
}
"""Orders of the rows, in words."""

_LENGTHS = re.compile(r"\s*(\d*)\s*(\.\.|-|:)\s*(\d*)\s*")
_SHOWN_CHARACTERS = 40


def query_words(query: RowQuery) -> str:
    """What is shown, in one line."""
    text = safe_line(query.text[:_SHOWN_CHARACTERS]) + ("…" if len(query.text) > _SHOWN_CHARACTERS else "")
    words = [f"/{text}/" if query.is_regex else f"“{text}”"] if query.text else []
    words += [f"{query.problem} problem" if query.problem == ANY_PROBLEM else safe_line(query.problem)] * bool(
        query.problem
    )
    if lengths := lengths_text(query.min_tokens, query.max_tokens):
        words.append(f"{lengths} tokens")
    words += [ORDER_WORDS[query.order]] if query.order else []
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
