"""How much memory a run needs on each device, and how much disk a checkpoint, by arithmetic before it starts.

Formulas reasoned from what PyTorch keeps for the backward pass, then held against the allocator's peak on a CPU by
`tests/bench/bench_memory.py`. What a GPU adds (context, fragmentation) is a constant that was not measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tui_trainer.config.launch import effective_precision, fsdp_settings, saves_whole_weights
from tui_trainer.config.optimisers import ADAM, FOLLOWS_WEIGHTS, OPTIMISERS
from tui_trainer.config.schema import RunConfig
from tui_trainer.config.shape import ModelShape, Part, num_trainable_parameters, shape_from_config
from tui_trainer.config.training import TrainingConfig

__all__ = [
    "MemoryEstimate",
    "ModelShape",
    "Part",
    "checkpoint_bytes",
    "estimate_memory",
    "num_trainable_parameters",
    "shape_from_config",
]

_NF4_BYTES = 0.516
"""Bytes a weight in nf4 with doubly quantised constants: 4 bits, and 8.25 bits for each block of 64."""
_INT8_BYTES = 1.002
_CPU_OVERHEAD = 500 << 20
"""Interpreter and libraries of one process. What the C library keeps of freed pieces comes on top: little in full
training, up to a third of everything with an adapter, whose many small tensors leave gaps."""
_GPU_OVERHEAD = 1200 << 20
"""Context, library workspaces and fragmentation on a GPU; an assumption."""
_NUM_LOGIT_COPIES = 3
"""Log-probabilities, their gradient and that of the logits, in float32 whatever the precision."""
_FLOAT = 4
_HALF = 2


@dataclass(frozen=True)
class MemoryEstimate:
    """Memory of one process, in bytes.

    Attributes:
        weights: the model's weights, its adapter's, and their copies in the computing precision.
        gradients: one a trained weight, with data parallelism also the buffers they are exchanged in.
        optimizer: the optimiser's state.
        activations: what the forward pass keeps for the backward pass, if every row has `max_length` tokens.
        logits: logits and their gradients, if every token is trained on.
        overhead: the process itself.
        total: the most that is needed at one time. Less than the sum, since gradients come as activations go; only with
            accumulated batches both exist.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    overhead: int
    total: int


def estimate_memory(
    config: RunConfig, shape: ModelShape, world_size: int, *, on_cpu: bool | None = None, longest: int | None = None
) -> MemoryEstimate:
    """The memory that one process of a run needs.

    Args:
        config: the run's configuration. DeepSpeed settings in a file of their own are not looked at.
        shape: the model's sizes.
        world_size: processes that train together.
        on_cpu: whether it computes on the CPU; by default what `training.use_cpu` says.
        longest: tokens of the longest example, if it is known; by default `data.max_length`.
    """
    types = _Types.of(config, config.training.use_cpu if on_cpu is None else on_cpu)
    shards = _Shards.of(config.training, types, world_size)
    trained = num_trainable_parameters(shape, config.lora)
    weights = round(_weight_bytes(config, shape, types) * shards.weights) + shards.gathered(shape, types)
    once = round(trained * types.gradient * shards.gradients)
    buckets = once if world_size > 1 and not shards.is_sharded else 0
    optimizer = round(trained * _optimizer_bytes(config.training, types) * shards.optimizer)
    num_tokens = config.training.per_device_train_batch_size * _row_length(config, longest)
    activations = _activation_bytes(config, shape, types, num_tokens)
    logits = _NUM_LOGIT_COPIES * _FLOAT * num_tokens * shape.vocab_size
    kept = once if config.training.gradient_accumulation_steps > 1 else 0
    passes = activations + max(logits, _working_bytes(shape, types, num_tokens)) + kept
    overhead = _CPU_OVERHEAD if types.on_cpu else _GPU_OVERHEAD
    return MemoryEstimate(
        weights=weights,
        gradients=once + buckets,
        optimizer=optimizer,
        activations=activations,
        logits=logits,
        overhead=overhead,
        total=weights + optimizer + buckets + max(passes, once) + overhead,
    )


def _row_length(config: RunConfig, longest: int | None) -> int:
    """Tokens of the longest row of a batch."""
    if longest is None or config.data.packing or config.data.padding == "max_length":
        return config.data.max_length
    return min(longest, config.data.max_length)


