"""What one or two models think of the same tokens: log-probabilities side by side, and how far the models are apart."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tui_trainer.engine.generate.candidates import TokenLogprob
from tui_trainer.engine.generate.logprobs import CHUNK, logprobs_of
from tui_trainer.engine.generate.runner import Runner


@dataclass(frozen=True, slots=True)
class Weighed:
    """A token under two models.

    Attributes:
        a: its probability under the first.
        b: under the second; None if there is none.
        kl: Kullback-Leibler divergence of the second from the first at this place, over the whole vocabulary, in nats:
            the mean of log(b / a) over what the second would say. None if there is no second.
    """

    a: TokenLogprob
    b: TokenLogprob | None = None
    kl: float | None = None

    @property
    def difference(self) -> float | None:
        """How much more probable the second finds it, in nats."""
        return None if self.b is None else self.b.logprob - self.a.logprob


@dataclass(frozen=True)
class Party:
    """A model and what it was given.

    Attributes:
        runner: runs its tokens.
        prompt_ids: what stands before the tokens that are weighed, at least one.
    """

    runner: Runner
    prompt_ids: Sequence[int]


def weigh(
    a: Party, b: Party | None, ids: Sequence[int], *, num_top: int = 0, check: Callable[[], None] = lambda: None
) -> list[Weighed]:
    """The probability of each token of a text under one or two models, one forward pass each.

    Args:
        a: the first model.
        b: the second, with the same vocabulary; it may have been given another prompt.
        ids: the text.
        num_top: how many of the most probable tokens to list in each place.
        check: called between chunks; what it raises ends the work.

    Raises:
        RunFailedError: a model's output is not a number.
    """
    if not ids:
        return []
    weighed: list[Weighed] = []
    under_second = _chunks(b, ids, check) if b is not None else itertools.repeat(None)
    for logits_a, logits_b in zip(_chunks(a, ids, check), under_second, strict=False):
        place = len(weighed)
        following = torch.tensor(list(ids[place : place + len(logits_a)]))
        under_a = logprobs_of(logits_a, following.to(logits_a.device), num_top)
        if logits_b is None:
            weighed += [Weighed(token) for token in under_a]
            continue
        under_b = logprobs_of(logits_b, following.to(logits_b.device), num_top)
        divergence = kl_divergence(logits_a, logits_b.to(logits_a.device)).tolist()
        weighed += [Weighed(*each) for each in zip(under_a, under_b, divergence, strict=True)]
    return weighed


def kl_divergence(logits_a: Tensor, logits_b: Tensor) -> Tensor:
    """KL(b || a) of each row, in nats; where one vocabulary is padded, over what both have. [rows, vocabulary] each."""
    size = min(logits_a.shape[-1], logits_b.shape[-1])
    log_a, log_b = logits_a[:, :size].log_softmax(-1), logits_b[:, :size].log_softmax(-1)
    return (log_b.exp() * (log_b - log_a)).sum(-1).clamp_(min=0)


def mean_logprob(tokens: Sequence[TokenLogprob]) -> float | None:
    """Mean log-probability of a token; None if there is none."""
    return sum(token.logprob for token in tokens) / len(tokens) if tokens else None


def perplexity(mean: float | None) -> float | None:
    """Perplexity of a mean log-probability; infinite where it overflows."""
    if mean is None:
        return None
    return math.exp(-mean) if mean > -700 else math.inf


def _chunks(party: Party, ids: Sequence[int], check: Callable[[], None]) -> Iterator[Tensor]:
    whole = [*party.prompt_ids, *ids]
    for _, logits in party.runner.all_logits(whole[:-1], CHUNK, check, start=len(party.prompt_ids) - 1):
        yield logits
