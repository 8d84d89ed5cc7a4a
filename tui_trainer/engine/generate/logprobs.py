"""Log-probabilities, always from the logits as the model gave them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tui_trainer.engine.generate.candidates import TokenLogprob
from tui_trainer.engine.generate.runner import Runner
from tui_trainer.errors import RunFailedError

CHUNK = 128
"""Positions whose logits exist at the same time: [128, vocabulary] instead of [prompt, vocabulary]."""


def logprobs_of(logits: Tensor, chosen: Tensor, num_top: int | None) -> list[TokenLogprob]:
    """The log-probability of the chosen token of each row.

    Args:
        logits: [rows, vocabulary], float32.
        chosen: [rows].
        num_top: how many of the most probable tokens to list; None for neither these nor the rank.

    Raises:
        RunFailedError: the logits are not numbers.
    """
    total = logits.logsumexp(-1)
    picked = logits.gather(-1, chosen[:, None])[:, 0]
    values = (picked - total).tolist()
    if not all(value <= 1e-3 for value in values):
        raise RunFailedError(
            "the model's output is not a number (NaN or infinite)",
            remedy="Its weights are broken, or the type is too short for them: try dtype float32 or an earlier step.",
        )
    ids = chosen.tolist()
    if num_top is None:
        return [TokenLogprob(token, value) for token, value in zip(ids, values, strict=True)]
    ranks = ((logits > picked[:, None]).sum(-1) + 1).tolist()
    best, best_ids = logits.topk(min(num_top, logits.shape[-1]), dim=-1)
    top_values, top_ids = (best - total[:, None]).tolist(), best_ids.tolist()
    return [
        TokenLogprob(ids[row], values[row], ranks[row], tuple(zip(top_ids[row], top_values[row], strict=True)))
        for row in range(len(ids))
    ]


def score(
    runner: Runner,
    ids: Sequence[int],
    *,
    start: int = 1,
    num_top: int | None = None,
    check: Callable[[], None] = lambda: None,
) -> list[TokenLogprob]:
    """The log-probability of each token of a text from `start` on, given those before it.

    Args:
        runner: runs the tokens, in a cache of their own.
        ids: the tokens.
        start: the first token that is scored, at least 1: nothing comes before token 0.
        num_top: as in `logprobs_of`.
        check: called between chunks; what it raises ends the run.

    Raises:
        RunFailedError: the logits are not numbers.
    """
    scored: list[TokenLogprob] = []
    for position, logits in runner.all_logits(ids[:-1], CHUNK, check, start=start - 1):
        following = torch.tensor(ids[position + 1 : position + 1 + len(logits)], device=logits.device)
        scored += logprobs_of(logits, following, num_top)
    return scored
