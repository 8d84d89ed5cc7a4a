"""Sampling knobs that cannot be had together, as vLLM 0.6 refuses them."""

from __future__ import annotations

from typing import Any

import pytest

from tui_trainer.config.checks import check_sampling
from tui_trainer.config.sampling import SamplingParams

Params = dict[str, Any]
SAMPLING: list[tuple[Params, str, str]] = [
    ({"n": 3, "best_of": 2}, "sampling.best_of", "n = 3"),
    ({"n": 2, "temperature": 0.0}, "sampling.n", "same answer"),
    ({"best_of": 2, "temperature": 0.0}, "sampling.best_of", "same answer"),
    ({"min_tokens": 9, "max_tokens": 8}, "sampling.min_tokens", "above max_tokens"),
    ({"stop": ["a", ""]}, "sampling.stop", "empty text"),
    ({"length_penalty": 0.8}, "sampling.length_penalty", "without beam search"),
    ({"early_stopping": True}, "sampling.early_stopping", "without beam search"),
    ({"early_stopping": "never"}, "sampling.early_stopping", "without beam search"),
    ({"use_beam_search": True, "temperature": 0.7}, "sampling.temperature", "draws nothing"),
    ({"use_beam_search": True, "temperature": 0.0, "top_p": 0.9}, "sampling.top_p", "draws nothing"),
    ({"use_beam_search": True, "temperature": 0.0, "top_k": 50}, "sampling.top_k", "draws nothing"),
    ({"use_beam_search": True, "temperature": 0.0, "min_p": 0.1}, "sampling.min_p", "draws nothing"),
    ({"use_beam_search": True, "temperature": 0.0, "best_of": 2}, "sampling.best_of", "beam_width"),
    ({"use_beam_search": True, "temperature": 0.0, "n": 5}, "sampling.beam_width", "n = 5"),
]


@pytest.mark.parametrize(("params", "key", "message"), SAMPLING, ids=str)
def test_sampling_knobs_that_vllm_refuses(params: Params, key: str, message: str) -> None:
    problems = check_sampling(SamplingParams.model_validate(params))
    assert [(problem.key, problem.severity) for problem in problems] == [(key, "error")]
    assert message in problems[0].message


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"temperature": 0.0, "top_p": 0.5},
        {"n": 4, "best_of": 8, "temperature": 0.7},
        {"use_beam_search": True, "temperature": 0.0, "n": 4, "length_penalty": 2.0, "early_stopping": "never"},
        {"use_beam_search": True, "temperature": 0.0, "top_k": 0},
    ],
    ids=str,
)
def test_sampling_knobs_that_go_together(params: Params) -> None:
    assert check_sampling(SamplingParams.model_validate(params)) == []
