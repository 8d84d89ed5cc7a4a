"""An example: one row as tokens and labels, with what is wrong with it. Made by `pipeline`, read by everything else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tui_trainer.engine.data.problems import Code, RowProblem

IGNORED = -100
"""Label of a token that does not count in the loss."""

LOSS_WEIGHTS = "loss_weights"
"""Key of the weights in items and batches; absent where every label weighs 1."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Tokens that come from one text of the row.

    Attributes:
        start: first token.
        end: token behind the last.
        role: who says it.
    """

    start: int
    end: int
    role: str


@dataclass(frozen=True, slots=True)
class Span:
    """Neighbouring tokens of one origin.

    Attributes:
        start: first token.
        end: token behind the last.
        is_trained: whether they count in the loss.
        weight: how much each of them counts in the loss, if they do.
        role: who says it: system, user, assistant, tool; template for what the chat template adds; text for plain text.
        text: the exact decoded text of the tokens.
    """

    start: int
    end: int
    is_trained: bool
    role: str
    text: str
    weight: float = 1.0

    def to_dict(self) -> dict[str, Any]:
        """The span as the contract has it; with its weight where that is not 1."""
        span = {"start": self.start, "end": self.end, "trained": self.is_trained, "role": self.role, "text": self.text}
        return span if self.weight == 1 else {**span, "weight": self.weight}


@dataclass(frozen=True, slots=True)
class Weighted:
    """Trained tokens that count more or less than others.

    Attributes:
        start: first token.
        end: token behind the last.
        weight: how much each counts in the loss, above 0.
    """

    start: int
    end: int
    weight: float


@dataclass(slots=True)
class Example:
    """A row, or a piece of it, as it is trained on.

    Attributes:
        row: number of the row in the whole.
        input_ids: token ids; empty if the row is of no use.
        trained: stretches of tokens that count in the loss, as (start, end), in order. The first token of an example
            is in none: nothing precedes it, so nothing predicts it.
        weighted: those of them that do not weigh 1.
        text: the text the tokens come from, before anything was cut.
        problems: what is wrong with the row.
        is_usable: whether it is trained on.
        is_truncated: whether tokens were cut off.
        num_tokens_before: tokens before anything was cut.
        has_prompt: whether part of it is there to be answered; plain text has none.
        stretches: where the tokens come from; only where they were asked for.
        spans: the same covering all tokens, with text; only where they were asked for.
        messages: the conversation; only where spans were asked for.
    """

    row: int
    input_ids: list[int] = field(default_factory=list)
    trained: list[tuple[int, int]] = field(default_factory=list)
    weighted: list[Weighted] = field(default_factory=list)
    text: str = ""
    problems: list[RowProblem] = field(default_factory=list)
    is_usable: bool = True
    is_truncated: bool = False
    num_tokens_before: int = 0
    has_prompt: bool = False
    stretches: list[Stretch] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)

    @property
    def num_tokens(self) -> int:
        """Tokens of the example."""
        return len(self.input_ids)

    @property
    def num_trained(self) -> int:
        """Tokens that count in the loss."""
        return sum(end - start for start, end in self.trained)

    @property
    def codes(self) -> set[Code]:
        """The codes of its problems."""
        return {problem.code for problem in self.problems}

    @property
    def labels(self) -> list[int]:
        """The ids where they count in the loss, -100 elsewhere."""
        labels = [IGNORED] * len(self.input_ids)
        for start, end in self.trained:
            labels[start:end] = self.input_ids[start:end]
        return labels

    @property
    def loss_weights(self) -> np.ndarray | None:
        """How much each token counts in the loss, float32, shape (num_tokens,); None where all that count weigh 1."""
        return weights_of(self.num_tokens, self.weighted) if self.weighted else None


def weights_of(num_tokens: int, weighted: Iterable[Weighted]) -> np.ndarray:
    """One weight a token, float32, shape (num_tokens,)."""
    weights = np.ones(num_tokens, dtype=np.float32)
    for stretch in weighted:
        weights[stretch.start : stretch.end] = stretch.weight
    return weights


def example_arrays(example: Example) -> dict[str, np.ndarray]:
    """An example as the store would give it: `input_ids` and `labels`, int64, and `loss_weights` if it has them."""
    arrays = {name: np.array(getattr(example, name), dtype=np.int64) for name in ("input_ids", "labels")}
    weights = example.loss_weights
    return arrays if weights is None else {**arrays, LOSS_WEIGHTS: weights}
