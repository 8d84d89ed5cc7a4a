"""Many prompts at once answer as each alone, and training does not notice."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaForCausalLM, MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast

from tests.engine.tiny import tiny_model
from tui_trainer.config.sampling import SamplingParams
from tui_trainer.engine.generate.batch import evaluating, generate_batch
from tui_trainer.engine.generate.engine import Engine
from tui_trainer.engine.generate.forward.library import LibraryForward
from tui_trainer.engine.models.randomness import seeded


def prompts_of(count: int) -> list[list[int]]:
    numbers = random.Random(0)
    return [[numbers.randrange(256) for _ in range(numbers.randrange(1, 40))] for _ in range(count)]


def answers_alone(model: Any, tokenizer: Any, prompts: list[list[int]], max_tokens: int, stop: list[int]) -> Any:
    params = SamplingParams(temperature=0.0, max_tokens=max_tokens)
    found = []
    for prompt in prompts:
        (candidate,) = Engine(model, tokenizer, stop).generate(prompt, params)
        found.append(candidate.ids[:-1] if candidate.finish_reason == "stop" else candidate.ids)
    return found


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_each_prompt_gets_the_answer_it_would_get_alone(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, batch_size: int
) -> None:
    prompts, stop = prompts_of(12), list(range(100, 140))
    expected = answers_alone(model, tokenizer, prompts, 15, stop)
    assert len({len(answer) for answer in expected}) > 3
    assert generate_batch(model, tokenizer, prompts, 15, stop, batch_size=batch_size) == expected


def test_windows_of_attention_are_kept_in_a_batch(tokenizer: PreTrainedTokenizerFast) -> None:
    with seeded(0):
        config = MistralConfig(
            vocab_size=259,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            sliding_window=8,
            initializer_range=0.3,
        )
        model = MistralForCausalLM(config)
    model.train(False)
    prompts = prompts_of(6)
    assert generate_batch(model, tokenizer, prompts, 12, [258]) == answers_alone(model, tokenizer, prompts, 12, [258])


def test_nothing_to_answer_is_no_error(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    assert generate_batch(model, tokenizer, [], 5, [258]) == []


def losses(tokenizer: PreTrainedTokenizerFast, *, measures: bool) -> list[float]:
    """The losses of a few steps with dropout, an adapter and activation checkpointing."""
    model: Any = get_peft_model(tiny_model(), LoraConfig(r=2, lora_dropout=0.3, target_modules="all-linear"))
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": True})
    model.train()
    model.base_model.model.model.layers[0].eval()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    torch.manual_seed(3)
    found = []
    for step in range(6):
        ids = torch.tensor([prompts_of(8)[step % 8] + [1, 2, 3]])
        loss = model(ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(float(loss))
        if measures:
            generate_batch(model, tokenizer, prompts_of(4), 8, [258])
            with evaluating(model):
                engine = Engine(model, tokenizer, [258], forward=LibraryForward(model, is_in_training=True))
                engine.generate([1, 2, 3], SamplingParams(n=2, max_tokens=6))
                engine.generate([1, 2, 3], SamplingParams(use_beam_search=True, max_tokens=6))
    return found


def test_training_is_the_same_with_and_without_it(tokenizer: PreTrainedTokenizerFast) -> None:
    torch.manual_seed(0)
    plain = losses(tokenizer, measures=False)
    torch.manual_seed(0)
    assert losses(tokenizer, measures=True) == plain


def test_every_module_goes_back_to_its_own_mode() -> None:
    model = tiny_model()
    model.train()
    model.model.layers[1].train(False)
    before = [module.training for module in model.modules()]
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == before
    with pytest.raises(ZeroDivisionError), evaluating(model):
        1 / 0  # noqa: B018
    assert [module.training for module in model.modules()] == before
