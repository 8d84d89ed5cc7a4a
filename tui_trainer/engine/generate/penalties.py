"""The penalties on tokens that were seen before; used by the sampler and by beam search."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from tui_trainer.config.sampling import SamplingParams


class Penalties:
    """Repetition, frequency and presence penalty. Only the entries of seen tokens are touched.

    Repetition counts prompt and answer, frequency and presence the answer alone, as in vLLM.

    Args:
        params: the knobs.
        prompt_ids: the prompt.
        device: where the logits are.
    """

    def __init__(self, params: SamplingParams, prompt_ids: Sequence[int], device: torch.device) -> None:
        self._repetition = params.repetition_penalty
        self._frequency = params.frequency_penalty
        self._presence = params.presence_penalty
        self._prompt = frozenset(prompt_ids)
        self._prompt_index = torch.tensor(sorted(self._prompt), dtype=torch.long, device=device)

    @property
    def is_active(self) -> bool:
        """Whether they change anything."""
        return self._repetition != 1 or self._frequency != 0 or self._presence != 0

    def apply(self, logits: Tensor, counts: Sequence[Counter[int]]) -> Tensor:
        """Logits with the penalties.

        Args:
            logits: [rows, vocabulary]; left as they are.
            counts: for each row how often its answer has each token.
        """
        if not self.is_active:
            return logits
        changed = logits.clone()
        if self._repetition != 1:
            self._repeat(changed, slice(None), self._prompt_index)
        for row, seen in enumerate(counts):
            if seen:
                self._penalise_row(changed, row, seen)
        return changed

    def _penalise_row(self, logits: Tensor, row: int, seen: Counter[int]) -> None:
        if self._repetition != 1:
            new = [token for token in seen if token not in self._prompt]
            self._repeat(logits, row, torch.tensor(new, dtype=torch.long, device=logits.device))
        ids = torch.tensor(list(seen.keys()), dtype=torch.long, device=logits.device)
        times = torch.tensor(list(seen.values()), dtype=logits.dtype, device=logits.device)
        logits[row, ids] -= self._frequency * times + self._presence

    def _repeat(self, logits: Tensor, rows: int | slice, ids: Tensor) -> None:
        values = logits[rows, ids]
        logits[rows, ids] = torch.where(values > 0, values / self._repetition, values * self._repetition)
