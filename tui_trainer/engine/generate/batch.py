"""Answers to many prompts at once, greedily: for exact-match evaluation inside a training run.

Nothing of it touches training: modules go back to the mode they were in, and no random number is drawn.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedTokenizerBase

from tui_trainer.engine.generate.forward.library import cache_name
from tui_trainer.engine.models.adapter import base_of

_BATCH_SIZE = 64


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode, and each of its modules back as it was."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def generate_batch(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts_ids: Sequence[Sequence[int]],
    max_tokens: int,
    stop_token_ids: Collection[int],
    *,
    batch_size: int = _BATCH_SIZE,
) -> list[list[int]]:
    """The most probable answer to each prompt, token by token.

    Args:
        model: a causal language model, or a PEFT model around one.
        tokenizer: its tokenizer; only its padding id is used.
        prompts_ids: the prompts' tokens, at least one each.
        max_tokens: longest answer.
        stop_token_ids: tokens that end an answer.
        batch_size: prompts run at once.

    Returns:
        For each prompt the tokens of its answer, without the one that ended it.
    """
    answers: list[list[int]] = [[] for _ in prompts_ids]
    by_length = sorted(range(len(prompts_ids)), key=lambda index: len(prompts_ids[index]))
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    with torch.no_grad(), evaluating(model):
        for start in range(0, len(by_length), batch_size):
            chunk = by_length[start : start + batch_size]
            batch = _Batch(model, [prompts_ids[index] for index in chunk], int(pad))
            for index, answer in zip(chunk, batch.run(max_tokens, set(stop_token_ids)), strict=True):
                answers[index] = answer
    return answers


class _Batch:
    """Prompts padded on the left, so that all of them end, and go on, at the same place."""

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]], pad: int) -> None:
        self._model = model
        device = model.device
        width = max(map(len, prompts))
        padded = [[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts]
        masks = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        self._tokens = torch.tensor(padded, device=device)
        self._mask = torch.tensor(masks, device=device)
        self._positions = (self._mask.cumsum(-1) - 1).clamp_(min=0)
        self._cache = DynamicCache(config=model.config)
        self._cache_name = cache_name(base_of(model)) or "cache"
        self._rows = list(range(len(prompts)))

    def run(self, max_tokens: int, stop: set[int]) -> list[list[int]]:
        answers: list[list[int]] = [[] for _ in self._rows]
        for number in range(1, max_tokens + 1):
            chosen = self._logits().argmax(-1)
            tokens = chosen.tolist()
            going = [place for place, token in enumerate(tokens) if token not in stop]
            for place in going:
                answers[self._rows[place]].append(tokens[place])
            if not going or number == max_tokens:
                break
            self._go_on(chosen, going)
        return answers

    def _logits(self) -> Tensor:
        logits: Tensor = self._model(
            input_ids=self._tokens,
            attention_mask=self._mask,
            position_ids=self._positions,
            use_cache=True,
            logits_to_keep=1,
            **{self._cache_name: self._cache},
        ).logits[:, -1]
        return logits.to(self._mask.device)  # weights kept in main memory (FSDP's cpu_offload) compute elsewhere

    def _go_on(self, chosen: Tensor, going: list[int]) -> None:
        """The next step: the chosen tokens of the rows that have not ended."""
        if len(going) < len(self._rows):
            index = torch.tensor(going, device=chosen.device)
            self._rows = [self._rows[place] for place in going]
            self._cache.batch_select_indices(index)
            chosen, self._mask, self._positions = chosen[index], self._mask[index], self._positions[index]
        self._tokens = chosen[:, None]
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(going), 1)], dim=1)
        self._positions = self._positions[:, -1:] + 1
