"""The sampler against formulas written down here from vLLM's description, and against statistics."""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import RepetitionPenaltyLogitsProcessor

from tui_trainer.config.sampling import SamplingParams
from tui_trainer.engine.generate import sampling
from tui_trainer.engine.generate.penalties import Penalties
from tui_trainer.engine.generate.sampling import Sampler, truncated

CPU = torch.device("cpu")


def make_sampler(params: SamplingParams, *, rows: int = 1, seed: int = 0, prompt: tuple[int, ...] = ()) -> Sampler:
    return Sampler(params, prompt, [], seed, rows, CPU)


def random_logits(rows: int, vocabulary: int, seed: int, spread: float = 3.0) -> Tensor:
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * spread


def vllm_distribution(logits: Tensor, params: SamplingParams) -> Tensor:
    """vLLM's order (v1/sample/sampler.py): temperature, min_p on probabilities, then top_k and top_p in one sort."""
    logits = logits / params.temperature
    if params.min_p > 0:
        probabilities = logits.softmax(-1)
        smallest = params.min_p * probabilities.amax(-1, keepdim=True)
        logits = logits.masked_fill(probabilities < smallest, -math.inf)
    ascending, order = logits.sort(-1)
    if params.top_k > 0:
        kth = ascending[:, [-min(params.top_k, logits.shape[-1])]]
        ascending = ascending.masked_fill(ascending < kth, -math.inf)
    if params.top_p < 1:
        below = ascending.softmax(-1).cumsum(-1) <= 1 - params.top_p
        below[:, -1] = False
        ascending = ascending.masked_fill(below, -math.inf)
    return torch.empty_like(logits).scatter_(1, order, ascending).softmax(-1)


def our_distribution(logits: Tensor, params: SamplingParams) -> Tensor:
    values, ids, is_enough = truncated(logits, params)
    if is_enough is not None and not bool(is_enough.all()):
        values, ids, _ = truncated(logits, params, is_whole=True)
    probabilities = values.softmax(-1)
    return probabilities if ids is None else torch.zeros_like(logits).scatter_(1, ids, probabilities)


def test_the_distribution_is_vllms_for_random_settings() -> None:
    numbers = random.Random(1)
    for trial in range(300):
        vocabulary = numbers.choice([5, 50, 1500, 3000])
        params = SamplingParams(
            temperature=numbers.choice([0.2, 0.7, 1.0, 1.5]),
            top_k=numbers.choice([-1, 0, 1, 5, 50, 2000, 10**6]),
            top_p=numbers.choice([1.0, 0.95, 0.5, 0.05]),
            min_p=numbers.choice([0.0, 0.02, 0.3, 1.0]),
        )
        # in float64, in which no token lies so near to the border of top_p that rounding would decide
        logits = random_logits(2, vocabulary, trial, numbers.choice([0.01, 0.3, 1.0, 4.0])).double()
        ours, theirs = our_distribution(logits, params), vllm_distribution(logits, params)
        assert torch.equal(ours > 0, theirs > 0), (vocabulary, params)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("params", [{"top_k": 3}, {"top_k": 3, "top_p": 0.9}, {"top_k": 1}])
def test_all_tokens_equal_to_the_last_of_top_k_are_kept(params: dict[str, Any]) -> None:
    logits = torch.zeros(1, 500)
    logits[0, :2] = 1.0
    knobs = SamplingParams(**params)
    # which of several equal tokens top_p leaves out is open; how many is not
    ours, theirs = our_distribution(logits, knobs), vllm_distribution(logits, knobs)
    torch.testing.assert_close(ours.sort(-1)[0], theirs.sort(-1)[0])


SETTINGS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.5},
    {"temperature": 2.0},
    {"top_k": 4},
    {"top_p": 0.7},
    {"min_p": 0.1},
    {"temperature": 1.3, "top_k": 10, "top_p": 0.8, "min_p": 0.05},
    {"repetition_penalty": 1.5},
    {"presence_penalty": 1.0},
]
CRITICAL_999 = {1: 10.8, 2: 13.8, 3: 16.3, 4: 18.5, 5: 20.5, 9: 27.9, 19: 43.8}
"""Values that chi-square passes once in 1,000 times, by degrees of freedom."""


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_draws_follow_the_distribution(settings: dict[str, Any]) -> None:
    params = SamplingParams(**settings)
    prompt = (1, 2, 2, 5)
    logits = random_logits(1, 20, 7, spread=1.0)
    penalised = Penalties(params, prompt, CPU).apply(logits, [Counter()])
    expected = vllm_distribution(penalised, params)[0]
    draws = Counter(int(Sampler(params, prompt, [], seed, 1, CPU).choose(logits)[0]) for seed in range(4000))
    assert all(expected[token] > 0 for token in draws)
    likely = [token for token in range(20) if expected[token] * 4000 >= 5]
    rest = 4000 - sum(draws[token] for token in likely)
    rest_expected = 4000 * (1 - float(expected[likely].sum()))
    chi = sum((draws[token] - 4000 * float(expected[token])) ** 2 / (4000 * float(expected[token])) for token in likely)
    chi += (rest - rest_expected) ** 2 / rest_expected if rest_expected > 1 else 0.0
    freedom = len(likely) - (0 if rest_expected > 1 else 1)
    limit = next((value for degrees, value in CRITICAL_999.items() if degrees >= freedom), 45.3)
    assert chi < limit


