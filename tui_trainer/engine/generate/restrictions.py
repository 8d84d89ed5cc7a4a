"""What may not be said, or more or less so, whatever the model thinks: allowed tokens, bad words, biases, end tokens.

Order (vllm/v1/sample/sampler.py): allowed tokens, bad words, end tokens held back for min_tokens, bias; then penalties.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from tui_trainer.config.sampling import SamplingParams


class Restrictions:
    """Changes logits before penalties and temperature.

    Args:
        params: the knobs.
        held_back: tokens that may not be chosen before `params.min_tokens`.
        bad_words: the words as tokens (`tokens_of_bad_words`).
        device: where the logits are.
    """

    def __init__(
        self,
        params: SamplingParams,
        held_back: Iterable[int],
        bad_words: Sequence[Sequence[int]],
        device: torch.device,
    ) -> None:
        self._min_tokens = params.min_tokens
        self._held_back = sorted(held_back)
        self._allowed = torch.tensor(sorted(set(params.allowed_token_ids)), dtype=torch.long, device=device)
        self._bad_words = [tuple(word) for word in bad_words if word]
        bias = {int(token): value for token, value in params.logit_bias.items()}
        self._biased = torch.tensor(list(bias.keys()), dtype=torch.long, device=device)
        self._bias = torch.tensor(list(bias.values()), dtype=torch.float32, device=device)

    @property
    def needs_answers(self) -> bool:
        """Whether it has to know what was said already."""
        return bool(self._bad_words)

    def apply(self, logits: Tensor, num_chosen: int, answers: Sequence[Sequence[int]]) -> Tensor:
        """Logits with the restrictions.

        Args:
            logits: [rows, vocabulary]; left as they are.
            num_chosen: tokens that each answer has.
            answers: the tokens of each row's answer; only looked at if `needs_answers`.
        """
        holds_back = bool(self._held_back) and num_chosen < self._min_tokens
        if not (len(self._allowed) or self._bad_words or holds_back or len(self._biased)):
            return logits
        changed = self._only_allowed(logits) if len(self._allowed) else logits.clone()
        for row, answer in enumerate(answers if self._bad_words else ()):
            for word in self._bad_words:
                if len(word) == 1 or tuple(answer[len(answer) - len(word) + 1 :]) == word[:-1]:
                    changed[row, word[-1]] = -math.inf
        if holds_back:
            changed[:, self._held_back] = -math.inf
        if len(self._biased):
            changed[:, self._biased] += self._bias
        return changed

    def _only_allowed(self, logits: Tensor) -> Tensor:
        only = torch.full_like(logits, -math.inf)
        only[:, self._allowed] = logits[:, self._allowed]
        return only


def tokens_of_bad_words(words: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Each word as tokens, as it stands at the start of a text and, where that differs, after a blank."""
    found: list[list[int]] = []
    for word in words:
        for text in (word.lstrip(), f" {word.lstrip()}"):
            ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
            if ids and ids not in found:
                found.append(ids)
    return found
