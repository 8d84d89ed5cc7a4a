"""A row as it will be trained on: the data behind the token views. Of its tokens only a window is there at a time."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

IGNORED_LABEL = -100

_ROLE_LINE = re.compile(r"^\s*\w+\n+")


@dataclass(frozen=True)
class Turn:
    """A span of tokens of one role.

    Attributes:
        start: first token.
        end: token behind the last.
        is_trained: whether they count in the loss.
        role: who says it; template for what the chat template adds.
        text: their text, cut where the row is very long.
        num_characters: length of the whole text.
        weight: how much each of them counts in the loss.
    """

    start: int
    end: int
    is_trained: bool
    role: str
    text: str
    num_characters: int = 0
    weight: float = 1.0


@dataclass(frozen=True)
class RowProblem:
    """What is wrong with a row.

    Attributes:
        code: the kind of problem.
        message: what it is here.
        token: where it begins, None if nowhere in particular.
    """

    code: str
    message: str = ""
    token: int | None = None


@dataclass(frozen=True)
class Sample:
    """The data worker's answer to `sample`, typed.

    Attributes:
        row: number of the row.
        num_tokens: length of the row.
        first: the token that the window begins with.
        input_ids: ids of the window.
        tokens: the text of each token of the window.
        turns: spans that cover all tokens in order.
        added: stretches of tokens that the template puts in by itself, as (start, end).
        problems: what is wrong with the row.
        record: the row as JSON text, cut where it is very long.
        record_characters: length of the whole record.
        num_tokens_before: tokens before anything was cut.
        num_pieces: examples the row is split into.
        piece: which of them this is, from 0.
        is_truncated: whether tokens were cut off.
        is_usable: whether it is trained on.
        special: ids of special tokens.
        where: where the row stands.
        template: name and source of the chat template, empty for none.
    """

    row: int
    num_tokens: int
    first: int
    input_ids: Sequence[int]
    tokens: Sequence[str]
    turns: Sequence[Turn]
    added: Sequence[tuple[int, int]] = ()
    problems: Sequence[RowProblem] = ()
    record: str = ""
    record_characters: int = 0
    num_tokens_before: int = 0
    num_pieces: int = 1
    piece: int = 0
    is_truncated: bool = False
    is_usable: bool = True
    special: frozenset[int] = field(default_factory=frozenset)
    where: str = ""
    template: str = ""

    @property
    def end(self) -> int:
        """The token behind the window."""
        return self.first + len(self.input_ids)

    @cached_property
    def num_trained(self) -> int:
        """Tokens that count in the loss."""
        return sum(turn.end - turn.start for turn in self.turns if turn.is_trained)

    @cached_property
    def _starts(self) -> list[int]:
        return [turn.start for turn in self.turns]

    def turn_of(self, token: int) -> tuple[int, Turn] | None:
        """Number and span of the turn a token is in."""
        at = bisect.bisect_right(self._starts, token) - 1
        return (at, self.turns[at]) if at >= 0 and token < self.turns[at].end else None

    def is_trained(self, token: int) -> bool:
        """Whether a token counts in the loss."""
        found = self.turn_of(token)
        return found is not None and found[1].is_trained

    def weight(self, token: int) -> float:
        """How much a token counts in the loss, 0 where it does not."""
        found = self.turn_of(token)
        return found[1].weight if found is not None and found[1].is_trained else 0.0

    def is_added(self, token: int) -> bool:
        """Whether the template put a token in by itself."""
        return any(start <= token < end for start, end in self.added)

    @property
    def added_text(self) -> str:
        """What the template puts in by itself, as far as it is in the window."""
        stretches = [range(max(start, self.first), min(end, self.end)) for start, end in self.added]
        texts = ("".join(map(self.text_of, stretch)) for stretch in stretches if stretch)
        # the name of the role before it says nothing
        return " … ".join(_ROLE_LINE.sub("", text) for text in texts)

    def is_known(self, token: int) -> bool:
        """Whether a token is in the window."""
        return self.first <= token < self.end

    def id_of(self, token: int) -> int:
        """Id of a token of the window."""
        return self.input_ids[token - self.first]

    def text_of(self, token: int) -> str:
        """Text of a token of the window."""
        return self.tokens[token - self.first]

    def label_of(self, token: int) -> int:
        """Label of a token of the window."""
        return self.id_of(token) if self.is_trained(token) else IGNORED_LABEL

    @cached_property
    def _changes(self) -> list[int]:
        """Tokens at which trained and untrained meet."""
        pairs = zip(self.turns, self.turns[1:], strict=False)
        return [turn.start for before, turn in pairs if before.is_trained != turn.is_trained]

    def next_change(self, token: int, direction: int) -> int:
        """The next token, in a direction, at which trained and untrained meet; the same token if there is none."""
        if direction > 0:
            at = bisect.bisect_right(self._changes, token)
            return self._changes[at] if at < len(self._changes) else token
        at = bisect.bisect_left(self._changes, token) - 1
        return self._changes[at] if at >= 0 else token

    def first_difference(self) -> RowProblem | None:
        """The first problem that has a place: where training differs from what a chat feeds."""
        placed = [problem for problem in self.problems if problem.token is not None]
        return min(placed, key=lambda problem: problem.token or 0, default=None)

    def with_window(self, answer: dict[str, Any]) -> Sample:
        """The same row with other tokens in its window.

        Args:
            answer: the data worker's answer to `tokens`.
        """
        return replace(self, **_window(answer))

    @classmethod
    def of(cls, answer: dict[str, Any]) -> Sample:
        """From the worker's answer."""
        window, template = _window(answer), answer.get("template")
        return cls(
            row=int(answer.get("row", 0)),
            num_tokens=int(answer.get("num_tokens", len(window["input_ids"]))),
            turns=tuple(_turns(answer.get("spans") or ())),
            added=[(int(start), int(end)) for start, end in answer.get("added") or ()],
            problems=tuple(_problems(answer.get("problems") or ())),
            record=str(answer.get("raw") or ""),
            record_characters=int(answer.get("raw_characters") or 0),
            num_tokens_before=int(answer.get("num_tokens_before") or 0),
            num_pieces=int(answer.get("num_pieces") or 1),
            piece=int(answer.get("piece") or 0),
            is_truncated=bool(answer.get("truncated")),
            is_usable=bool(answer.get("usable", True)),
            where=str(answer.get("where") or ""),
            template=f"{template.get('name')} ({template.get('source')})" if template else "",
            **window,
        )


def _window(answer: dict[str, Any]) -> dict[str, Any]:
    return {
        "first": int(answer.get("first") or 0),
        "input_ids": list(answer.get("input_ids") or ()),
        "tokens": [str(text) for text in answer.get("tokens") or ()],
        "special": frozenset(answer.get("special_ids") or ()),
    }


def _turns(spans: Sequence[dict[str, Any]]) -> Iterator[Turn]:
    for span in spans:
        text = str(span.get("text") or "")
        yield Turn(
            int(span.get("start", 0)),
            int(span.get("end", 0)),
            bool(span.get("trained")),
            str(span.get("role") or ""),
            text,
            int(span.get("num_characters", len(text))),
            float(span.get("weight", 1.0)),
        )


def _problems(problems: Sequence[dict[str, Any]]) -> Iterator[RowProblem]:
    for problem in problems:
        token = problem.get("token")
        code, message = str(problem.get("code", "")), str(problem.get("message", ""))
        yield RowProblem(code, message, token if isinstance(token, int) else None)
