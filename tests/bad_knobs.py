"""Wrong sampling knobs, each with words of what is said of it: the same table for the command and for the screen."""

from __future__ import annotations

OUT_OF_RANGE: dict[str, list[tuple[str, str]]] = {
    "temperature": [("-1", "at least 0 and at most 2"), ("2.5", "not 2.5"), ("nan", "not nan"), ("hot", "number")],
    "top_p": [("0", "above 0 and at most 1"), ("1.5", "not 1.5")],
    "top_k": [("-2", "at least -1"), ("2.7", "whole number")],
    "min_p": [("-0.1", "at least 0"), ("1.1", "at most 1")],
    "max_tokens": [("0", "at least 1"), ("-1", "at least 1")],
    "min_tokens": [("-1", "at least 0")],
    "seed": [("-1", "at least 0"), ("1.5", "whole number")],
    "n": [("0", "at least 1"), ("257", "at most 256"), ("1.5", "whole number")],
    "best_of": [("0", "at least 1"), ("999", "at most 256")],
    "presence_penalty": [("3", "at most 2")],
    "frequency_penalty": [("-3", "at least -2")],
    "repetition_penalty": [("0", "above 0"), ("11", "at most 10")],
    "beam_width": [("1", "at least 2"), ("65", "at most 64")],
    "length_penalty": [("11", "at most 10")],
    "early_stopping": [("maybe", "true or false or 'never'")],
    "logprobs": [("-1", "at least 0"), ("101", "at most 100")],
    "prompt_logprobs": [("101", "at most 100")],
    "logit_bias": [("nonsense", "a table")],
}
"""Knob to texts that are typed for it and words of the refusal."""

CONTRADICTIONS: list[tuple[dict[str, str], str]] = [
    ({"n": "2", "temperature": "0"}, "same answer"),
    ({"best_of": "2", "temperature": "0"}, "same answer"),
    ({"best_of": "1", "n": "2"}, "n = 2 answers are wanted"),
    ({"use_beam_search": "true", "n": "9", "beam_width": "4"}, "n = 9 answers are wanted"),
    ({"min_tokens": "9", "max_tokens": "4"}, "above max_tokens = 4"),
    ({"logit_bias": '{"a" = 1.0}'}, "which is no token id"),
    ({"logit_bias": '{"5" = 200.0}'}, "set -100 to 100"),
    ({"stop": '[""]'}, "empty text"),
    ({"bad_words": '[""]'}, "empty text"),
    ({"stop_token_ids": "[-1]"}, "negative number"),
    ({"allowed_token_ids": "[-4]"}, "negative number"),
]
"""Knobs that cannot be had together, or lists with something in them that cannot be."""

IGNORED: list[tuple[dict[str, str], str, str]] = [
    ({"temperature": "0", "top_p": "0.5"}, "top_p", "most probable token"),
    ({"use_beam_search": "true", "temperature": "0.7"}, "temperature", "beam search does not draw"),
    ({"use_beam_search": "true", "best_of": "3"}, "best_of", "beam search does not draw"),
    ({"length_penalty": "2"}, "length_penalty", "only for beam search"),
    ({"beam_width": "3", "use_beam_search": "false"}, "beam_width", "only for beam search"),
]
"""Knobs without effect: which, and why."""
