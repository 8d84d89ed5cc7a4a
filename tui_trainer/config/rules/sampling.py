"""Rules for sampling knobs that cannot be had together; also `chat`'s.

Source: `SamplingParams` of vLLM 0.6.1 (`_verify_args`, `_verify_beam_search`, `_verify_non_beam_search`,
`_verify_greedy_sampling`). Its `best_of` is the number of beams; here that is `beam_width`.
"""

from __future__ import annotations

from collections.abc import Iterator

from tui_trainer.config.rules.facts import Facts, error
from tui_trainer.config.sampling import GREEDY_BELOW, SamplingParams
from tui_trainer.config.schema import RunConfig
from tui_trainer.errors import Problem

_EPSILON = 1e-5
_LARGEST_BIAS = 100


def check_sampling(params: SamplingParams) -> list[Problem]:
    """What vLLM would refuse; empty if nothing. Keys are those of the section `[sampling]`."""
    return [*_counts(params), *(_beams(params) if params.use_beam_search else _no_beams(params))]


def _counts(params: SamplingParams) -> Iterator[Problem]:
    if params.best_of is not None and params.best_of < params.n:
        yield error(
            "sampling.best_of",
            f"is {params.best_of}, and n = {params.n} answers are wanted of them",
            f"set {params.n} or more",
            "sampling.n",
        )
    if params.max_tokens is not None and params.min_tokens > params.max_tokens:
        yield error(
            "sampling.min_tokens",
            f"is {params.min_tokens}, above max_tokens = {params.max_tokens}",
            "lower it",
            "sampling.max_tokens",
        )
    for token, bias in params.logit_bias.items():
        if not token.isdigit():
            yield error("sampling.logit_bias", f"names {token!r}, which is no token id", 'write {"42" = -5.0}')
        elif not abs(bias) <= _LARGEST_BIAS:
            yield error(
                "sampling.logit_bias", f"is {bias:g} for token {token}", f"set -{_LARGEST_BIAS} to {_LARGEST_BIAS}"
            )
    for name in ("stop_token_ids", "allowed_token_ids"):
        if any(token < 0 for token in getattr(params, name)):
            yield error(f"sampling.{name}", "holds a negative number, which is no token id", "remove it")
    if any(not word.strip() for word in params.bad_words):
        yield error("sampling.bad_words", "has an empty text", "remove it")
    if "" in params.stop:
        yield error("sampling.stop", "has an empty text, which would end every answer at once", "remove it")


def _beams(params: SamplingParams) -> Iterator[Problem]:
    why = "beam search takes the most probable answers and draws nothing"
    for name, is_neutral, neutral in (
        ("temperature", params.temperature <= _EPSILON, "0"),
        ("top_p", params.top_p >= 1 - _EPSILON, "1"),
        ("top_k", params.top_k in (-1, 0), "-1"),
        ("min_p", params.min_p <= _EPSILON, "0"),
    ):
        if not is_neutral:
            value = getattr(params, name)
            yield error(f"sampling.{name}", f"is {value:g}, but {why}", f"set {neutral}", "sampling.use_beam_search")
    if params.best_of is not None:
        yield error(
            "sampling.best_of",
            "is the number of beams, which beam_width sets",
            "leave it out",
            "sampling.beam_width",
        )
    if params.n > params.beam_width:
        yield error(
            "sampling.beam_width",
            f"is {params.beam_width}, and n = {params.n} answers are wanted of them",
            f"set {params.n} or more",
            "sampling.n",
        )


def _no_beams(params: SamplingParams) -> Iterator[Problem]:
    if params.early_stopping is not False:
        yield error(
            "sampling.early_stopping", "has no effect without beam search", "set false", "sampling.use_beam_search"
        )
    if abs(params.length_penalty - 1) > _EPSILON:
        yield error("sampling.length_penalty", "has no effect without beam search", "set 1", "sampling.use_beam_search")
    if params.temperature < GREEDY_BELOW and max(params.n, params.best_of or 1) > 1:
        key = "sampling.n" if params.n > 1 else "sampling.best_of"
        yield error(
            key,
            "would give the same answer each time: at temperature 0 the most probable token is always taken",
            "raise temperature, or set it to 1",
            "sampling.temperature",
        )


def _sampling(config: RunConfig, _: Facts) -> Iterator[Problem]:
    yield from check_sampling(config.sampling)


RULES = (_sampling,)