def test_successive_draws_of_one_row_follow_the_distribution_too() -> None:
    logits = random_logits(1, 6, 3, spread=1.0)
    sampler = make_sampler(SamplingParams(), seed=11)
    draws = Counter(int(sampler.choose(logits)[0]) for _ in range(6000))
    for token, probability in enumerate(logits.softmax(-1)[0].tolist()):
        assert abs(draws[token] / 6000 - probability) < 4 * math.sqrt(probability * (1 - probability) / 6000)


@pytest.mark.parametrize("settings", [{}, {"top_p": 0.9}, {"top_k": 20, "top_p": 0.9}, {"temperature": 1.5}], ids=str)
def test_a_row_does_not_depend_on_how_many_there_are(settings: dict[str, Any]) -> None:
    params = SamplingParams(**settings)
    alone = [make_sampler(params, seed=5 + row) for row in range(4)]
    together = make_sampler(params, rows=4, seed=5)
    for step in range(20):
        logits = random_logits(4, 3000, step, spread=0.5 if step % 2 else 4.0)
        expected = [int(sampler.choose(logits[[row]])[0]) for row, sampler in enumerate(alone)]
        assert together.choose(logits).tolist() == expected


def test_rows_that_have_ended_leave_the_others_as_they_were() -> None:
    params = SamplingParams(presence_penalty=1.0, repetition_penalty=1.3)
    whole, part = (make_sampler(params, rows=3, seed=2) for _ in range(2))
    logits = random_logits(3, 50, 0)
    assert torch.equal(whole.choose(logits), part.choose(logits))
    part.keep([0, 2])
    assert whole.choose(logits)[[0, 2]].tolist() == part.choose(logits[[0, 2]]).tolist()


def test_temperature_zero_takes_the_most_probable_token_whatever_else_is_set() -> None:
    logits = random_logits(2, 100, 4)
    sampler = make_sampler(SamplingParams(temperature=0.0, top_p=0.1, min_p=0.9), rows=2)
    assert torch.equal(sampler.choose(logits), logits.argmax(-1))


@pytest.mark.parametrize("temperature", [1e-5, 1e-4, 0.005])
def test_tiny_temperatures_do_not_overflow(temperature: float) -> None:
    logits = random_logits(1, 100, 4, spread=100.0)
    assert make_sampler(SamplingParams(temperature=temperature)).choose(logits).tolist() == logits.argmax(-1).tolist()


def test_the_logits_are_left_as_they_were() -> None:
    logits = random_logits(2, 100, 4)
    before = logits.clone()
    params = SamplingParams(
        temperature=0.7, top_k=5, top_p=0.9, min_p=0.1, repetition_penalty=2.0, presence_penalty=1.0, min_tokens=3
    )
    sampler = Sampler(params, [1, 2], [3], 0, 2, CPU)
    sampler.choose(logits)
    sampler.choose(logits)
    assert torch.equal(logits, before)


def test_end_tokens_are_held_back_until_min_tokens() -> None:
    logits = torch.full((1, 10), -10.0)
    logits[0, [3, 4]] = 10.0
    sampler = Sampler(SamplingParams(temperature=0.0, min_tokens=2), [], [3, 4], 0, 1, CPU)
    assert [int(sampler.choose(logits)[0]) in (3, 4) for _ in range(4)] == [False, False, True, True]


@pytest.mark.parametrize("penalty", [0.5, 1.0, 1.3, 2])
def test_the_repetition_penalty_is_that_of_transformers(penalty: float) -> None:
    logits = random_logits(1, 100, 9)
    logits[0, 4] = 0.0
    prompt, answer = [3, 4, 4], [7, 7, 9, 3]
    ours = Penalties(SamplingParams(repetition_penalty=penalty), prompt, CPU).apply(logits, [Counter(answer)])
    theirs = RepetitionPenaltyLogitsProcessor(float(penalty))(torch.tensor([prompt + answer]), logits.clone())
    torch.testing.assert_close(ours, theirs)


def test_frequency_and_presence_count_the_answer_alone_and_come_after_repetition() -> None:
    logits = random_logits(2, 50, 9)
    params = SamplingParams(repetition_penalty=1.2, frequency_penalty=0.25, presence_penalty=-0.5)
    answers = [[7, 7, 9], []]
    ours = Penalties(params, [3, 4], CPU).apply(logits, [Counter(answer) for answer in answers])
    expected = logits.clone()
    for row, answer in enumerate(answers):
        for token in {3, 4, *answer}:
            expected[row, token] *= 1.2 if expected[row, token] < 0 else 1 / 1.2
        for token in set(answer):
            expected[row, token] -= 0.25 * answer.count(token) - 0.5
    torch.testing.assert_close(ours, expected)


def test_the_slice_is_enough_or_the_whole_vocabulary_is_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "_SLICE", 8)
    logits = torch.cat([random_logits(1, 200, 0, spread=0.1), random_logits(1, 200, 0, spread=9.0)])
    params = SamplingParams(top_p=0.9)
    _, _, is_enough = truncated(logits, params)
    assert is_enough is not None
    assert is_enough.tolist() == [False, True]
    sampler = make_sampler(params, rows=2, seed=3)
    allowed = vllm_distribution(logits, params) > 0
    seen: set[int] = set()
    for _ in range(200):
        first, second = sampler.choose(logits).tolist()
        assert allowed[0, first]
        assert allowed[1, second]
        seen.add(first)
    assert len(seen) > 8
