"""The questions a run is asked at each evaluation: fixed prompts, and rows whose right answer is known.

Called by `engine.trainer.trainer` on all ranks; rank 0 writes the answers to the prompts as `Sample` events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from tui_trainer.config.sampling import GREEDY_BELOW, SamplingParams
from tui_trainer.config.schema import RunConfig
from tui_trainer.engine.chat.prompt import Prompter, RunHabits
from tui_trainer.engine.chat.question import Question
from tui_trainer.engine.data.references import EvalReference
from tui_trainer.engine.generate.batch import generate_batch
from tui_trainer.engine.generate.engine import Engine
from tui_trainer.engine.generate.forward.library import LibraryForward
from tui_trainer.engine.trainer.group import Group
from tui_trainer.runs.events import Sample

_LONGEST = 256
"""Tokens of an answer where no knob bounds it."""


@dataclass(frozen=True)
class Answer:
    """What the model said to a prompt."""

    text: str
    finish_reason: str | None


class Quiz:
    """The questions of one run.

    Args:
        config: the configuration: `[sampling]`, and how prompts are rendered.
        tokenizer: its tokenizer.
        references: held-out rows to compare answers with.
        stop_token_ids: tokens that end an answer.
        context_length: most tokens of prompt and answer together, None if unknown.
        group: the ranks, which share the references between them.
        is_sharded: whether the weights are spread over the ranks, so that all have to answer every question together.
    """

    def __init__(
        self,
        config: RunConfig,
        tokenizer: PreTrainedTokenizerBase,
        references: Sequence[EvalReference],
        *,
        stop_token_ids: Sequence[int],
        context_length: int | None,
        group: Group,
        is_sharded: bool,
    ) -> None:
        self.prompts = list(config.sampling.prompts)
        self.references = list(references)
        self._knobs = config.sampling
        self._seed = config.training.seed
        self._batch_size = config.training.per_device_eval_batch_size
        self._tokenizer = tokenizer
        self._stop_token_ids = list(stop_token_ids)
        self._context_length = context_length
        self._group = group
        self._is_sharded = is_sharded
        self._max_tokens = config.sampling.max_tokens or _LONGEST
        habits = RunHabits(
            config.data.template, config.data.template_kwargs, config.sampling.system or config.data.system
        )
        self._prompter = Prompter(tokenizer, habits)
        self._is_plain = config.stage == "pretrain" or self._prompter.template is None

    def exact_match(self, model: Any) -> float:
        """Share of the references that a greedy answer equals, spaces around it aside; the same on all ranks."""
        own = self.references if self._is_sharded else self.references[self._group.rank :: self._group.size]
        answers = self._greedy(model, [reference.prompt_ids for reference in own])
        num_right = sum(
            answer.text.strip() == reference.reference.strip() for answer, reference in zip(answers, own, strict=True)
        )
        num_right_all, num_all = self._group.sum([num_right, len(own)])
        return num_right_all / num_all if num_all else float("nan")

    def samples(self, model: Any, step: int) -> Iterator[Sample]:
        """The answers to the prompts with the knobs of the run; none on ranks that need not compute them."""
        if not self.prompts or not (self._is_sharded or self._group.is_first):
            return
        ids = [self._prompt_ids(prompt) for prompt in self.prompts]
        answer: Callable[[Any, Sequence[Sequence[int]]], list[Answer]]
        answer = self._greedy if _is_plainly_greedy(self._knobs) else self._sampled
        for prompt, found in zip(self.prompts, answer(model, ids), strict=True):
            yield Sample(
                step=step, prompt=prompt, text=found.text, knobs=_shown(self._knobs), finish_reason=found.finish_reason
            )

    def _prompt_ids(self, prompt: str) -> Sequence[int]:
        if self._is_plain:
            return self._prompter.from_text(prompt).ids
        return self._prompter.prompt_for(Question([{"role": "user", "content": prompt}])).ids

    def _greedy(self, model: Any, prompts: Sequence[Sequence[int]]) -> list[Answer]:
        """Several prompts at a time."""
        answers = generate_batch(
            model, self._tokenizer, prompts, self._max_tokens, self._stop_token_ids, batch_size=self._batch_size
        )
        return [
            Answer(
                str(self._tokenizer.decode(ids, skip_special_tokens=True)),
                "stop" if len(ids) < self._max_tokens else "length",
            )
            for ids in answers
        ]

    def _sampled(self, model: Any, prompts: Sequence[Sequence[int]]) -> list[Answer]:
        forward = LibraryForward(model, is_in_training=True)
        engine = Engine(model, self._tokenizer, self._stop_token_ids, self._context_length, forward=forward)
        best = [engine.generate(ids, self._knobs, seed=self._seed)[0] for ids in prompts]
        return [Answer(candidate.text, candidate.finish_reason) for candidate in best]


def _is_plainly_greedy(knobs: SamplingParams) -> bool:
    """Whether nothing but the temperature decides about the next token."""
    others = _shown(knobs).keys() - {"temperature", "max_tokens", "top_p", "top_k", "min_p", "seed"}
    return knobs.temperature < GREEDY_BELOW and not others


def _shown(knobs: SamplingParams) -> dict[str, Any]:
    """The knobs that are not at their default."""
    own = knobs.model_dump(mode="json", include=set(SamplingParams.model_fields))
    default = SamplingParams().model_dump(mode="json")
    return {name: value for name, value in own.items() if value != default[name]}
