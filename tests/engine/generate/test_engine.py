"""The decode loop against `transformers.generate` and against itself."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OpenAIGPTConfig,
    OpenAIGPTLMHeadModel,
    PreTrainedTokenizerFast,
)

from tests.engine.tiny import tiny_model
from tui_trainer.config.sampling import SamplingParams
from tui_trainer.engine.generate.candidates import Candidate, TokenStep
from tui_trainer.engine.generate.engine import Engine
from tui_trainer.engine.models.randomness import seeded
from tui_trainer.errors import RunFailedError, UsageError

PROMPT = list(b"The quick brown fox jumps over the lazy dog. ")
SIZES: dict[str, Any] = {"vocab_size": 259, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}


def reference(model: Any, prompt: list[int], num_tokens: int, **options: Any) -> list[int]:
    """The tokens that `transformers.generate` adds, greedily unless told otherwise."""
    ids = torch.tensor([prompt])
    output = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=num_tokens,
        do_sample=False,
        eos_token_id=options.pop("eos_token_id", 258),
        pad_token_id=256,
        **options,
    )
    return [int(token) for token in output[0, len(prompt) :]]


def greedy(**knobs: Any) -> SamplingParams:
    return SamplingParams(temperature=0.0, **knobs)


def one(engine: Engine, prompt: list[int], params: SamplingParams, **options: Any) -> Candidate:
    (candidate,) = engine.generate(prompt, params, **options)
    return candidate


# --- equal to transformers


def test_greedy_equals_generate(model: LlamaForCausalLM, engine: Engine) -> None:
    for prompt in (PROMPT, [1], list(b"a" * 300)):
        assert one(engine, prompt, greedy(max_tokens=48)).ids == reference(model, prompt, 48)


def with_seed(make: Callable[[], Any]) -> Any:
    with seeded(0):
        model = make()
    model.train(False)
    return model


ARCHITECTURES: dict[str, Callable[[], Any]] = {
    "tied": lambda: tiny_model(tie_word_embeddings=True),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=259, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3)),
    "sliding": lambda: MistralForCausalLM(
        MistralConfig(**SIZES, intermediate_size=64, num_key_value_heads=2, sliding_window=16, initializer_range=0.3)
    ),
    "mamba": lambda: MambaForCausalLM(
        MambaConfig(vocab_size=259, hidden_size=32, state_size=8, num_hidden_layers=2, initializer_range=0.3)
    ),
    "no cache": lambda: OpenAIGPTLMHeadModel(
        OpenAIGPTConfig(vocab_size=259, n_embd=32, n_layer=2, n_head=4, n_positions=256, initializer_range=0.3)
    ),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_other_architectures_too_over_several_turns(name: str, tokenizer: PreTrainedTokenizerFast) -> None:
    model = with_seed(ARCHITECTURES[name])
    engine = Engine(model, tokenizer, [258], context_length=256)
    first = one(engine, PROMPT, greedy(max_tokens=20))
    assert first.ids == reference(model, PROMPT, 20)
    for prompt in (PROMPT + first.ids + list(b"\nand "), PROMPT[:20] + list(b"other"), PROMPT):
        assert one(engine, prompt, greedy(max_tokens=20)).ids == reference(model, prompt, 20)
    rows = engine.generate(PROMPT, SamplingParams(n=3, seed=4, max_tokens=10, ignore_eos=True))
    alone = [one(engine, PROMPT, SamplingParams(seed=4 + row, max_tokens=10, ignore_eos=True)) for row in range(3)]
    assert [row.ids for row in rows] == [row.ids for row in alone]


@pytest.mark.model
def test_greedy_equals_generate_on_a_real_model(smollm2: Any) -> None:
    text = smollm2.tokenizer.apply_chat_template(
        [{"role": "user", "content": "Tell me a story about a lighthouse."}], tokenize=False, add_generation_prompt=True
    )
    prompt = smollm2.tokenizer.encode(text, add_special_tokens=False)
    engine = Engine(smollm2.model, smollm2.tokenizer, smollm2.stop_token_ids, smollm2.context_length)
    ours = one(engine, prompt, greedy(max_tokens=48))
    assert ours.ids == reference(smollm2.model, prompt, 48, eos_token_id=list(smollm2.stop_token_ids))


@pytest.mark.parametrize("length_penalty", [1.0, -1.0, 2.0])
@pytest.mark.parametrize("early_stopping", [True, False, "never"])
def test_beams_are_those_of_generate(model: Any, engine: Engine, length_penalty: float, early_stopping: Any) -> None:
    ids = torch.tensor([PROMPT])
    expected = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=12,
        num_beams=4,
        num_return_sequences=3,
        length_penalty=length_penalty,
        early_stopping=early_stopping,
        eos_token_id=258,
        pad_token_id=256,
        do_sample=False,
    )
    params = SamplingParams(
        use_beam_search=True,
        beam_width=4,
        n=3,
        max_tokens=12,
        length_penalty=length_penalty,
        early_stopping=early_stopping,
    )
    ours = [candidate.ids for candidate in engine.generate(PROMPT, params)]
    for got, row in zip(ours, expected[:, len(PROMPT) :].tolist(), strict=True):
        assert row[: len(got)] == got
        assert set(row[len(got) :]) <= {256, 258}


# --- log-probabilities


def test_logprobs_are_the_log_softmax_of_the_raw_logits(model: LlamaForCausalLM, engine: Engine) -> None:
    params = SamplingParams(
        temperature=0.7,
        top_k=40,
        repetition_penalty=1.4,
        presence_penalty=1.0,
        min_tokens=20,
        seed=1,
        max_tokens=20,
        logprobs=3,
    )
    candidate = one(engine, PROMPT, params)
    with torch.no_grad():
        raw = model(torch.tensor([PROMPT + candidate.ids])).logits[0].float().log_softmax(-1)
    for place, token in enumerate(candidate.tokens):
        row = raw[len(PROMPT) + place - 1]
        assert token.logprob == pytest.approx(float(row[token.id]), abs=1e-5)
        assert token.rank == int((row > row[token.id]).sum()) + 1
        best = row.topk(3)
        assert [id_ for id_, _ in token.top] == best.indices.tolist()
        assert [value for _, value in token.top] == pytest.approx(best.values.tolist(), abs=1e-5)
    assert candidate.cumulative_logprob == pytest.approx(sum(token.logprob for token in candidate.tokens))


def test_prompt_logprobs_are_those_of_one_forward_pass(model: LlamaForCausalLM, engine: Engine) -> None:
    prompt = list(range(200)) + PROMPT
    scored = engine.prompt_logprobs(prompt, 2)
    assert scored[0] is None
    with torch.no_grad():
        raw = model(torch.tensor([prompt])).logits[0].log_softmax(-1)
    assert len(scored) == len(prompt)
    for place, token in enumerate(scored[1:], start=1):
        assert token is not None
        assert token.id == prompt[place]
        assert token.logprob == pytest.approx(float(raw[place - 1, prompt[place]]), abs=1e-4)


def test_beams_carry_the_logprobs_of_their_tokens(model: LlamaForCausalLM, engine: Engine) -> None:
    (best, second) = engine.generate(PROMPT, SamplingParams(use_beam_search=True, beam_width=4, n=2, max_tokens=8))
    assert best.cumulative_logprob >= second.cumulative_logprob
    with torch.no_grad():
        raw = model(torch.tensor([PROMPT + best.ids])).logits[0].log_softmax(-1)
    expected = sum(float(raw[len(PROMPT) + place - 1, token]) for place, token in enumerate(best.ids))
    assert best.cumulative_logprob == pytest.approx(expected, abs=1e-4)


# --- several answers


def test_a_seed_gives_the_same_answer_again_and_another_seed_another(engine: Engine) -> None:
    def ids(seed: int) -> list[int]:
        return one(engine, PROMPT, SamplingParams(seed=seed, max_tokens=20, ignore_eos=True)).ids

    assert ids(1) == ids(1)
    assert ids(1) != ids(2)


@pytest.mark.parametrize("knobs", [{}, {"top_p": 0.9, "presence_penalty": 0.5}, {"top_k": 30, "logprobs": 1}], ids=str)
def test_answer_i_of_n_is_the_answer_to_seed_plus_i(engine: Engine, knobs: dict[str, Any]) -> None:
    together = engine.generate(PROMPT, SamplingParams(n=4, seed=7, max_tokens=24, **knobs))
    for row, candidate in enumerate(together):
        alone = one(engine, PROMPT, SamplingParams(seed=7 + row, max_tokens=24, **knobs))
        assert (candidate.ids, candidate.finish_reason) == (alone.ids, alone.finish_reason)


def test_best_of_returns_the_most_probable_first(engine: Engine) -> None:
    params = SamplingParams(n=2, best_of=6, seed=3, max_tokens=10)
    best = engine.generate(PROMPT, params)
    everyone = engine.generate(PROMPT, SamplingParams(n=6, seed=3, max_tokens=10))
    ranked = sorted(everyone, key=lambda candidate: -candidate.cumulative_logprob)
    assert [candidate.ids for candidate in best] == [candidate.ids for candidate in ranked[:2]]
    assert [candidate.index for candidate in best] == [candidate.index for candidate in ranked[:2]]


def test_the_stream_is_what_the_candidates_are_made_of(engine: Engine) -> None:
    generation = engine.stream(PROMPT, SamplingParams(n=3, seed=1, max_tokens=30))
    steps = list(generation)
    for candidate in generation.candidates:
        own = [step for step in steps if step.candidate == candidate.index]
        assert [step.token.id for step in own] == candidate.ids
        assert "".join(step.text for step in own) == candidate.text
        assert [step.finish_reason for step in own[:-1]] == [None] * (len(own) - 1)
        assert own[-1].finish_reason == candidate.finish_reason


# --- where an answer ends


def test_stop_tokens_end_an_answer_and_are_not_shown(engine: Engine) -> None:
    whole = one(engine, PROMPT, greedy(max_tokens=30, ignore_eos=True))
    stop = whole.ids[10]
    first = whole.ids.index(stop)
    stopped = one(engine, PROMPT, greedy(max_tokens=30, ignore_eos=True, stop_token_ids=[stop]))
    assert (stopped.finish_reason, stopped.stop_reason) == ("stop", stop)
    assert stopped.ids == whole.ids[: first + 1]
    shown = str(engine.tokenizer.decode(whole.ids[:first], skip_special_tokens=True))
    assert stopped.text == shown.rstrip("\ufffd")


def test_the_end_token_ends_unless_it_is_ignored(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    plain = one(Engine(model, tokenizer, []), PROMPT, greedy(max_tokens=30))
    end = plain.ids[5]
    engine = Engine(model, tokenizer, [end])
    cut = one(engine, PROMPT, greedy(max_tokens=30))
    assert cut.ids == plain.ids[: plain.ids.index(end) + 1]
    assert cut.finish_reason == "stop"
    assert one(engine, PROMPT, greedy(max_tokens=30, ignore_eos=True)).ids == plain.ids
    held = one(engine, PROMPT, greedy(max_tokens=30, min_tokens=12))
    assert end not in held.ids[:12]
    assert len(held.ids) >= 12


def test_an_end_token_inside_the_prompt_does_not_end_anything(engine: Engine) -> None:
    prompt = [*PROMPT, 258, *PROMPT]
    assert len(one(engine, prompt, greedy(max_tokens=5, ignore_eos=False, min_tokens=5)).ids) == 5


def test_a_stop_string_ends_across_tokens_and_keeps_its_tokens(engine: Engine) -> None:
    whole = one(engine, PROMPT, greedy(max_tokens=60, ignore_eos=True))
    stop = whole.text[8:11]
    place = whole.text.index(stop)
    stopped = one(engine, PROMPT, greedy(max_tokens=60, ignore_eos=True, stop=[stop]))
    assert (stopped.text, stopped.finish_reason, stopped.stop_reason) == (whole.text[:place], "stop", stop)
    assert stopped.ids == whole.ids[: len(stopped.ids)]
    assert len(stopped.ids) < 60


def test_length_ends_at_max_tokens_and_at_the_context(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    engine = Engine(model, tokenizer, [], context_length=len(PROMPT) + 7)
    for wanted, expected in ((3, 3), (100, 7), (None, 7)):
        candidate = one(engine, PROMPT, greedy(max_tokens=wanted))
        assert (len(candidate.ids), candidate.finish_reason) == (expected, "length")


def test_special_tokens_are_shown_when_asked(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    engine = Engine(model, tokenizer, range(259))
    token = one(engine, PROMPT, greedy()).ids[0]
    shown = one(engine, PROMPT, greedy(skip_special_tokens=False))
    assert one(engine, PROMPT, greedy()).text == ""
    assert shown.text in (tokenizer.decode([token]), "")


@pytest.mark.parametrize(
    ("prompt", "knobs", "words"),
    [
        ([], {}, "prompt is empty"),
        (list(range(100)), {}, "100 tokens and the model's context is 64"),
        ([1, 300], {}, "token 300 does not exist"),
        ([1], {"stop_token_ids": [999]}, "token 999 does not exist"),
    ],
)
def test_what_cannot_be_asked_is_told_with_numbers(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, prompt: list[int], knobs: dict[str, Any], words: str
) -> None:
    engine = Engine(model, tokenizer, [258], context_length=64)
    with pytest.raises(UsageError, match=words):
        engine.generate(prompt, SamplingParams(**knobs))
    assert one(engine, PROMPT, greedy(max_tokens=3)).finish_reason in ("length", "stop")


def test_weights_that_are_not_numbers_are_told(tokenizer: PreTrainedTokenizerFast) -> None:
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    for params in (greedy(), SamplingParams(), SamplingParams(top_p=0.5)):
        with pytest.raises(RunFailedError, match="not a number"):
            Engine(model, tokenizer, [258]).generate(PROMPT, params)


# --- from turn to turn


def test_the_next_turn_runs_only_what_is_new_and_answers_the_same(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, engine: Engine
) -> None:
    first = one(engine, PROMPT, greedy(max_tokens=20))
    prompt = PROMPT + first.ids + list(b"\nuser: go on")
    warm = engine.stream(prompt, greedy(max_tokens=20))
    warm_ids = [step.token.id for step in warm]
    assert warm.num_reused >= len(PROMPT) + len(first.ids) - 1
    cold = Engine(model, tokenizer, [258], context_length=512)
    assert warm_ids == one(cold, prompt, greedy(max_tokens=20)).ids


@pytest.mark.parametrize(
    "params", [greedy(max_tokens=15), SamplingParams(n=3, seed=1, max_tokens=15)], ids=["one", "three"]
)
def test_any_sequence_of_prompts_gets_the_answers_of_a_fresh_engine(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, engine: Engine, params: SamplingParams
) -> None:
    base = list(b"0123456789 abcdefghij ")
    prompts = [base, base[:10], [*base, 5, 6], [*base[:10], 9], [7], base, base, [*base, 5, 6, 7, 8]]
    for prompt in prompts:
        fresh = Engine(model, tokenizer, [258], context_length=512)
        got, expected = engine.generate(prompt, params), fresh.generate(prompt, params)
        assert [candidate.ids for candidate in got] == [candidate.ids for candidate in expected]


def test_the_same_prompt_again_runs_one_token(engine: Engine) -> None:
    one(engine, PROMPT, greedy(max_tokens=5))
    generation = engine.stream(PROMPT, greedy(max_tokens=5))
    list(generation)
    assert generation.num_reused == len(PROMPT) - 1


def test_new_weights_are_not_asked_with_old_keys(tokenizer: PreTrainedTokenizerFast) -> None:
    model = tiny_model()
    engine = Engine(model, tokenizer, [258], context_length=512)
    before = one(engine, PROMPT, greedy(max_tokens=20)).ids
    with torch.no_grad(), seeded(1):
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    engine.forget()
    after = one(engine, PROMPT, greedy(max_tokens=20)).ids
    assert after == reference(model, PROMPT, 20)
    assert after != before


# --- stopping in the middle


def cancelled_after(count: int) -> Callable[[], bool]:
    asked = itertools.count(1)
    return lambda: next(asked) > count


@pytest.mark.parametrize("rows", [1, 3])
def test_cancelling_ends_within_a_token_and_keeps_what_there_is(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, engine: Engine, rows: int
) -> None:
    params = SamplingParams(n=rows, seed=1, max_tokens=100, ignore_eos=True)
    generation = engine.stream(PROMPT, params, is_cancelled=cancelled_after(5))
    steps: list[TokenStep] = list(generation)
    assert len(steps) == 5 * rows
    assert [candidate.finish_reason for candidate in generation.candidates] == ["cancelled"] * rows
    whole = engine.generate(PROMPT, params)
    for part, candidate in zip(generation.candidates, whole, strict=True):
        assert candidate.ids[:5] == part.ids
        assert candidate.text.startswith(part.text)


def test_cancelling_during_the_prompt_gives_an_empty_answer(engine: Engine) -> None:
    generation = engine.stream(PROMPT, greedy(), is_cancelled=lambda: True)
    assert list(generation) == []
    assert [(candidate.ids, candidate.finish_reason) for candidate in generation.candidates] == [([], "cancelled")]


def test_a_stream_that_nobody_reads_on_leaves_the_engine_whole(model: LlamaForCausalLM, engine: Engine) -> None:
    stream = iter(engine.stream(PROMPT, greedy(max_tokens=50)))
    for _ in range(4):
        next(stream)
    del stream
    assert one(engine, PROMPT, greedy(max_tokens=20)).ids == reference(model, PROMPT, 20)


def test_an_error_in_the_model_leaves_the_engine_whole(
    model: LlamaForCausalLM, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    one(engine, PROMPT, greedy(max_tokens=5))
    layer = model.model.layers[1]
    with monkeypatch.context() as broken:
        broken.setattr(layer, "forward", lambda *args, **kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            one(engine, PROMPT[:30], greedy(max_tokens=5))
    assert one(engine, PROMPT, greedy(max_tokens=20)).ids == reference(model, PROMPT, 20)


def test_beams_can_be_cancelled(engine: Engine) -> None:
    params = SamplingParams(use_beam_search=True, beam_width=3, max_tokens=200, ignore_eos=True)
    (candidate,) = engine.generate(PROMPT, params, is_cancelled=cancelled_after(3))
    assert candidate.finish_reason == "cancelled"
    assert len(candidate.ids) < 10


def test_nothing_of_it_touches_the_random_numbers_of_others(engine: Engine) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    engine.generate(PROMPT, SamplingParams(n=2, max_tokens=10))
    engine.generate(PROMPT, SamplingParams(use_beam_search=True, beam_width=2, max_tokens=5))
    assert torch.equal(torch.get_rng_state(), before)
