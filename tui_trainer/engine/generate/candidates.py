"""What the decode loop yields: a step for each token, a candidate for each answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

FinishReason = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """The probability of a token where it was chosen, as the model gave it: before penalties and temperature.

    Attributes:
        id: the token.
        logprob: natural logarithm of its probability.
        rank: 1 for the most probable; None if nobody asked.
        top: the most probable tokens there with their log-probabilities, best first.
    """

    id: int
    logprob: float
    rank: int | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class TokenStep:
    """One more token of one candidate.

    Attributes:
        candidate: which, from 0.
        token: the token and its probability.
        text: what can be shown now; empty while a character or a stop string may be unfinished.
        finish_reason: why the candidate ended with this token, None if it goes on.
        stop_reason: the token id or text that ended it, where it stopped by itself.
    """

    candidate: int
    token: TokenLogprob
    text: str
    finish_reason: FinishReason | None = None
    stop_reason: int | str | None = None


@dataclass
class Candidate:
    """One answer.

    Attributes:
        index: its number in the stream.
        text: what is shown of it.
        tokens: its tokens, the one that ended it included.
        finish_reason: why it ended; "cancelled" until it does.
        stop_reason: the token id or text that ended it, where it stopped by itself.
    """

    index: int
    text: str = ""
    tokens: list[TokenLogprob] = field(default_factory=list)
    finish_reason: FinishReason = "cancelled"
    stop_reason: int | str | None = None

    @property
    def ids(self) -> list[int]:
        """The ids of its tokens."""
        return [token.id for token in self.tokens]

    @property
    def cumulative_logprob(self) -> float:
        """Logarithm of the probability of the whole answer."""
        return sum(token.logprob for token in self.tokens)
