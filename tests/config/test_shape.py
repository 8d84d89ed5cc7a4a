"""Parameter counts by arithmetic against the models that transformers and peft really build (without their memory)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tui_trainer.config.families import FAMILIES
from tui_trainer.config.model import LoraConfig
from tui_trainer.config.shape import ModelShape, num_trainable_parameters, shape_from_config

SMALL = {
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": 80,
    "vocab_size": 300,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT2 = {
    "n_embd": 48,
    "n_layer": 3,
    "n_head": 6,
    "n_positions": 64,
    "vocab_size": 300,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
NEOX = {name: value for name, value in SMALL.items() if name != "num_key_value_heads"}
EXPERTS = SMALL | {"moe_intermediate_size": 24, "num_experts_per_tok": 2}

CONFIGS: list[dict[str, Any]] = [
    {"model_type": "llama", **SMALL},
    {"model_type": "llama", **SMALL, "tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True},
    {"model_type": "llama", **SMALL, "head_dim": 16},
    {"model_type": "llama", **{k: v for k, v in SMALL.items() if k != "num_key_value_heads"}},
    {"model_type": "granite", **SMALL},
    {"model_type": "smollm3", **SMALL, "tie_word_embeddings": False},
    {"model_type": "mistral", **SMALL, "head_dim": 12},
    {"model_type": "qwen2", **SMALL},
    {"model_type": "qwen2", **SMALL, "tie_word_embeddings": True},
    {"model_type": "qwen3", **SMALL},
    {"model_type": "qwen3", **SMALL, "attention_bias": True, "head_dim": 8, "tie_word_embeddings": True},
    {"model_type": "gemma", **SMALL},
    {"model_type": "gemma2", **SMALL, "head_dim": 8},
    {"model_type": "gemma3_text", **SMALL, "head_dim": 8},
    {"model_type": "olmo2", **SMALL},
    {"model_type": "phi", **SMALL},
    {"model_type": "phi3", **SMALL},
    {"model_type": "starcoder2", **SMALL},
    {"model_type": "starcoder2", **SMALL, "use_bias": False},
    {"model_type": "gpt2", **GPT2},
    {"model_type": "gpt2", **GPT2, "n_inner": 100, "tie_word_embeddings": False},
    {"model_type": "gpt_neox", **NEOX},
    {"model_type": "gpt_neox", **NEOX, "attention_bias": False, "tie_word_embeddings": True},
    {"model_type": "mixtral", **SMALL, "num_local_experts": 4},
    {"model_type": "qwen2_moe", **EXPERTS, "num_experts": 5, "shared_expert_intermediate_size": 40},
    {"model_type": "qwen2_moe", **EXPERTS, "num_experts": 5, "decoder_sparse_step": 2, "qkv_bias": False},
    {"model_type": "qwen3_moe", **EXPERTS, "num_experts": 6, "mlp_only_layers": [0]},
]


def _name(config: dict[str, Any]) -> str:
    return "-".join(
        [config["model_type"], *(name for name in config if name not in {*SMALL, *GPT2, *EXPERTS, "model_type"})]
    )


def _build(config: dict[str, Any]) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    values = {name: value for name, value in config.items() if name != "model_type"}
    library: Any = AutoModelForCausalLM
    with torch.device("meta"):
        return library.from_config(AutoConfig.for_model(config["model_type"], **values))


def test_every_family_is_covered() -> None:
    assert {config["model_type"] for config in CONFIGS} == set(FAMILIES)


@pytest.mark.parametrize("config", CONFIGS, ids=_name)
def test_parameters_equal_those_of_the_real_model(config: dict[str, Any]) -> None:
    model = _build(config)
    shape = shape_from_config(config)
    assert shape.num_parameters == sum(parameter.numel() for parameter in model.parameters())
    assert shape == shape_from_config(model.config.to_dict())
    modules = dict(model.named_modules())
    for part in shape.parts:
        if part.kind in ("linear", "output") and ("{}" not in part.path or part.count == shape.num_layers):
            assert [path for path in part.paths() if path not in modules] == []


@pytest.mark.parametrize("model_type", FAMILIES)
def test_sizes_left_out_are_those_of_the_library(model_type: str) -> None:
    from transformers import AutoConfig

    given = {"model_type": model_type}
    assert shape_from_config(given) == shape_from_config(AutoConfig.for_model(model_type).to_dict())


LORAS: list[dict[str, Any]] = [
    {"r": 4},
    {"r": 8, "use_dora": True},
    {"r": 4, "target_modules": ["q_proj", "v_proj"]},
    {"r": 4, "target_modules": r".*\.1\.self_attn\.(q|k)_proj"},
    {"r": 4, "target_modules": ["q_proj", "lm_head"]},
    {"r": 4, "modules_to_save": ["lm_head"]},
    {"r": 4, "bias": "all"},
    {"r": 4, "bias": "lora_only", "target_modules": ["q_proj", "down_proj"]},
]


@pytest.mark.parametrize("lora", LORAS, ids=str)
@pytest.mark.parametrize("model_type", ["llama", "qwen2", "gemma", "qwen3"])
def test_trainable_parameters_equal_those_of_peft(lora: dict[str, Any], model_type: str) -> None:
    _compare_with_peft({"model_type": model_type, **SMALL, "head_dim": 8, "tie_word_embeddings": False}, lora)


@pytest.mark.parametrize(
    "config",
    [c for c in CONFIGS if c["model_type"] not in ("llama", "qwen2", "gemma", "qwen3") and "mlp_only_layers" not in c],
    ids=_name,
)
def test_trainable_parameters_of_all_linear_equal_those_of_peft(config: dict[str, Any]) -> None:
    _compare_with_peft(config, {"r": 4})


def _compare_with_peft(config: dict[str, Any], lora: dict[str, Any]) -> None:
    import peft

    ours = LoraConfig.model_validate(lora)
    settings = {name: value for name, value in lora.items() if name not in ("alpha", "dropout")}
    theirs = peft.LoraConfig(task_type="CAUSAL_LM", **({"target_modules": "all-linear"} | settings))
    model = peft.get_peft_model(_build(config), theirs, low_cpu_mem_usage=True)
    expected = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert num_trainable_parameters(shape_from_config(config), ours) == expected


def test_an_unknown_family_is_counted_by_the_common_names() -> None:
    known = shape_from_config({"model_type": "llama", **SMALL})
    other = shape_from_config(
        {"model_type": "brand_new", "d_model": 48, "n_layers": 3, "n_heads": 6, "num_kv_heads": 2}
        | {"ffn_dim": 80, "vocab_size": 300, "n_ctx": 64}
    )
    assert other.num_parameters == known.num_parameters
    assert other.max_position_embeddings == 64


def test_a_model_for_several_inputs_is_read_by_its_text_part() -> None:
    assert shape_from_config({"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", **SMALL}}) == (
        shape_from_config({"model_type": "gemma3_text", **SMALL})
    )


def test_a_shape_survives_json() -> None:
    shape = shape_from_config({"model_type": "qwen3", **SMALL})
    assert ModelShape.from_dict(json.loads(json.dumps(shape.to_dict()))) == shape


@pytest.mark.parametrize(
    ("key", "value"),
    [("hidden_size", "96"), ("num_hidden_layers", 0), ("vocab_size", True), ("num_attention_heads", -1)],
)
def test_a_size_that_is_none_is_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=key):
        shape_from_config({"model_type": "llama", **SMALL, key: value})
