"""Allowed tokens, bad words, biases: their meaning, and their place in vLLM's order."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from tui_trainer.config.sampling import SamplingParams
from tui_trainer.engine.generate.engine import Engine
from tui_trainer.engine.generate.knobs import YOURS, resolve_knobs
from tui_trainer.engine.generate.restrictions import Restrictions, tokens_of_bad_words
from tui_trainer.engine.generate.sampling import Sampler
from tui_trainer.errors import ConfigurationError, UsageError

CPU = torch.device("cpu")
PROMPT = list(b"Who are you?")


def restricted(logits: Tensor, answers: Any = ((),), num_chosen: int = 0, **knobs: Any) -> Tensor:
    held_back, bad_words = knobs.pop("held_back", ()), knobs.pop("words", ())
    return Restrictions(SamplingParams(**knobs), held_back, bad_words, CPU).apply(logits, num_chosen, answers)


def test_nothing_is_changed_where_nothing_is_asked_for() -> None:
    logits = torch.arange(20.0).view(2, 10)
    assert restricted(logits) is logits


def test_only_allowed_tokens_are_left_and_biases_are_added() -> None:
    logits = torch.arange(6.0)[None]
    got = restricted(logits, allowed_token_ids=[1, 4, 4], logit_bias={"4": -10.0, "1": 2.5})
    assert got.tolist() == [[-math.inf, 3.5, -math.inf, -math.inf, -6.0, -math.inf]]
    assert logits.tolist() == [[0, 1, 2, 3, 4, 5]]


def test_a_bias_does_not_bring_back_what_is_held_back() -> None:
    got = restricted(torch.zeros(1, 4), held_back=[2], min_tokens=1, logit_bias={"2": 100.0})
    assert got.tolist() == [[0, 0, -math.inf, 0]]
    assert restricted(torch.zeros(1, 4), held_back=[2], min_tokens=1, num_chosen=1).tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("answer", "banned"), [([], []), ([5], [6]), ([7, 5], [6]), ([5, 7], []), ([5, 6, 5], [6]), ([8, 9], [1])]
)
def test_the_last_token_of_a_bad_word_is_forbidden_where_the_others_stand_before_it(
    answer: list[int], banned: list[int]
) -> None:
    got = restricted(torch.zeros(1, 10), [answer], len(answer), words=[[5, 6], [8, 9, 1]])
    assert [token for token in range(10) if got[0, token] == -math.inf] == banned


def test_a_bad_word_is_forbidden_with_and_without_a_blank_before_it(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokens_of_bad_words(["ab", " ab"], tokenizer) == [list(b"ab"), list(b" ab")]


def test_restrictions_come_before_penalties() -> None:
    params = SamplingParams(temperature=0.0, logit_bias={"1": -3.0}, repetition_penalty=2.0)
    # (4 - 3) / 2 is above 0; the other way round 4 / 2 - 3 would be below
    chosen = Sampler(params, [1], [], 0, 1, CPU).distribution(torch.tensor([[-2.5, 4.0, 0.0]])).argmax()
    assert chosen.item() == 1


@pytest.mark.parametrize("beams", [False, True])
def test_answers_obey(engine: Engine, beams: bool) -> None:
    how: dict[str, Any] = {"use_beam_search": True, "beam_width": 2, "temperature": 0.0} if beams else {"seed": 1}
    plain = engine.generate(PROMPT, SamplingParams(max_tokens=12, **how))[0]
    word = bytes(token for token in plain.ids[2:4] if token < 128).decode() or "e"
    allowed = [*b"aeiou "]
    vowels = engine.generate(PROMPT, SamplingParams(max_tokens=12, allowed_token_ids=allowed, **how))[0]
    assert set(vowels.ids) <= set(allowed)
    without = engine.generate(PROMPT, SamplingParams(max_tokens=30, bad_words=[word, "e"], **how))[0]
    assert word not in without.text
    assert ord("e") not in without.ids
    forced = engine.generate(PROMPT, SamplingParams(max_tokens=5, logit_bias={"65": 100.0}, **how))[0]
    assert forced.text == "AAAAA"


def test_the_text_that_ends_an_answer_is_shown_on_demand(engine: Engine) -> None:
    knobs: dict[str, Any] = {"max_tokens": 20, "logit_bias": {"65": 100.0}, "stop": ["AAA"], "seed": 0}
    assert engine.generate(PROMPT, SamplingParams(**knobs))[0].text == ""
    shown = engine.generate(PROMPT, SamplingParams(**knobs, include_stop_str_in_output=True))[0]
    assert (shown.text, shown.stop_reason) == ("AAA", "AAA")


@pytest.mark.parametrize(
    ("knobs", "key", "words"),
    [
        ({"logit_bias": {"x": 1.0}}, "logit_bias", "no token id"),
        ({"logit_bias": {"5": 101.0}}, "logit_bias", "-100 to 100"),
        ({"logit_bias": {"5": float("nan")}}, "logit_bias", "-100 to 100"),
        ({"bad_words": [" "]}, "bad_words", "empty text"),
        ({"allowed_token_ids": [-1]}, "allowed_token_ids", "negative"),
        ({"stop_token_ids": [-5]}, "stop_token_ids", "negative"),
    ],
)
def test_what_cannot_be_is_refused(knobs: dict[str, Any], key: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        resolve_knobs([(YOURS, knobs)])
    assert caught.value.problems[0].key == key


def test_ids_that_the_model_does_not_have_are_told(engine: Engine) -> None:
    unknown: list[dict[str, Any]] = [{"logit_bias": {"9999": 1.0}}, {"allowed_token_ids": [9999]}]
    for knobs in unknown:
        with pytest.raises(UsageError, match="token 9999 does not exist"):
            engine.generate(PROMPT, SamplingParams(**knobs))


@pytest.mark.parametrize(
    ("alias", "name", "value"),
    [("max_completion_tokens", "max_tokens", 9), ("min_new_tokens", "min_tokens", 2), ("num_return_sequences", "n", 2)],
)
def test_other_names_of_knobs(alias: str, name: str, value: int) -> None:
    assert getattr(resolve_knobs([(YOURS, {alias: value})]).params, name) == value
