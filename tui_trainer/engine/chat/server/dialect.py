"""What servers understand of our knobs: which field each becomes, and why some cannot be translated.

Sources: `ChatCompletionRequest` of vLLM 0.32 and of SGLang, llama.cpp's server README of October 2026, ollama's
page on OpenAI compatibility and its `openai.go`. All values are sent, also those at our defaults: the servers' own
defaults differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tui_trainer.config.sampling import GREEDY_BELOW, SamplingParams

_OPENAI = {
    "temperature": "temperature",
    "top_p": "top_p",
    "max_tokens": "max_tokens",
    "seed": "seed",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "stop": "stop",
}
_MANY = {"n": "n", "logprobs": "logprobs", "logit_bias": "logit_bias"}
_VLLM = {
    **_OPENAI,
    **_MANY,
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "min_tokens": "min_tokens",
    "stop_token_ids": "stop_token_ids",
    "ignore_eos": "ignore_eos",
    "skip_special_tokens": "skip_special_tokens",
}
_VLLM_ONLY = {
    "bad_words": "bad_words",
    "allowed_token_ids": "allowed_token_ids",
    "include_stop_str_in_output": "include_stop_str_in_output",
}
_SPECIAL = ("logprobs", "use_beam_search", "beam_width", "length_penalty")
"""Knobs that become several fields, or only together with others."""
_LONG_CONTEXT = 1 << 17
_NOT_AT_ALL = "the server has no such setting"


_CONTINUING = {"continue_final_message": True, "add_generation_prompt": False}


@dataclass(frozen=True)
class Dialect:
    """A kind of server.

    Attributes:
        name: what it is called.
        fields: knob to field of its requests.
        constants: sent with every request.
        reasons: why a knob is not translated, where there is more to say than that it is not there.
        notes: where a knob means something else.
        remedies: what to do where a server refuses a request that sets a knob.
        can_prefill: whether a reply can be made to begin with a text.
        whole_context: the field that says how far back penalties look, in tokens.
        continuing: fields that say that the last message, the assistant's, is to be gone on with.
    """

    name: str
    fields: Mapping[str, str]
    constants: Mapping[str, Any] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    remedies: Mapping[str, str] = field(default_factory=dict)
    can_prefill: bool = False
    whole_context: str = ""
    continuing: Mapping[str, Any] = field(default_factory=dict)

    @property
    def untranslatable(self) -> dict[str, str]:
        """The knobs it does not take, each with the reason."""
        missing = [name for name in SamplingParams.model_fields if name not in self.fields]
        return {name: self.reasons.get(name, _NOT_AT_ALL) for name in missing}

    def request(self, params: SamplingParams, context_length: int | None) -> dict[str, Any]:
        """The fields of a request for some knobs.

        Args:
            params: the knobs.
            context_length: tokens of prompt and answer; None if the server does not say.
        """
        values = params.model_dump()
        body: dict[str, Any] = dict(self.constants)
        if self.whole_context:
            body[self.whole_context] = context_length or _LONG_CONTEXT
        for name, target in self.fields.items():
            value = values.get(name)
            if name in _SPECIAL or value is None or value in ([], {}) or (name == "n" and value == 1):
                continue
            body[target] = max(value, 0) if name == "top_k" else value
        if "logprobs" in self.fields and params.logprobs is not None:
            body |= {"logprobs": True, "top_logprobs": params.logprobs}
        if self.name == "vllm" and params.use_beam_search:
            body |= {"use_beam_search": True, "n": params.beam_width, "length_penalty": params.length_penalty}
        if params.temperature < GREEDY_BELOW:
            body["temperature"] = 0
        return body


VLLM = Dialect(
    "vllm",
    {
        **_VLLM,
        **_VLLM_ONLY,
        "use_beam_search": "use_beam_search",
        "beam_width": "n",
        "length_penalty": "length_penalty",
    },
    reasons={
        "best_of": "left vLLM with version 0.19",
        "early_stopping": "vLLM always searches to max_tokens",
        "prompt_logprobs": "vLLM does not stream them",
    },
    notes={"length_penalty": "vLLM divides by the length of prompt and answer, so it is weaker after long prompts"},
    remedies={"seed": "A seed for vLLM is at most 9223372036854775807."},
    can_prefill=True,
    constants={"return_token_ids": True},
    continuing=_CONTINUING,
)
SGLANG = Dialect(
    "sglang",
    {**_VLLM, "include_stop_str_in_output": "no_stop_trim"},
    can_prefill=True,
    continuing=_CONTINUING,
)
LLAMA_CPP = Dialect(
    "llama.cpp",
    {
        **_OPENAI,
        **_MANY,
        "top_k": "top_k",
        "min_p": "min_p",
        "repetition_penalty": "repeat_penalty",
        "ignore_eos": "ignore_eos",
    },
    can_prefill=True,
    # the order of vLLM's sampler; its own takes the temperature last
    constants={
        "samplers": ["penalties", "temperature", "min_p", "top_k", "top_p"],
        "cache_prompt": True,
    },
    # not -1: some versions refuse it
    whole_context="repeat_last_n",
    remedies={"n": "It gives as many answers at a time as it has slots: start it with --parallel, or leave n at 1."},
    notes={
        "presence_penalty": "llama.cpp counts the prompt's tokens too",
        "frequency_penalty": "llama.cpp counts the prompt's tokens too",
    },
)
OLLAMA = Dialect("ollama", {**_OPENAI, "logprobs": "logprobs"})
OPENAI = Dialect("openai", {**_OPENAI, **_MANY})

_OWNERS = {"vllm": VLLM, "sglang": SGLANG, "llamacpp": LLAMA_CPP, "library": OLLAMA}
"""Who owns the models that the server lists, by which it is known."""


def dialect_of(models: Any) -> Dialect | None:
    """The dialect of a server that lists its models so; None if that does not tell."""
    entries = models.get("data") if isinstance(models, Mapping) else None
    owners = [entry.get("owned_by") for entry in entries or () if isinstance(entry, Mapping)]
    return next((_OWNERS[owner] for owner in owners if owner in _OWNERS), None)
