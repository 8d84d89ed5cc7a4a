"""Which knobs count, where they come from, which have no effect, which cannot be."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import GenerationConfig

from tui_trainer.config.catalogue import sampling_knobs
from tui_trainer.config.sampling import SamplingParams
from tui_trainer.engine.generate.knobs import YOURS, model_defaults, resolve_knobs
from tui_trainer.errors import ConfigurationError


def resolve(**yours: Any) -> Any:
    return resolve_knobs([(YOURS, yours)])


def test_later_layers_win_and_every_value_knows_its_layer() -> None:
    model = {"temperature": 0.6, "top_p": 0.9}
    resolved = resolve_knobs([("model", model), ("run", {"top_p": 0.8}), (YOURS, {"max_new_tokens": 7})])
    assert (resolved.params.temperature, resolved.params.top_p, resolved.params.max_tokens) == (0.6, 0.8, 7)
    assert resolved.sources["temperature"] == "model"
    assert resolved.sources["top_p"] == "run"
    assert resolved.sources["max_tokens"] == "you"
    assert resolved.sources["min_p"] == "default"
    document = resolved.to_dict()
    assert document["top_p"] == {"value": 0.8, "source": "run"}
    assert set(document) == set(SamplingParams.model_fields)


def test_a_models_generation_config_gives_what_it_sets_and_nothing_else() -> None:
    config = GenerationConfig(temperature=0.7, top_k=20, repetition_penalty=1, max_new_tokens=100, do_sample=True)  # type: ignore[no-untyped-call]
    assert model_defaults(config) == {
        "temperature": 0.7,
        "top_k": 20,
        "repetition_penalty": 1,
        "max_tokens": 100,
    }
    assert model_defaults(GenerationConfig()) == {}  # type: ignore[no-untyped-call]
    assert model_defaults(None) == {}


def test_what_a_model_sets_out_of_range_is_left_out() -> None:
    class Config:
        temperature = 5.0
        top_p = 0.9
        top_k = "many"

    assert model_defaults(Config()) == {"top_p": 0.9}


OUT_OF_RANGE: list[tuple[str, Any]] = [
    ("n", 0),
    ("n", 1.5),
    ("best_of", 0),
    ("presence_penalty", 2.1),
    ("presence_penalty", -2.1),
    ("frequency_penalty", 3),
    ("repetition_penalty", 0),
    ("repetition_penalty", -1),
    ("temperature", -0.1),
    ("temperature", 2.5),
    ("temperature", float("nan")),
    ("temperature", "warm"),
    ("top_p", 0),
    ("top_p", 1.1),
    ("top_k", -2),
    ("top_k", 0.5),
    ("min_p", -0.1),
    ("min_p", 1.1),
    ("seed", -1),
    ("max_tokens", 0),
    ("max_tokens", True),
    ("min_tokens", -1),
    ("beam_width", 1),
    ("early_stopping", "sometimes"),
    ("logprobs", -1),
    ("logprobs", 1000),
    ("prompt_logprobs", -1),
    ("stop", "text"),
    ("stop", [1]),
    ("stop_token_ids", ["a"]),
    ("ignore_eos", 1),
]


@pytest.mark.parametrize(("name", "value"), OUT_OF_RANGE)
def test_a_value_out_of_range_is_refused_with_the_range(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve(**{name: value})
    (problem,) = caught.value.problems
    assert problem.key == name
    assert "must be" in problem.message


@pytest.mark.parametrize("name", ["n", "temperature", "top_k", "top_p", "min_p", "seed", "stop", "logprobs"])
def test_the_borders_are_permitted(name: str) -> None:
    limits = {operator: number for operator, number in sampling_knobs()[name].limits if operator in (">=", "<=")}
    for number in limits.values():
        value = int(number) if sampling_knobs()[name].kind == "int" or name in ("seed", "logprobs") else float(number)
        resolve_knobs([(YOURS, {name: value} | ({"temperature": 1.0} if name != "temperature" else {}))])


def test_all_problems_are_told_at_once_and_a_misspelling_with_the_nearest_name() -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve_knobs([("preset", {"top_q": 1}), (YOURS, {"temperature": 9})])
    first, second = caught.value.problems
    assert "did you mean top_" in first.message
    assert (first.where, second.where) == ("preset", "")


@pytest.mark.parametrize(
    ("knobs", "key"),
    [
        ({"n": 3, "best_of": 2}, "best_of"),
        ({"n": 2, "temperature": 0.0}, "n"),
        ({"best_of": 2, "temperature": 0.0}, "best_of"),
        ({"min_tokens": 20, "max_tokens": 10}, "min_tokens"),
        ({"use_beam_search": True, "n": 5, "beam_width": 4}, "beam_width"),
        ({"stop": [""]}, "stop"),
    ],
)
def test_knobs_that_contradict_each_other_are_refused(knobs: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve(**knobs)
    assert [problem.key for problem in caught.value.problems] == [key]


@pytest.mark.parametrize(
    ("knobs", "ignored"),
    [
        ({"temperature": 0.0, "top_p": 0.9, "min_p": 0.1, "seed": 3}, {"top_p", "min_p", "seed"}),
        ({"length_penalty": 2.0, "early_stopping": True}, {"length_penalty", "early_stopping"}),
        ({"use_beam_search": True, "temperature": 0.5, "top_k": 5, "seed": 1}, {"temperature", "top_k", "seed"}),
        ({"use_beam_search": True, "length_penalty": 2.0, "n": 4}, set()),
        ({"temperature": 0.0, "top_p": 1.0}, set()),
        ({}, set()),
    ],
)
def test_a_knob_without_effect_says_so(knobs: dict[str, Any], ignored: set[str]) -> None:
    resolved = resolve(**knobs)
    assert set(resolved.ignored) == ignored
    assert all(resolved.ignored.values())


def test_a_temperature_that_is_lifted_is_told() -> None:
    assert resolve(temperature=0.001).notes == ("temperature 0.001 counts as 0.01",)
    assert resolve(temperature=0.0).notes == ()
    assert resolve(temperature=0.5).notes == ()


def test_contrastive_search_is_said_to_be_gone_and_what_there_is_instead() -> None:
    with pytest.raises(ConfigurationError, match=r"not in transformers any more.*repetition_penalty"):
        resolve(penalty_alpha=0.6)
