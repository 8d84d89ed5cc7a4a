"""Beam search, by `transformers.generate`: the most probable whole answers instead of one token after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)
from typing_extensions import override

from tui_trainer.config.sampling import SamplingParams
from tui_trainer.engine.generate.candidates import Candidate
from tui_trainer.engine.generate.detokenize import Detokenizer
from tui_trainer.engine.generate.logprobs import score
from tui_trainer.engine.generate.penalties import Penalties
from tui_trainer.engine.generate.restrictions import Restrictions, tokens_of_bad_words
from tui_trainer.engine.generate.runner import Runner
from tui_trainer.engine.models.adapter import through_adapter

_NO_TOKEN = -1
"""An id that no token has; None would mean the end tokens of the model's own configuration."""


def beam_search(
    runner: Runner,
    tokenizer: PreTrainedTokenizerBase,
    prompt_ids: Sequence[int],
    params: SamplingParams,
    *,
    stop_token_ids: Collection[int],
    max_tokens: int,
    is_cancelled: Callable[[], bool],
) -> list[Candidate]:
    """The `params.n` best answers that beam search finds, best first; fewer if it finds fewer.

    A stop string ends an answer once it is found, after the search: the search itself knows only tokens.
    """
    stop = sorted(stop_token_ids)
    config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False,
        num_beams=params.beam_width,
        num_return_sequences=min(params.n, params.beam_width),
        length_penalty=params.length_penalty,
        early_stopping=params.early_stopping,
        max_new_tokens=max_tokens,
        eos_token_id=stop or [_NO_TOKEN],
        pad_token_id=stop[0] if stop else 0,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        use_cache=True,
    )
    prompt = torch.tensor([list(prompt_ids)], device=runner.device)
    bad_words = tokens_of_bad_words(params.bad_words, tokenizer)
    penalties = _BeamPenalties(params, prompt_ids, stop, bad_words, runner.device)
    model = runner.forward.model
    with runner.without_gradients(), through_adapter(model, runner.adapter):
        output = model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            generation_config=config,
            logits_processor=LogitsProcessorList([penalties]),
            stopping_criteria=StoppingCriteriaList([_Cancelled(is_cancelled)]),
        )
    answers = [_until_stop(row[len(prompt_ids) :], set(stop)) for row in output.tolist()]
    return [
        _candidate(index, ids, runner, tokenizer, prompt_ids, params, set(stop), is_cancelled())
        for index, ids in enumerate(answers)
    ]


def _until_stop(ids: list[int], stop: Collection[int]) -> list[int]:
    """An answer with the token that ended it, without the padding after it."""
    end = next((place for place, token in enumerate(ids) if token in stop), len(ids) - 1)
    return ids[: end + 1]


def _candidate(
    index: int,
    ids: list[int],
    runner: Runner,
    tokenizer: PreTrainedTokenizerBase,
    prompt_ids: Sequence[int],
    params: SamplingParams,
    stop: Collection[int],
    was_cancelled: bool,
) -> Candidate:
    text = Detokenizer(
        tokenizer,
        skip_special_tokens=params.skip_special_tokens,
        stop=params.stop,
        shows_stop=params.include_stop_str_in_output,
    )
    candidate = Candidate(index, finish_reason="cancelled" if was_cancelled else "length")
    kept = 0
    for kept, token in enumerate(ids, start=1):
        if token in stop:
            candidate.finish_reason, candidate.stop_reason = "stop", token
        if token not in stop or not params.skip_special_tokens:
            text.push(token, can_stop=kept > params.min_tokens)
        if text.stopped_by is not None:
            candidate.finish_reason, candidate.stop_reason = "stop", text.stopped_by
            break
    text.finish()
    candidate.text = text.text
    whole = [*prompt_ids, *ids[:kept]]
    candidate.tokens = score(runner, whole, start=len(prompt_ids), num_top=params.logprobs)
    return candidate


class _BeamPenalties(LogitsProcessor):
    """Restrictions and penalties on the beams' log-probabilities."""

    def __init__(
        self,
        params: SamplingParams,
        prompt_ids: Sequence[int],
        stop: list[int],
        bad_words: Sequence[Sequence[int]],
        device: torch.device,
    ) -> None:
        self._penalties = Penalties(params, prompt_ids, device)
        self._restrictions = Restrictions(params, stop, bad_words, device)
        self._start = len(prompt_ids)

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        answers = input_ids[:, self._start :].tolist()
        scores = self._restrictions.apply(scores, input_ids.shape[1] - self._start, answers)
        return self._penalties.apply(scores, [Counter(answer) for answer in answers])


class _Cancelled(StoppingCriteria):
    def __init__(self, is_cancelled: Callable[[], bool]) -> None:
        self._is_cancelled = is_cancelled

    @override
    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        answer: Tensor = torch.full(
            (input_ids.shape[0],), self._is_cancelled(), dtype=torch.bool, device=input_ids.device
        )
        return answer
