"""Choosing the next token: penalties, temperature, truncation and the draw, with vLLM's meaning and order.

Order (vllm/v1/sample/sampler.py): `restrictions`, then repetition, frequency and presence penalty; then
either the most probable token, or temperature, min_p, top_k, top_p and a draw. Log-probabilities are taken from the
logits as the model gave them, before any of this.

A truncated distribution needs only the most probable tokens, so only the top slice of the vocabulary is sorted; the
rare row whose slice is too small is sorted in full. Each row draws with one uniform number of its own generator: what
row i gets depends on the seed and on i, not on how many rows there are.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from tui_trainer.config.sampling import SamplingParams
from tui_trainer.engine.generate.knobs import LOWEST_TEMPERATURE, is_greedy
from tui_trainer.engine.generate.penalties import Penalties
from tui_trainer.engine.generate.restrictions import Restrictions

_SLICE = 1024
"""Most probable tokens looked at for top_p before the whole vocabulary is sorted."""
_TIES = 64
"""More than top_k tokens are looked at by this many, so that all tokens equal to the last one are kept."""


class Sampler:
    """Chooses the next token of several rows that go on from one prompt.

    Args:
        params: the knobs.
        prompt_ids: the prompt; repetition_penalty counts its tokens too.
        held_back: tokens that may not be chosen before `params.min_tokens`.
        seed: row i draws with `seed + i`.
        num_rows: how many rows there are at the start.
        device: where the logits are.
        bad_words: the texts that are never written, as tokens.
    """

    def __init__(
        self,
        params: SamplingParams,
        prompt_ids: Sequence[int],
        held_back: Iterable[int],
        seed: int,
        num_rows: int,
        device: torch.device,
        *,
        bad_words: Sequence[Sequence[int]] = (),
    ) -> None:
        self._params = params
        self._is_greedy = is_greedy(params)
        self._restrictions = Restrictions(params, held_back, bad_words, device)
        self._penalties = Penalties(params, prompt_ids, device)
        self._generators = [random.Random(seed + row) for row in range(num_rows)]  # noqa: S311 - not for secrets
        self._counts: list[Counter[int]] = [Counter() for _ in range(num_rows)]
        self._answers: list[list[int]] = [[] for _ in range(num_rows)]
        self._num_chosen = 0

    def choose(self, logits: Tensor) -> Tensor:
        """The next token of each row.

        Args:
            logits: [rows, vocabulary], float32, as the model gave them; left as they are.

        Returns:
            [rows], the chosen ids.
        """
        processed = self._penalties.apply(self._restricted(logits), self._counts)
        chosen = processed.argmax(-1) if self._is_greedy else self._draw(processed)
        if self._penalties.is_active:
            for counts, token in zip(self._counts, chosen.tolist(), strict=True):
                counts[token] += 1
        if self._restrictions.needs_answers:
            for answer, token in zip(self._answers, chosen.tolist(), strict=True):
                answer.append(token)
        self._num_chosen += 1
        return chosen

    def take(self, tokens: Sequence[int]) -> None:
        """Count tokens as chosen by every row already, as those of an answer that is gone on with."""
        for counts, answer in zip(self._counts, self._answers, strict=True):
            counts.update(tokens)
            answer.extend(tokens)
        self._num_chosen += len(tokens)

    def distribution(self, logits: Tensor) -> Tensor:
        """The probabilities with which the next token is drawn.

        Args:
            logits: [rows, vocabulary], float32, as the model gave them.

        Returns:
            [rows, vocabulary]; 0 where a token cannot be chosen.
        """
        processed = self._penalties.apply(self._restricted(logits), self._counts)
        if self._is_greedy:
            return torch.zeros_like(logits).scatter_(1, processed.argmax(-1, keepdim=True), 1.0)
        values, ids, is_enough = truncated(processed, self._params)
        if is_enough is not None and not bool(is_enough.all()):
            values, ids, _ = truncated(processed, self._params, is_whole=True)
        probabilities = values.softmax(-1)
        return probabilities if ids is None else torch.zeros_like(logits).scatter_(1, ids, probabilities)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only."""
        self._generators = [self._generators[row] for row in rows]
        self._counts = [self._counts[row] for row in rows]
        self._answers = [self._answers[row] for row in rows]

    def _restricted(self, logits: Tensor) -> Tensor:
        return self._restrictions.apply(logits, self._num_chosen, self._answers)

    def _draw(self, logits: Tensor) -> Tensor:
        numbers = [generator.random() for generator in self._generators]
        uniform = torch.tensor(numbers, dtype=torch.float64, device=logits.device)
        values, ids, is_enough = truncated(logits, self._params)
        chosen = _inverse_cdf(values, ids, uniform)
        if is_enough is not None:
            for row in (~is_enough).nonzero()[:, 0].tolist():
                values, ids, _ = truncated(logits[row : row + 1], self._params, is_whole=True)
                chosen[row] = _inverse_cdf(values, ids, uniform[row : row + 1])[0]
        return chosen


def truncated(
    logits: Tensor, params: SamplingParams, *, is_whole: bool = False
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Temperature, min_p, top_k and top_p.

    Args:
        logits: [rows, vocabulary], float32.
        params: the knobs; not greedy.
        is_whole: sort the whole vocabulary instead of its top slice.

    Returns:
        The tempered logits [rows, kept], -inf where a token is left out; the ids they belong to, None if they are the
        vocabulary in order; for each row whether the slice held all that counts, None if it certainly did.
    """
    vocabulary = logits.shape[-1]
    temperature = max(params.temperature, LOWEST_TEMPERATURE)
    has_top_k = 0 < params.top_k < vocabulary
    if not has_top_k and params.top_p >= 1:
        return _above_min_p(logits / temperature, params.min_p), None, None
    size = vocabulary if is_whole else min(vocabulary, params.top_k + _TIES if has_top_k else _SLICE)
    values, ids = logits.topk(size, dim=-1)
    values = values / temperature
    is_enough: Tensor | None = None
    if has_top_k:
        smallest = values[:, params.top_k - 1 : params.top_k]
        is_enough = values[:, -1] < smallest[:, 0]
        values = values.masked_fill(values < smallest, -math.inf)
    kept = _above_min_p(values, params.min_p)
    if params.top_p < 1:
        # A token's share is that among all tokens which min_p and top_k leave, also those outside the slice.
        left = kept if has_top_k else _above_min_p(logits / temperature, params.min_p)
        shares = torch.exp(kept - left.logsumexp(-1, keepdim=True))
        reached = shares.cumsum(-1)
        if not has_top_k:
            is_enough = (reached[:, -1] >= params.top_p) | (kept[:, -1] == -math.inf)
        kept = kept.masked_fill(reached - shares >= params.top_p, -math.inf)
    return kept, ids, is_enough if size < vocabulary else None


def _above_min_p(values: Tensor, min_p: float) -> Tensor:
    """Leave out what is less probable than min_p times the most probable; in logits that is a difference of its log."""
    if min_p <= 0:
        return values
    return values.masked_fill(values < values.amax(-1, keepdim=True) + math.log(min_p), -math.inf)


def _inverse_cdf(values: Tensor, ids: Tensor | None, uniform: Tensor) -> Tensor:
    """The token at which the running sum of probabilities passes a uniform number, for each row.

    Summed in float64: over a large vocabulary float32 would lose the tail.
    """
    running = values.softmax(-1).cumsum(-1, dtype=torch.float64)
    target = uniform[:, None] * running[:, -1:]
    place = torch.searchsorted(running, target, right=True).clamp_(max=running.shape[-1] - 1)
    return (place if ids is None else ids.gather(-1, place))[:, 0]