def checkpoint_bytes(config: RunConfig, shape: ModelShape) -> int:
    """The size of one checkpoint on disk: weights or adapter, and the optimiser unless it is left out.

    FSDP needs the weights a second time, in a file of its own, to go on from.
    """
    types = _Types.of(config, config.training.use_cpu)
    trained = num_trainable_parameters(shape, config.lora)
    if config.training.save_only_model:
        return round(trained * types.trained)
    twice = types.trained if config.training.fsdp and saves_whole_weights(config.training) else 0
    return round(trained * (types.trained + twice + _optimizer_bytes(config.training, types)))


@dataclass(frozen=True)
class _Types:
    """Bytes a number takes.

    Attributes:
        weight: a weight of the model as it is loaded.
        trained: a trained weight; an adapter is kept in float32.
        gradient: a gradient.
        compute: an activation inside a layer.
        residual: a number of the stream between layers.
        is_mixed: whether the computation is in another type than the weights, so that autocast makes copies.
        has_master_weights: whether DeepSpeed's optimiser works on a float32 copy of short weights.
        on_cpu: where it computes.
    """

    weight: int
    trained: int
    gradient: int
    compute: int
    residual: int
    is_mixed: bool
    has_master_weights: bool
    on_cpu: bool

    @classmethod
    def of(cls, config: RunConfig, on_cpu: bool) -> _Types:
        is_adapter, dtype = config.lora is not None, config.model.dtype
        is_mixed = effective_precision(config) != "no"
        has_master = is_mixed and isinstance(config.training.deepspeed, Mapping) and not on_cpu
        is_half = dtype in ("bfloat16", "float16") or (dtype == "auto" and is_adapter and not on_cpu) or has_master
        weight = _HALF if is_half else _FLOAT
        trained = _FLOAT if is_adapter else weight
        compute = _HALF if is_mixed or is_half or config.model.quantization else _FLOAT
        # loading a quantised model puts everything that is not quantised into float32
        residual = _FLOAT if config.model.quantization else weight
        return cls(weight, trained, trained, compute, residual, is_mixed and not has_master, has_master, on_cpu)


@dataclass(frozen=True)
class _Shards:
    """The share of each part that one process holds.

    Attributes:
        weights, gradients, optimizer: shares between 0 and 1; 0 what is kept in host memory.
        is_sharded: whether anything is spread.
        whole_layers: layers that are put together at one time.
    """

    weights: float = 1.0
    gradients: float = 1.0
    optimizer: float = 1.0
    is_sharded: bool = False
    whole_layers: float = 0.0

    @classmethod
    def of(cls, training: TrainingConfig, types: _Types, world_size: int) -> _Shards:
        if types.on_cpu:
            return cls()
        share = 1.0 / world_size
        if training.fsdp:
            settings = fsdp_settings(training)
            held = 0.0 if settings.get("cpu_offload") else share
            layers = 2.0 if settings.get("reshard_after_forward", True) else float("inf")
            return cls(held, held, held, True, layers)
        if isinstance(training.deepspeed, Mapping):
            return cls._of_deepspeed(training.deepspeed, share)
        return cls()

    @classmethod
    def _of_deepspeed(cls, settings: Mapping[str, Any], share: float) -> _Shards:
        zero = settings.get("zero_optimization") or {}
        stage = zero.get("stage", 0)
        on_host = (zero.get("offload_optimizer") or {}).get("device", "none") != "none"
        weights_on_host = (zero.get("offload_param") or {}).get("device", "none") != "none"
        return cls(
            weights=(0.0 if weights_on_host else share) if stage >= 3 else 1.0,
            gradients=share if stage >= 2 else 1.0,
            optimizer=0.0 if on_host and stage >= 1 else (share if stage >= 1 else 1.0),
            is_sharded=stage >= 1,
            whole_layers=2.0 if stage >= 3 else 0.0,
        )

    def gathered(self, shape: ModelShape, types: _Types) -> int:
        """Bytes of the layers that are whole at one time, with the embedding, which always is."""
        if not self.whole_layers:
            return 0
        layer = shape.num_linear_parameters / shape.num_layers
        rest = shape.num_parameters - shape.num_linear_parameters
        return round(types.compute * (min(self.whole_layers, shape.num_layers) * layer + rest))


