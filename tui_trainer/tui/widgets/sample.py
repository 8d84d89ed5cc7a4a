"""A row as it will be trained on: the data behind the token views."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

IGNORED_LABEL = -100


@dataclass(frozen=True)
class Turn:
    """A span of tokens of one role."""

    start: int
    end: int
    is_trained: bool
    role: str
    text: str


@dataclass(frozen=True)
class Sample:
    """The data worker's answer to `sample`, typed.

    Attributes:
        tokens: the text of each token.
        labels: the label of each token, -100 where it is not trained.
        turns: spans that cover all tokens in order.
        problems: code and message of what is wrong with the row.
        record: the row as JSON text.
    """

    row: int
    input_ids: Sequence[int]
    labels: Sequence[int]
    attention_mask: Sequence[int]
    position_ids: Sequence[int]
    tokens: Sequence[str]
    turns: Sequence[Turn]
    problems: Sequence[tuple[str, str]] = ()
    record: str = ""
    is_truncated: bool = False
    special: frozenset[int] = field(default_factory=frozenset)

    @property
    def num_tokens(self) -> int:
        """Length of the row."""
        return len(self.input_ids)

    @cached_property
    def num_trained(self) -> int:
        """Tokens that count in the loss."""
        return sum(label != IGNORED_LABEL for label in self.labels)

    def is_trained(self, token: int) -> bool:
        """Whether a token counts in the loss."""
        return token < len(self.labels) and self.labels[token] != IGNORED_LABEL

    def turn_of(self, token: int) -> tuple[int, Turn] | None:
        """Number and span of the turn a token is in."""
        return next(((at, turn) for at, turn in enumerate(self.turns) if turn.start <= token < turn.end), None)

    def next_change(self, token: int, direction: int) -> int:
        """The next token, in a direction, at which trained and untrained meet; the same token if there is none."""
        at = token + direction
        while 0 <= at < self.num_tokens:
            if at > 0 and self.is_trained(at) != self.is_trained(at - 1) and at != token:
                return at
            at += direction
        return token

    @classmethod
    def of(cls, answer: dict[str, Any]) -> Sample:
        """From the worker's answer."""
        ids = list(answer.get("input_ids") or ())
        return cls(
            row=int(answer.get("row", 0)),
            input_ids=ids,
            labels=list(answer.get("labels") or ()),
            attention_mask=list(answer.get("attention_mask") or [1] * len(ids)),
            position_ids=list(answer.get("position_ids") or range(len(ids))),
            tokens=[str(text) for text in answer.get("tokens") or ()],
            turns=tuple(_turns(answer.get("spans") or ())),
            problems=tuple(_problems(answer.get("problems") or ())),
            record=str(answer.get("raw") or ""),
            is_truncated=bool(answer.get("truncated")),
            special=frozenset(answer.get("special_ids") or ()),
        )


def _turns(spans: Sequence[dict[str, Any]]) -> Iterator[Turn]:
    for span in spans:
        yield Turn(
            int(span.get("start", 0)),
            int(span.get("end", 0)),
            bool(span.get("trained")),
            str(span.get("role") or ""),
            str(span.get("text") or ""),
        )


def _problems(problems: Sequence[Any]) -> Iterator[tuple[str, str]]:
    for problem in problems:
        if isinstance(problem, dict):
            yield str(problem.get("code", "")), str(problem.get("message", ""))
        else:
            yield str(problem), ""
