"""The questions a run is asked at each evaluation: fixed prompts, and rows whose right answer is known.

Called by `engine.trainer.trainer` on all ranks; rank 0 writes the answers to the prompts as `Sample` events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tui_trainer.config.sampling import SamplingConfig
from tui_trainer.engine.trainer.evaluation import greedy_answers, prompt_ids
from tui_trainer.engine.trainer.journal import EventLog
from tui_trainer.engine.trainer.mailbox import Group
from tui_trainer.runs.events import Sample

_LONGEST = 256
"""Tokens of an answer where no knob bounds it."""


@dataclass(frozen=True)
class Reference:
    """A held-out row as a question.

    Attributes:
        prompt_ids: its prompt, rendered as in training.
        answer: the right answer.
    """

    prompt_ids: Sequence[int]
    answer: str


class Quiz:
    """The questions of one run.

    Args:
        knobs: the section `[sampling]`.
        references: held-out rows to compare answers with.
        tokenizer: with the chat template of the run.
        stop_token_ids: tokens that end an answer.
        template_kwargs: variables for the chat template.
        events: where answers are written.
        group: the ranks, which share the references between them.
        batch_size: questions answered at once.
        is_sharded: whether the weights are spread over the ranks, so that all have to answer every question together.
    """

    def __init__(
        self,
        knobs: SamplingConfig,
        references: Sequence[Reference],
        tokenizer: PreTrainedTokenizerBase,
        *,
        stop_token_ids: Sequence[int],
        template_kwargs: dict[str, Any],
        events: EventLog,
        group: Group,
        batch_size: int,
        is_sharded: bool,
    ) -> None:
        self.prompts = list(knobs.prompts)
        self.references = list(references)
        self._knobs = knobs
        self._tokenizer = tokenizer
        self._stop_token_ids = list(stop_token_ids)
        self._template_kwargs = template_kwargs
        self._events = events
        self._group = group
        self._batch_size = batch_size
        self._is_sharded = is_sharded
        self._max_tokens = knobs.max_tokens or _LONGEST

    def exact_match(self, model: PreTrainedModel) -> float:
        """Share of the references that a greedy answer equals, spaces around it aside; the same on all ranks."""
        own = self.references if self._is_sharded else self.references[self._group.rank :: self._group.size]
        answers = self._greedy(model, [reference.prompt_ids for reference in own])
        num_right = sum(
            answer.strip() == reference.answer.strip() for answer, reference in zip(answers, own, strict=True)
        )
        num_right_all, num_all = self._group.sum([num_right, len(own)])
        return num_right_all / num_all if num_all else float("nan")

    def write_samples(self, model: PreTrainedModel, step: int) -> None:
        """Answer the prompts with the knobs of the run."""
        if not self.prompts or not (self._is_sharded or self._group.is_first):
            return
        ids = [
            prompt_ids(self._tokenizer, prompt, self._knobs.system, self._template_kwargs) for prompt in self.prompts
        ]
        for prompt, answer in zip(self.prompts, self._greedy(model, ids), strict=True):
            self._events.write(Sample(step=step, prompt=prompt, text=answer))

    def _greedy(self, model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> list[str]:
        return greedy_answers(
            model,
            self._tokenizer,
            prompts,
            stop_token_ids=self._stop_token_ids,
            max_tokens=self._max_tokens,
            batch_size=self._batch_size,
        )