def _weight_bytes(config: RunConfig, shape: ModelShape, types: _Types) -> float:
    inside, all_of_it = shape.num_linear_parameters, shape.num_parameters
    outside = all_of_it - inside
    adapter = 0 if config.lora is None else num_trainable_parameters(shape, config.lora) * _FLOAT
    if config.model.quantization is not None:
        each = _NF4_BYTES if config.model.quantization == "nf4" else _INT8_BYTES
        return inside * each + outside * _FLOAT + adapter
    # autocast keeps a short copy of each float32 matrix from the forward to the backward pass; FSDP gathers short ones
    has_copies = types.is_mixed and types.weight == _FLOAT and not (config.training.fsdp and not types.on_cpu)
    copies = _HALF * (inside + shape.hidden_size * shape.vocab_size) if has_copies else 0
    return all_of_it * types.weight + copies + adapter


def _optimizer_bytes(training: TrainingConfig, types: _Types) -> float:
    """Bytes of state a trained weight."""
    name = training.optim
    each = OPTIMISERS.get(name, ADAM)
    if name in ("sgd", "rmsprop") and "momentum" in (training.optim_args or ""):
        each += 4.0
    if types.has_master_weights:
        return each + 4.0
    return each * types.trained / _FLOAT if name in FOLLOWS_WEIGHTS else each


def _activation_bytes(config: RunConfig, shape: ModelShape, types: _Types, num_tokens: int) -> int:
    layer = num_tokens * _layer_bytes(config, shape, types)
    ends = num_tokens * shape.hidden_size * (_FLOAT + 2 * types.residual)
    if not _is_recomputed(config.training):
        return round(shape.num_layers * layer + ends)
    settings = config.training.activation_checkpointing_kwargs or {}
    recomputed = shape.num_layers // int(settings.get("every_n_layers", 1) or 1)
    borders = 0 if settings.get("offload") else recomputed * num_tokens * shape.hidden_size * types.residual
    return round((shape.num_layers - recomputed + 1) * layer + borders + ends)


def _is_recomputed(training: TrainingConfig) -> bool:
    is_fsdp = bool(training.fsdp) and bool(fsdp_settings(training).get("activation_checkpointing"))
    return bool(training.activation_checkpointing) or is_fsdp


def _layer_bytes(config: RunConfig, shape: ModelShape, types: _Types) -> float:
    """What one layer keeps for the backward pass, bytes a token."""
    norms = shape.norm_width * _norm_bytes(config, shape, types)
    queries = shape.num_attention_heads * shape.head_dim
    keys = shape.num_key_value_heads * shape.head_dim
    if config.model.attn_implementation == "flash_attention_2":
        attention = types.compute * (2.0 * queries + 2 * keys)
    else:
        attention = types.compute * 4.0 * queries  # keys and values are repeated for each query head
    if config.model.attn_implementation == "eager":
        scores = shape.num_attention_heads * config.data.max_length
        attention += scores * (_FLOAT + (types.compute if types.compute == _HALF else 0))
    inner = shape.num_activation_copies * shape.intermediate_size * types.compute
    return norms + attention + inner + _input_bytes(config, shape, types)


def _norm_bytes(config: RunConfig, shape: ModelShape, types: _Types) -> int:
    """Bytes a number that a norm keeps: its input, and what its weights are multiplied with if they are trained."""
    if shape.has_layer_norm:
        return types.residual
    return _FLOAT + (types.residual if config.lora is None else 0)


def _input_bytes(config: RunConfig, shape: ModelShape, types: _Types) -> float:
    """What the matrices of a layer keep of their inputs, bytes a token.

    In one type throughout, matrices with the same input share it; where it is cast, each keeps a copy of its own.
    """
    linear = [part for part in shape.parts if part.kind == "linear"]
    each_its_own = sum(part.inputs * part.count for part in linear) / shape.num_layers
    queries = shape.num_attention_heads * shape.head_dim
    shared = min(2, shape.num_norms) * shape.hidden_size + queries + shape.intermediate_size
    if config.lora is not None:
        dropped = each_its_own * (types.compute + 1) if config.lora.dropout else 0.0
        if types.is_mixed:
            return each_its_own * _HALF + dropped
        return dropped + (each_its_own if types.weight == _HALF or config.model.quantization else shared) * _FLOAT
    return (each_its_own if types.is_mixed else shared) * types.compute


def _working_bytes(shape: ModelShape, types: _Types, num_tokens: int) -> int:
    """Gradients inside one layer while it is gone through backwards."""
    return num_tokens * types.compute * (3 * shape.intermediate_size + 2 * shape.hidden_size)
