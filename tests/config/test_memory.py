"""The memory estimate: what each setting does to it, and its parts where they are known exactly."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from tui_trainer.config.memory import MemoryEstimate, checkpoint_bytes, estimate_memory
from tui_trainer.config.schema import RunConfig
from tui_trainer.config.shape import ModelShape, num_trainable_parameters, shape_from_config

SMOLLM2 = shape_from_config(
    {
        "model_type": "llama",
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
        "tie_word_embeddings": True,
    }
)
LARGE = shape_from_config({"model_type": "llama"})
MIB = 2**20

Tree = dict[str, Any]


def _config(tree: Tree | None = None, **training: Any) -> RunConfig:
    base: Tree = {"data": {"max_length": 256}, "training": {"per_device_train_batch_size": 4, **training}}
    return RunConfig.model_validate(base | (tree or {}))


def _estimate(
    tree: Tree | None = None, shape: ModelShape = SMOLLM2, world_size: int = 1, *, on_cpu: bool = False, **training: Any
) -> MemoryEstimate:
    return estimate_memory(_config(tree, **training), shape, world_size, on_cpu=on_cpu)


MEASURED: list[tuple[str, Tree, dict[str, Any], int]] = [
    ("full", {}, {}, 3584),
    ("batch of 2", {}, {"per_device_train_batch_size": 2}, 2562),
    ("1 x 1024", {"data": {"max_length": 1024}}, {"per_device_train_batch_size": 1}, 3586),
    ("recomputed", {}, {"activation_checkpointing": True}, 2269),
    ("accumulated", {}, {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 2}, 3075),
    ("short weights", {"model": {"dtype": "bfloat16"}}, {}, 2148),
    ("mixed precision", {}, {"bf16": True}, 3345),
    ("adapter", {"lora": {"r": 16}}, {}, 2485),
    ("adapter with dropout", {"lora": {"r": 16, "dropout": 0.1}}, {}, 3266),
    ("adapter, recomputed", {"lora": {"r": 16}}, {"activation_checkpointing": True}, 1213),
    ("sgd", {}, {"optim": "sgd", "per_device_train_batch_size": 2}, 1536),
    ("adafactor", {}, {"optim": "adafactor", "per_device_train_batch_size": 2}, 1537),
    (
        "eager attention",
        {"model": {"attn_implementation": "eager"}, "data": {"max_length": 512}},
        {"per_device_train_batch_size": 2},
        4057,
    ),
]


@pytest.mark.parametrize("case", MEASURED, ids=lambda case: case[0])
def test_tensors_are_those_measured_on_a_cpu(case: tuple[str, Tree, dict[str, Any], int]) -> None:
    """MiB that the allocator had handed out at most, from tests/bench/bench_memory.py."""
    _, tree, training, measured = case
    estimate = _estimate(tree, on_cpu=True, **training)
    assert (estimate.total - estimate.overhead) / MIB == pytest.approx(measured, rel=0.05)


def test_parts_of_full_training_are_exact() -> None:
    estimate = _estimate()
    assert estimate.weights == estimate.gradients == 4 * SMOLLM2.num_parameters
    assert estimate.optimizer == 8 * SMOLLM2.num_parameters
    assert estimate.logits == 3 * 4 * 4 * 256 * SMOLLM2.vocab_size


def test_the_total_is_at_most_the_sum() -> None:
    estimate = _estimate(gradient_accumulation_steps=2)
    parts = [getattr(estimate, each.name) for each in fields(estimate) if each.name != "total"]
    assert estimate.total == sum(parts)
    assert _estimate().total < estimate.total


LESS: list[tuple[str, Tree, dict[str, Any]]] = [
    ("smaller batch", {}, {"per_device_train_batch_size": 2}),
    ("shorter rows", {"data": {"max_length": 128}}, {}),
    ("recomputing", {}, {"activation_checkpointing": True}),
    ("short weights", {"model": {"dtype": "bfloat16"}}, {}),
    ("mixed precision", {}, {"bf16": True}),
    ("adapter", {"lora": {}}, {}),
    ("flash attention", {"model": {"attn_implementation": "flash_attention_2"}}, {"bf16": True}),
    ("sgd", {}, {"optim": "sgd"}),
    ("adafactor", {}, {"optim": "adafactor"}),
    ("8-bit Adam", {}, {"optim": "adamw_8bit"}),
]


@pytest.mark.parametrize("case", LESS, ids=lambda case: case[0])
def test_what_saves_memory_saves_it(case: tuple[str, Tree, dict[str, Any]]) -> None:
    assert _estimate(case[1], **case[2]).total < _estimate().total


MORE: list[tuple[str, Tree, dict[str, Any]]] = [
    ("eager attention", {"model": {"attn_implementation": "eager"}}, {}),
    ("accumulated gradients", {}, {"gradient_accumulation_steps": 2}),
    ("three numbers a weight", {}, {"optim": "ademamix"}),
]


@pytest.mark.parametrize("case", MORE, ids=lambda case: case[0])
def test_what_takes_memory_takes_it(case: tuple[str, Tree, dict[str, Any]]) -> None:
    assert _estimate(case[1], **case[2]).total > _estimate().total


def test_recomputing_every_second_layer_lies_between() -> None:
    every = _estimate(activation_checkpointing=True).activations
    second = _estimate(activation_checkpointing=True, activation_checkpointing_kwargs={"every_n_layers": 2}).activations
    assert every < second < _estimate().activations
    assert second == pytest.approx(_estimate().activations * 16 / 30, rel=0.05)
    offloaded = _estimate(activation_checkpointing=True, activation_checkpointing_kwargs={"offload": True}).activations
    assert offloaded < every


def test_an_adapter_has_small_gradients_and_states() -> None:
    config = _config({"lora": {"r": 8}})
    trained = num_trainable_parameters(SMOLLM2, config.lora)
    estimate = estimate_memory(config, SMOLLM2, 1, on_cpu=True)
    assert (estimate.gradients, estimate.optimizer) == (4 * trained, 8 * trained)
    assert estimate.weights == 4 * (SMOLLM2.num_parameters + trained)
    on_gpu = estimate_memory(config, SMOLLM2, 1, on_cpu=False)
    assert on_gpu.weights == 2 * SMOLLM2.num_parameters + 4 * trained


def test_dropout_in_an_adapter_keeps_copies() -> None:
    assert _estimate({"lora": {"dropout": 0.1}}).activations > _estimate({"lora": {}}).activations


def test_quantised_weights() -> None:
    full = _estimate({"lora": {}}, LARGE).weights
    int8 = _estimate({"lora": {}, "model": {"quantization": "int8"}}, LARGE).weights
    nf4 = _estimate({"lora": {}, "model": {"quantization": "nf4"}}, LARGE).weights
    assert nf4 < int8 < full
    assert nf4 / 2**30 == pytest.approx(4.3, abs=0.2)  # 6.5 billion in 4 bits, embedding and output in float32


def test_data_parallel_processes_hold_everything_and_buffers_to_exchange_gradients() -> None:
    one, two = _estimate(), _estimate(world_size=2)
    assert two.weights == one.weights
    assert two.gradients == 2 * one.gradients


def test_fsdp_spreads_over_the_gpus_and_not_on_a_cpu() -> None:
    alone, spread = _estimate(shape=LARGE), _estimate(shape=LARGE, world_size=8, fsdp=True)
    assert spread.optimizer == pytest.approx(alone.optimizer / 8, rel=1e-6)
    assert spread.gradients == pytest.approx(alone.gradients / 8, rel=1e-6)
    assert alone.weights / 8 < spread.weights < alone.weights / 4
    kept = _estimate(shape=LARGE, world_size=8, fsdp=True, fsdp_config={"reshard_after_forward": False})
    assert kept.weights > alone.weights
    on_host = _estimate(shape=LARGE, world_size=8, fsdp=True, fsdp_config={"fsdp_cpu_offload": True})
    assert on_host.optimizer == 0
    assert _estimate(world_size=2, fsdp=True, on_cpu=True) == _estimate(world_size=2, on_cpu=True)


@pytest.mark.parametrize(
    ("zero", "weights", "gradients", "optimizer"),
    [
        ({"stage": 0}, 2.0, 2.0, 12.0),
        ({"stage": 1}, 2.0, 2.0, 3.0),
        ({"stage": 2}, 2.0, 0.5, 3.0),
        ({"stage": 2, "offload_optimizer": {"device": "cpu"}}, 2.0, 0.5, 0.0),
        ({"stage": 3}, None, 0.5, 3.0),
    ],
)
def test_zero_stages(zero: Tree, weights: float | None, gradients: float, optimizer: float) -> None:
    estimate = _estimate(shape=LARGE, world_size=4, deepspeed={"zero_optimization": zero}, bf16=True)
    number = LARGE.num_parameters
    assert estimate.optimizer == pytest.approx(optimizer * number, rel=1e-6)
    exchanged = 2.0 if zero == {"stage": 0} else 1.0
    assert estimate.gradients == pytest.approx(exchanged * gradients * number, rel=1e-6)
    if weights is None:
        assert estimate.weights < number
    else:
        assert estimate.weights == pytest.approx(weights * number, rel=1e-6)


def test_use_cpu_is_the_default_for_where_it_computes() -> None:
    config = _config(use_cpu=True)
    assert estimate_memory(config, SMOLLM2, 1) == estimate_memory(config, SMOLLM2, 1, on_cpu=True)
    assert estimate_memory(config, SMOLLM2, 1).overhead < estimate_memory(config, SMOLLM2, 1, on_cpu=False).overhead


def test_checkpoints() -> None:
    assert checkpoint_bytes(_config(), SMOLLM2) == 12 * SMOLLM2.num_parameters
    assert checkpoint_bytes(_config(save_only_model=True), SMOLLM2) == 4 * SMOLLM2.num_parameters
    assert checkpoint_bytes(_config(fsdp=True), SMOLLM2) == 16 * SMOLLM2.num_parameters
    assert checkpoint_bytes(_config(optim="sgd"), SMOLLM2) == 4 * SMOLLM2.num_parameters
    adapter = _config({"lora": {"r": 8}})
    assert checkpoint_bytes(adapter, SMOLLM2) == 12 * num_trainable_parameters(SMOLLM2, adapter.lora)


def test_experts_cost_memory_and_not_activations() -> None:
    sizes = {"hidden_size": 512, "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 8}
    dense = shape_from_config({"model_type": "mistral", **sizes, "intermediate_size": 2048})
    sparse = shape_from_config(
        {"model_type": "mixtral", **sizes, "intermediate_size": 1024, "num_local_experts": 16, "num_experts_per_tok": 2}
    )
    assert sparse.num_parameters > dense.num_parameters
    assert _estimate(shape=sparse).activations == pytest.approx(_estimate(shape=dense).activations, rel=0.15)


def test_short_rows_take_less_than_the_cutoff_allows() -> None:
    config = _config({"data": {"max_length": 1024}})
    whole = estimate_memory(config, SMOLLM2, 1)
    assert estimate_memory(config, SMOLLM2, 1, longest=256).activations < whole.activations / 3
    assert estimate_memory(config, SMOLLM2, 1, longest=4096) == whole
    packed = _config({"data": {"max_length": 1024, "packing": True}})
    assert estimate_memory(packed, SMOLLM2, 1, longest=256).logits == whole.logits
