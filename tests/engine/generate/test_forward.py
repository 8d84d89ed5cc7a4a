"""The lean forward pass gives the library's logits, for every architecture it takes on and with adapters; else it is
not used."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tui_trainer.config.sampling import SamplingParams
from tui_trainer.engine.generate.engine import Engine
from tui_trainer.engine.generate.forward.choose import choose_forward, disagreement
from tui_trainer.engine.generate.forward.fused import FusedForward
from tui_trainer.engine.generate.forward.library import LibraryForward
from tui_trainer.engine.models.adapter import WITHOUT_ADAPTER
from tui_trainer.engine.models.chat_model import LoadedModel
from tui_trainer.engine.models.int8 import Int8Linear, quantize
from tui_trainer.engine.models.randomness import seeded

SIZES = {
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
MODELS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "llama": (LlamaForCausalLM, LlamaConfig, {}),
    "llama, tied": (LlamaForCausalLM, LlamaConfig, {"tie_word_embeddings": True}),
    "llama, biases": (LlamaForCausalLM, LlamaConfig, {"attention_bias": True, "mlp_bias": True}),
    "llama 3 rope": (LlamaForCausalLM, LlamaConfig, {"rope_parameters": LLAMA3}),
    "wide heads": (LlamaForCausalLM, LlamaConfig, {"head_dim": 32, "num_key_value_heads": 4}),
    "mistral": (MistralForCausalLM, MistralConfig, {"sliding_window": None}),
    "qwen 2": (Qwen2ForCausalLM, Qwen2Config, {}),
    "qwen 3": (Qwen3ForCausalLM, Qwen3Config, {"head_dim": 24}),
}


def make(name: str, **changes: Any) -> Any:
    model_class, config_class, fields = MODELS[name]
    with seeded(1):
        model = model_class(config_class(**{**SIZES, **fields, **changes}))
        for parameter in model.parameters():
            if parameter.dim() == 1:  # norms and biases are ones and zeros, which would hide where they are used
                parameter.data += torch.randn_like(parameter) * 0.2
    model.train(False)
    return model


def adapted(model: Any, *names: str, **fields: Any) -> Any:
    for name in names:
        config = LoraConfig(r=3, lora_alpha=9, target_modules="all-linear", init_lora_weights=False, **fields)
        with seeded(len(name)):
            if name == names[0]:
                model = get_peft_model(model, config, adapter_name=name)
            else:
                model.add_adapter(name, config)
    model.train(False)
    return model


def ids(*shape: int) -> torch.Tensor:
    with seeded(3):
        return torch.randint(0, 300, shape)


def through(forward: Any, prompt: torch.Tensor, following: torch.Tensor, adapters: Any = ()) -> torch.Tensor:
    """The logits after a prompt in two parts and after each following token."""
    cache = forward.new_cache()
    if len(adapters) > 1:
        cache = cache.repeated(len(adapters))
    parts = [forward.all_logits(prompt[:, :4], cache, adapters), forward.all_logits(prompt[:, 4:], cache, adapters)]
    parts += [forward.last_logits(token[:, None], cache, adapters)[:, None] for token in following.T]
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize("name", MODELS)
def test_its_logits_are_the_librarys(name: str) -> None:
    model = make(name)
    library = through(LibraryForward(model), ids(1, 11), ids(1, 5))
    ours = through(FusedForward(model), ids(1, 11), ids(1, 5))
    torch.testing.assert_close(ours, library, atol=2e-5, rtol=1e-4)


def test_the_cache_grows_beyond_its_first_room_and_is_cut_back() -> None:
    model = make("llama")
    forwards: list[Any] = [LibraryForward(model), FusedForward(model)]
    caches = [forward.new_cache() for forward in forwards]
    for forward, cache in zip(forwards, caches, strict=True):
        forward.last_logits(ids(1, 250), cache)
        for token in ids(40):
            forward.last_logits(token[None, None], cache)
        cache.crop(100)
    expected, got = (forward.last_logits(ids(1, 3), cache) for forward, cache in zip(forwards, caches, strict=True))
    torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-4)


def test_rows_are_repeated_kept_and_joined() -> None:
    model = make("llama")
    library, fused = LibraryForward(model), FusedForward(model)
    results = []
    for forward in (library, fused):
        cache = forward.new_cache()
        forward.last_logits(ids(1, 8), cache)
        several: Any = cache.repeated(3)
        forward.last_logits(torch.tensor([[1], [2], [3]]), several)
        several.keep([2, 0])
        other = forward.new_cache()
        forward.last_logits(ids(1, 9), other)
        whole = several.joined([other])
        results.append(forward.last_logits(torch.tensor([[5], [6], [7]]), whole))
        results.append(forward.last_logits(torch.tensor([[4]]), cache))
    torch.testing.assert_close(results[2], results[0], atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(results[3], results[1], atol=2e-5, rtol=1e-4)


def test_rows_go_through_adapters_of_their_own() -> None:
    model = adapted(make("llama", num_hidden_layers=2), "one", "another")
    adapters = (WITHOUT_ADAPTER, "one", "another", "one")
    prompt, following = ids(1, 9).repeat(4, 1), ids(4, 3)
    fused = FusedForward(model)
    together = through(fused, prompt, following, adapters)
    torch.testing.assert_close(
        together, through(LibraryForward(model), prompt, following, adapters), atol=5e-5, rtol=1e-4
    )
    for row, adapter in enumerate(adapters):
        alone = through(fused, prompt[row : row + 1], following[row : row + 1], (adapter,))
        torch.testing.assert_close(together[row : row + 1], alone, atol=5e-5, rtol=1e-4)
    assert (together[0] - together[1]).abs().max() > 0.01


def test_adapters_on_some_layers_only_and_new_weights_of_theirs() -> None:
    model = get_peft_model(
        make("qwen 2", num_hidden_layers=2),
        LoraConfig(r=2, target_modules=["q_proj", "up_proj"], init_lora_weights=False),
    )
    model.train(False)
    fused = FusedForward(model)
    before = through(fused, ids(1, 9), ids(1, 2))
    torch.testing.assert_close(before, through(LibraryForward(model), ids(1, 9), ids(1, 2)), atol=2e-5, rtol=1e-4)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data *= 3
    fused.refresh()
    after = through(fused, ids(1, 9), ids(1, 2))
    torch.testing.assert_close(after, through(LibraryForward(model), ids(1, 9), ids(1, 2)), atol=5e-5, rtol=1e-4)
    assert (after - before).abs().max() > 0.01


@pytest.mark.parametrize("name", ["llama, biases", "qwen 3"])
def test_new_weights_in_the_librarys_model_are_taken_over(name: str) -> None:
    model, other = make(name), make(name, initializer_range=0.1)
    fused = FusedForward(model)
    with torch.no_grad():
        for parameter, new in zip(model.parameters(), other.parameters(), strict=True):
            parameter.copy_(new)
    fused.refresh()
    torch.testing.assert_close(
        through(fused, ids(1, 9), ids(1, 2)), through(LibraryForward(other), ids(1, 9), ids(1, 2)), atol=2e-5, rtol=1e-4
    )


def test_a_product_of_a_large_weight_with_few_tokens_is_the_same() -> None:
    model = make("llama", hidden_size=512, num_hidden_layers=1, vocab_size=1000, initializer_range=0.02)
    library, fused = LibraryForward(model), FusedForward(model)
    for rows in (1, 2, 3, 8, 9):
        tokens = ids(rows, 1)
        caches = [forward.new_cache().repeated(rows) for forward in (library, fused)]
        expected, got = library.last_logits(tokens, caches[0]), fused.last_logits(tokens, caches[1])
        torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-4)


def test_what_it_does_not_know_is_left_to_the_library_with_a_word() -> None:
    gpt = GPT2LMHeadModel(GPT2Config(vocab_size=300, n_embd=32, n_layer=1, n_head=2))
    gpt.train(False)
    choices = {
        "GPT2LMHeadModel": gpt,
        "sliding window": make("mistral", sliding_window=8),
        "activation gelu": make("llama", hidden_act="gelu"),
        "more than a plain LoRA": adapted(make("llama", num_hidden_layers=1), "x", use_dora=True),
        "default, which is more": adapted(make("llama", num_hidden_layers=1), "default", modules_to_save=["lm_head"]),
    }
    for words, model in choices.items():
        choice = choose_forward(model)
        assert choice.forward.kind == "library"
        assert words in choice.note


def test_a_lean_step_that_differs_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make("llama")
    assert choose_forward(model).forward.kind == "fused"
    assert choose_forward(model, "library").note == ""
    monkeypatch.setattr(FusedForward, "_rotated", lambda self, qkv, *rest: qkv.view(qkv.shape[0], -1, 16))
    choice = choose_forward(model)
    assert choice.forward.kind == "library"
    assert "differs from it by" in choice.note


def test_a_lean_step_that_fails_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise RuntimeError("no kernel for this device")

    monkeypatch.setattr(FusedForward, "_rotated", fail)
    choice = choose_forward(make("llama"))
    assert (choice.forward.kind, "no kernel for this device" in choice.note) == ("library", True)


def test_int8_layers_are_near_the_original_in_both_forward_passes() -> None:
    model = make("llama", initializer_range=0.05)
    exact = copy.deepcopy(model)
    quantize(model)
    assert isinstance(model.model.layers[0].mlp.down_proj, Int8Linear)
    assert isinstance(model.lm_head, Int8Linear)
    choice = choose_forward(model)
    assert choice.forward.kind == "fused"
    assert disagreement(choice.forward, LibraryForward(exact)) < 0.05


def test_an_int8_weight_is_rounded_to_half_a_step() -> None:
    with seeded(2):
        linear = torch.nn.Linear(64, 32)
    rounded = Int8Linear.of(linear)
    restored = rounded.weight.float() * rounded.scale.float()[:, None]
    step = rounded.scale.float()[:, None]
    assert ((restored - linear.weight).abs() <= step * 0.51).all()
    for tokens in (1, 5, 40):
        x = ids(tokens, 64).float() / 300
        torch.testing.assert_close(rounded(x), linear(x), atol=0.05, rtol=0.05)


def generated(model: Any, prompt: list[int], num_tokens: int) -> list[int]:
    """What `generate` says, greedily."""
    tensor = torch.tensor([prompt])
    output = model.generate(
        tensor,
        attention_mask=torch.ones_like(tensor),
        do_sample=False,
        min_new_tokens=num_tokens,
        max_new_tokens=num_tokens,
        pad_token_id=0,
    )
    said: list[int] = output[0, len(prompt) :].tolist()
    return said


def test_greedy_answers_through_the_lean_step_are_generates(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast
) -> None:
    choice = choose_forward(model)
    assert choice.forward.kind == "fused"
    engine = Engine(model, tokenizer, [], forward=choice.forward)
    for question in ("Who are you?", "a", "x" * 300):
        prompt = list(question.encode())
        answer = engine.generate(prompt, SamplingParams(temperature=0.0, max_tokens=48))[0]
        assert answer.ids == generated(model, prompt, 48)


@pytest.mark.model
def test_a_real_model_says_what_generate_says(smollm2: LoadedModel) -> None:
    choice = choose_forward(smollm2.model)
    assert choice.forward.kind == "fused"
    engine = Engine(smollm2.model, smollm2.tokenizer, [], forward=choice.forward)
    prompt = smollm2.tokenizer.encode("The lighthouse stood at the end of the pier, and every evening")
    answer = engine.generate(prompt, SamplingParams(temperature=0.0, max_tokens=48))[0]
    assert answer.ids == generated(smollm2.model, prompt, 48)


@pytest.mark.model
def test_a_real_model_with_weights_in_8_bits_takes_the_lean_step(smollm2: LoadedModel) -> None:
    small = copy.deepcopy(smollm2.model)
    quantize(small)
    choice = choose_forward(small)
    assert (choice.forward.kind, choice.note) == ("fused", "")
