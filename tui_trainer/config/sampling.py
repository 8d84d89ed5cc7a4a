"""Sampling knobs with vLLM's names and rules: the section `[sampling]`, `chat`'s options, the Chat screen's panel.

Sources: `SamplingParams` of vLLM 0.6 (which had beam search) and of today, for names, ranges and order of operations.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from tui_trainer.config.section import Section, knob

GREEDY_BELOW = 1e-5
"""A temperature below this means greedy decoding."""


class SamplingParams(Section):
    """How the next token is chosen and when to stop."""

    group: ClassVar[str] = "Sampling"

    temperature: float = knob(
        1.0, "Randomness: 0 always takes the most probable token, 1 samples what the model says.", ge=0, le=2
    )
    top_p: float = knob(1.0, "Sample only from the most probable tokens that together reach this share.", gt=0, le=1)
    top_k: int = knob(-1, "Sample only from this many most probable tokens; -1 and 0 mean all.", ge=-1)
    min_p: float = knob(0.0, "Leave out tokens less probable than this share of the most probable one.", ge=0, le=1)
    max_tokens: int | None = knob(256, "Longest answer; without it up to the model's context.", unit="tokens", ge=1)
    min_tokens: int = knob(0, "Shortest answer: end tokens are held back until then.", unit="tokens", ge=0)
    seed: int | None = knob(None, "Start of the random numbers; the same seed gives the same answer.", ge=0)
    n: int = knob(1, "Answers to one prompt.", ge=1, le=256)
    best_of: int | None = knob(None, "Generate this many and keep the n most probable ones.", ge=1, le=256)
    presence_penalty: float = knob(
        0.0, "Subtracted once from the logit of each token that was generated already.", ge=-2, le=2
    )
    frequency_penalty: float = knob(
        0.0, "Subtracted from a token's logit for each time it was generated already.", ge=-2, le=2
    )
    repetition_penalty: float = knob(
        1.0,
        "Divides positive and multiplies negative logits of tokens in prompt and answer. 1 is off.",
        gt=0,
        le=10,
    )
    use_beam_search: bool = knob(False, "Follow several candidates at once and keep the most probable whole answer.")
    beam_width: int = knob(4, "Candidates that beam search follows.", ge=2, le=64)
    length_penalty: float = knob(
        1.0, "Beam search: above 0 favours longer answers, below 0 shorter ones.", ge=-10, le=10
    )
    early_stopping: bool | Literal["never"] = knob(
        False, "Beam search: stop at the first n finished candidates, or never before no better one is possible."
    )
    stop: list[str] = knob(factory=list, help="Texts that end the answer; they are not part of it.")
    stop_token_ids: list[int] = knob(factory=list, help="Token ids that end the answer.")
    ignore_eos: bool = knob(False, "Go on after the end token, up to max_tokens.")
    logprobs: int | None = knob(
        None,
        "Log-probabilities of this many most probable tokens at each position; 0 only the chosen one.",
        ge=0,
        le=100,
    )
    prompt_logprobs: int | None = knob(None, "The same for the tokens of the prompt.", ge=0, le=100)
    logit_bias: dict[str, float] = knob(
        factory=dict,
        help='Added to the logits of tokens, by id: {"42" = -5.0}; -100 forbids a token, 100 forces it.',
        expert=True,
    )
    bad_words: list[str] = knob(factory=list, help="Texts that are never written.", expert=True)
    allowed_token_ids: list[int] = knob(
        factory=list, help="Only these tokens may be chosen; empty means all.", expert=True
    )
    include_stop_str_in_output: bool = knob(False, "Show the text of stop that ended the answer.", expert=True)
    skip_special_tokens: bool = knob(True, "Leave special tokens out of the text.")


class SamplingConfig(SamplingParams):
    """Knobs for the samples taken at each evaluation, and the chat's first setting."""

    prompts: list[str] = knob(
        factory=list,
        help="Prompts answered at each evaluation, so that one sees the model learn.",
    )
    system: str | None = knob(None, "System message for these prompts.")
    num_exact_match: int = knob(
        0,
        "Rows of the evaluation data that are answered at each evaluation and compared with their reference, as "
        "eval_exact_match.",
        unit="rows",
        ge=0,
    )
