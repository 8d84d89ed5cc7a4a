"""The knobs that count for an answer: from several layers to one set of values that knows where each came from.

Layers, from below: our default, the model's generation_config.json, the run it comes from, a preset, what the user set.
Loads nothing heavy, so that a command line is checked before a model is loaded.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tui_trainer.config.catalogue import Knob, check_value, sampling_knobs
from tui_trainer.config.checks import check_sampling
from tui_trainer.config.sampling import GREEDY_BELOW, SamplingParams
from tui_trainer.errors import ConfigurationError, Problem

LOWEST_TEMPERATURE = 0.01
"""Smaller temperatures that are not greedy are lifted to this, as in vLLM, so that no logit overflows."""
DEFAULT = "default"
YOURS = "you"
ALIASES = {
    "max_new_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "min_new_tokens": "min_tokens",
    "num_beams": "beam_width",
    "num_return_sequences": "n",
    "stop_strings": "stop",
}
"""Other names of knobs, as `transformers` and OpenAI have them."""

_FROM_MODEL = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_new_tokens")
"""What is taken from a model's generation_config.json, as in vLLM."""
_CONTRASTIVE = ("penalty_alpha", "contrastive")
_BEAM_KNOBS = ("beam_width", "length_penalty", "early_stopping")
_DRAW_KNOBS = ("top_p", "top_k", "min_p", "seed")
_NEUTRAL_FOR_BEAMS = {"temperature": 0.0, "top_p": 1.0, "top_k": -1, "min_p": 0.0, "best_of": None}
_NEUTRAL_WITHOUT_BEAMS = {"length_penalty": 1.0, "early_stopping": False}


@dataclass(frozen=True)
class ResolvedKnobs:
    """The knobs of an answer.

    Attributes:
        params: the values that count.
        sources: the layer each value came from.
        ignored: the knobs somebody set that have no effect, each with the reason.
        notes: values that count otherwise than they stand there.
    """

    params: SamplingParams
    sources: Mapping[str, str]
    ignored: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Each knob with its value and source."""
        values = self.params.model_dump()
        return {name: {"value": values[name], "source": self.sources[name]} for name in values}


def is_greedy(params: SamplingParams) -> bool:
    """Whether the most probable token is always taken."""
    return params.temperature < GREEDY_BELOW


def resolve_knobs(layers: Sequence[tuple[str, Mapping[str, Any]]]) -> ResolvedKnobs:
    """Merge layers of knobs, the later ones winning.

    Args:
        layers: name of the layer and the values it sets; what the user set is called `YOURS`.

    Raises:
        ConfigurationError: an unknown knob, a value out of range, or values that contradict each other; all are named.
    """
    values: dict[str, Any] = {}
    sources = dict.fromkeys(sampling_knobs(), DEFAULT)
    problems: list[Problem] = []
    for layer, settings in layers:
        for given, value in settings.items():
            name = ALIASES.get(given, given)
            try:
                values[name] = check_value(_knob(name), value)
                sources[name] = layer
            except ValueError as error:
                problems.append(Problem(given, str(error), where="" if layer == YOURS else layer))
    if problems:
        raise ConfigurationError.of(problems)
    params = SamplingParams.model_validate(values)
    if problems := _contradictions(params):
        raise ConfigurationError.of(problems)
    notes: tuple[str, ...] = ()
    if 0 < params.temperature < LOWEST_TEMPERATURE and not is_greedy(params):
        notes = (f"temperature {params.temperature:g} counts as {LOWEST_TEMPERATURE:g}",)
    return ResolvedKnobs(params, sources, _ignored(params, sources), notes)


def inspect_knobs(layers: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """What `resolve_knobs` finds, as a JSON object; what is wrong is told in it instead of raised.

    Returns:
        {"knobs": {name: {"value", "source"}}, "ignored": {name: reason}, "notes", "strategy", "problems"}; where
        something is wrong, the knobs are those without what the topmost layer sets.
    """
    problems: list[Problem] = []
    try:
        resolved = resolve_knobs(layers)
    except ConfigurationError as error:
        problems = list(error.problems)
        resolved = resolve_knobs(layers[:-1])
    return {
        "knobs": resolved.to_dict(),
        "ignored": dict(resolved.ignored),
        "notes": list(resolved.notes),
        "strategy": strategy_of(resolved.params),
        "problems": [
            {"key": problem.key, "message": problem.message, "remedy": problem.remedy} for problem in problems
        ],
    }


def strategy_of(params: SamplingParams) -> str:
    """How the next token is chosen, in words: "sampling with top-k 50 and top-p 0.95"."""
    if params.use_beam_search:
        return f"beam search, {params.beam_width} wide"
    if is_greedy(params):
        return "greedy: always the most probable token"
    limits = [
        f"{word} {value:g}"
        for word, value, is_on in (
            ("min-p", params.min_p, params.min_p > 0),
            ("top-k", params.top_k, params.top_k > 0),
            ("top-p", params.top_p, params.top_p < 1),
        )
        if is_on
    ]
    return f"sampling with {' and '.join(limits)}" if limits else "sampling from the whole vocabulary"


def _knob(name: str) -> Knob:
    knobs = sampling_knobs()
    if name in _CONTRASTIVE:
        raise ValueError(
            "is for contrastive search, which is not in transformers any more; against repetition there are "
            "repetition_penalty and frequency_penalty, and min_p keeps improbable tokens out"
        )
    if name not in knobs:
        near = difflib.get_close_matches(name, [*knobs, *ALIASES], n=1)
        raise ValueError(f"there is no such knob{f'; did you mean {near[0]}?' if near else ''}")
    return knobs[name]


def model_defaults(generation_config: Any) -> dict[str, Any]:
    """The knobs that a model's generation_config.json sets; values outside our range are left out."""
    found = {}
    for name in _FROM_MODEL:
        value = getattr(generation_config, name, None)
        if value is None:
            continue
        ours = ALIASES.get(name, name)
        try:
            found[ours] = check_value(sampling_knobs()[ours], value)
        except ValueError:
            continue
    return found


def _contradictions(params: SamplingParams) -> list[Problem]:
    """Knobs that cannot be had together; those that the strategy ignores contradict nothing."""
    neutral = _NEUTRAL_FOR_BEAMS if params.use_beam_search else _NEUTRAL_WITHOUT_BEAMS
    problems = check_sampling(params.model_copy(update=dict(neutral)))
    return [replace(problem, key=problem.key.removeprefix("sampling.")) for problem in problems]


def _ignored(params: SamplingParams, sources: Mapping[str, str]) -> dict[str, str]:
    """The knobs that differ from their default without having an effect."""
    reasons: dict[str, str] = {}
    if params.use_beam_search:
        reasons |= dict.fromkeys(("temperature", *_DRAW_KNOBS, "best_of"), "beam search does not draw")
    else:
        reasons |= dict.fromkeys(_BEAM_KNOBS, "only for beam search")
        if is_greedy(params):
            reasons |= dict.fromkeys(_DRAW_KNOBS, "temperature 0 always takes the most probable token")
    knobs = sampling_knobs()
    return {
        name: reason
        for name, reason in reasons.items()
        if sources[name] != DEFAULT and getattr(params, name) != knobs[name].default
    }
