"""The sizes of a model by arithmetic on its configuration, without loading it; `memory` and the screens read them.

Exact for the families of `families`, near for others: a model of an unknown type is counted as a Llama of its sizes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from tui_trainer.config.families import FAMILIES, LLAMA, Family, Switch
from tui_trainer.config.model import LoraConfig

_NAMES: dict[str, tuple[str, ...]] = {
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "num_layers": ("num_hidden_layers", "n_layer", "num_layers", "n_layers"),
    "num_heads": ("num_attention_heads", "n_head", "num_heads", "n_heads"),
    "num_kv_heads": ("num_key_value_heads", "num_kv_heads"),
    "head_dim": ("head_dim",),
    "intermediate_size": ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size"),
    "vocab_size": ("vocab_size",),
    "max_positions": ("max_position_embeddings", "n_positions", "n_ctx"),
    "num_experts": ("num_experts", "num_local_experts"),
    "expert_size": ("moe_intermediate_size",),
    "shared_expert_size": ("shared_expert_intermediate_size",),
    "experts_per_token": ("num_experts_per_tok",),
}
"""The names under which configurations give a size, the commonest first."""


@dataclass(frozen=True)
class Part:
    """A weight matrix that occurs `count` times in the model.

    Attributes:
        path: module path; "{}" stands for the number of the layer.
        kind: "linear", "embedding", "output" (the layer that makes the logits), or of a layer with experts "router" and
            "experts" (gate, up and down of one expert side by side).
        inputs: width of its input; of an embedding the number of rows.
        outputs: width of its output.
        has_bias: whether it has a bias.
        count: how often it occurs.
    """

    path: str
    kind: Literal["linear", "embedding", "output", "router", "experts"]
    inputs: int
    outputs: int
    has_bias: bool = False
    count: int = 1

    @property
    def num_parameters(self) -> int:
        """Parameters of all occurrences."""
        return self.count * (self.inputs * self.outputs + (self.outputs if self.has_bias else 0))

    def paths(self) -> Iterator[str]:
        """The module path of each occurrence."""
        return (self.path.format(number) for number in range(self.count))


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a causal language model.

    Attributes:
        model_type: the architecture's name.
        num_parameters: parameters, shared ones counted once.
        hidden_size: width of the residual stream.
        num_layers: layers.
        intermediate_size: width of the feed-forward that one token passes; with experts, of all it is sent to.
        vocab_size: rows of the embedding.
        num_attention_heads: query heads.
        num_key_value_heads: key and value heads.
        head_dim: width of a head.
        is_tied: whether the output layer shares the embedding's weights.
        max_position_embeddings: longest sequence the model was made for, in tokens.
        num_activation_copies: tensors of `intermediate_size` a token that an activation keeps for the backward pass.
        has_layer_norm: whether norms are LayerNorm and not RMSNorm.
        num_norms: norms of a layer, those of query and key not counted.
        norm_width: numbers a token that all norms of a layer work on.
        parts: its weight matrices.
    """

    model_type: str
    num_parameters: int
    hidden_size: int
    num_layers: int
    intermediate_size: int
    vocab_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    is_tied: bool
    max_position_embeddings: int
    num_activation_copies: int
    has_layer_norm: bool
    num_norms: int
    norm_width: int
    parts: tuple[Part, ...]

    def to_dict(self) -> dict[str, Any]:
        """The shape as a JSON object."""
        return asdict(self) | {"parts": [asdict(part) for part in self.parts]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelShape:
        """The inverse of `to_dict`."""
        values = {field.name: data[field.name] for field in fields(cls)}
        return cls(**values | {"parts": tuple(Part(**part) for part in data["parts"])})

    @property
    def num_linear_parameters(self) -> int:
        """Parameters of the layers' matrices: what quantization makes small and autocast copies."""
        return sum(part.num_parameters for part in self.parts if part.kind in ("linear", "router", "experts"))


def shape_from_config(config: Mapping[str, Any]) -> ModelShape:
    """The shape of the model that a `config.json` or a `from_scratch` table describes.

    Args:
        config: the architecture's fields under the names of `transformers`; those of a model for several kinds of
            input may stand in `text_config`.

    Raises:
        ValueError: a size is not a positive whole number; the message names the key.
    """
    if "text_config" in config and not any(name in config for name in _NAMES["hidden_size"]):
        config = config["text_config"]
    family = FAMILIES.get(str(config.get("model_type", "")), LLAMA)
    sizes = {name: _size(config, name, family) for name in _NAMES}
    sizes["num_kv_heads"] = sizes["num_kv_heads"] or sizes["num_heads"]
    sizes["head_dim"] = sizes["head_dim"] or sizes["hidden_size"] // sizes["num_heads"]
    sizes["intermediate_size"] = sizes["intermediate_size"] or 4 * sizes["hidden_size"]
    is_tied = bool(config.get("tie_word_embeddings", family.is_tied))
    parts = tuple(_parts(config, family, sizes))
    return ModelShape(
        model_type=str(config.get("model_type", "")),
        num_parameters=_count(family, sizes, parts, is_tied),
        hidden_size=sizes["hidden_size"],
        num_layers=sizes["num_layers"],
        intermediate_size=_active_width(sizes),
        vocab_size=sizes["vocab_size"],
        num_attention_heads=sizes["num_heads"],
        num_key_value_heads=sizes["num_kv_heads"],
        head_dim=sizes["head_dim"],
        is_tied=is_tied,
        max_position_embeddings=sizes["max_positions"],
        num_activation_copies=family.num_activation_copies,
        has_layer_norm=family.has_norm_bias,
        num_norms=family.num_norms,
        norm_width=family.num_norms * sizes["hidden_size"] + _qk_norm_width(family, sizes),
        parts=parts,
    )


def _size(config: Mapping[str, Any], name: str, family: Family) -> int:
    for key in _NAMES[name]:
        value = config.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(f"{key} must be a positive whole number, not {value!r}")
        if value == 0 and name in ("hidden_size", "num_layers", "num_heads", "vocab_size"):
            raise ValueError(f"{key} must be above 0")
        return value
    return int(getattr(family, name))


def _is_on(config: Mapping[str, Any], switch: Switch) -> bool:
    if isinstance(switch, bool):
        return switch
    return bool(config.get(switch.lstrip("!"), switch.startswith("!")))


def _active_width(sizes: Mapping[str, int]) -> int:
    if not sizes["num_experts"]:
        return sizes["intermediate_size"]
    width = sizes["expert_size"] or sizes["intermediate_size"]
    return width * sizes["experts_per_token"] + sizes["shared_expert_size"]


def _qk_norm_width(family: Family, sizes: Mapping[str, int]) -> int:
    return (sizes["num_heads"] + sizes["num_kv_heads"]) * sizes["head_dim"] if family.qk_norm else 0


def _parts(config: Mapping[str, Any], family: Family, sizes: Mapping[str, int]) -> Iterator[Part]:
    hidden, vocabulary = sizes["hidden_size"], sizes["vocab_size"]
    yield Part(family.embedding, "embedding", vocabulary, hidden)
    if family.positions:
        yield Part(family.positions, "embedding", sizes["max_positions"], hidden)
    yield from _attention(config, family, sizes)
    yield from _feed_forward(config, family, sizes)
    yield Part("lm_head", "output", hidden, vocabulary, family.head_bias)


def _attention(config: Mapping[str, Any], family: Family, sizes: Mapping[str, int]) -> Iterator[Part]:
    hidden, layers = sizes["hidden_size"], sizes["num_layers"]
    name, *projections, output = family.attention
    queries = sizes["num_heads"] * sizes["head_dim"]
    widths = (queries, *[sizes["num_kv_heads"] * sizes["head_dim"]] * 2)
    bias = _is_on(config, family.qkv_bias)
    for projection, width in zip(projections, widths if len(projections) == 3 else (sum(widths),), strict=True):
        yield Part(f"{family.layers}.{{}}.{name}.{projection}", "linear", hidden, width, bias, layers)
    bias = _is_on(config, family.output_bias)
    yield Part(f"{family.layers}.{{}}.{name}.{output}", "linear", queries, hidden, bias, layers)


def _feed_forward(config: Mapping[str, Any], family: Family, sizes: Mapping[str, int]) -> Iterator[Part]:
    hidden, layers = sizes["hidden_size"], sizes["num_layers"]
    name, *projections, down = family.mlp
    prefix, bias = f"{family.layers}.{{}}.{name}", _is_on(config, family.mlp_bias)
    sparse = _num_sparse_layers(config, sizes)
    if sparse:
        experts, width = sizes["num_experts"], sizes["expert_size"] or sizes["intermediate_size"]
        yield Part(f"{prefix}.gate", "router", hidden, experts, count=sparse)
        yield Part(f"{prefix}.experts", "experts", hidden, 3 * width, count=sparse * experts)
    if sparse and (shared := sizes["shared_expert_size"]):
        for projection in projections:
            yield Part(f"{prefix}.shared_expert.{projection}", "linear", hidden, shared, count=sparse)
        yield Part(f"{prefix}.shared_expert.{down}", "linear", shared, hidden, count=sparse)
        yield Part(f"{prefix}.shared_expert_gate", "linear", hidden, 1, count=sparse)
    if layers > sparse:
        width = sizes["intermediate_size"]
        inner = 2 * width if family.is_gated and len(projections) == 1 else width
        for projection in projections:
            yield Part(f"{prefix}.{projection}", "linear", hidden, inner, bias, layers - sparse)
        yield Part(f"{prefix}.{down}", "linear", width, hidden, bias, layers - sparse)


def _num_sparse_layers(config: Mapping[str, Any], sizes: Mapping[str, int]) -> int:
    """Layers with experts: all, every `decoder_sparse_step`th, or all but `mlp_only_layers`."""
    if not sizes["num_experts"]:
        return 0
    step, dense = config.get("decoder_sparse_step", 1), config.get("mlp_only_layers") or ()
    return sum(number not in dense and (number + 1) % step == 0 for number in range(sizes["num_layers"]))


def _count(family: Family, sizes: Mapping[str, int], parts: tuple[Part, ...], is_tied: bool) -> int:
    """Parameters of the whole model; a tied output layer has none of its own."""
    matrices = sum(part.num_parameters for part in parts if not (is_tied and part.kind == "output"))
    norm = sizes["hidden_size"] * (2 if family.has_norm_bias else 1)
    heads = {"": 0, "head": 2, "width": sizes["num_heads"] + sizes["num_kv_heads"]}[family.qk_norm]
    return matrices + norm + sizes["num_layers"] * (family.num_norms * norm + heads * sizes["head_dim"])


def num_trainable_parameters(shape: ModelShape, lora: LoraConfig | None) -> int:
    """Parameters that training changes: all of them, or the adapter's, as `peft` counts them.

    Source: `peft.tuners.lora` 0.21: two matrices of rank r beside each chosen matrix, with DoRA one length a column.
    Experts are counted where all layers get an adapter, not where `target_modules` names them.
    """
    if lora is None:
        return shape.num_parameters
    adapts_experts = lora.target_modules == "all-linear" and FAMILIES.get(shape.model_type, LLAMA).adapts_experts
    adapted = sum(_adapter_parameters(part, lora, adapts_experts) for part in shape.parts)
    saved = [part for part in shape.parts if _ends_with(part.path, lora.modules_to_save or ())]
    return adapted + sum(part.num_parameters for part in saved) + _trained_biases(shape, lora)


def _adapter_parameters(part: Part, lora: LoraConfig, adapts_experts: bool) -> int:
    if part.kind == "experts":
        width = part.outputs // 3
        return part.count * lora.r * (3 * part.inputs + 5 * width) if adapts_experts else 0
    if part.kind == "router" and adapts_experts:
        return part.count * lora.r * (part.inputs + part.outputs)
    columns = part.outputs if lora.use_dora else 0
    return _num_adapted(part, lora.target_modules) * (lora.r * (part.inputs + part.outputs) + columns)


def _num_adapted(part: Part, targets: str | list[str]) -> int:
    """How many occurrences of a matrix get an adapter."""
    if part.kind in ("router", "experts"):
        return 0
    if targets == "all-linear":
        return part.count if part.kind == "linear" else 0
    if isinstance(targets, str):
        return sum(re.fullmatch(targets, path) is not None for path in part.paths())
    return part.count if _ends_with(part.path, targets) else 0


def _ends_with(path: str, names: list[str] | tuple[str, ...]) -> bool:
    return any(path == name or path.endswith(f".{name}") for name in names)


def _trained_biases(shape: ModelShape, lora: LoraConfig) -> int:
    if lora.bias == "none":
        return 0
    return sum(
        part.outputs * (part.count if lora.bias == "all" else _num_adapted(part, lora.target_modules))
        for part in shape.parts
        if part.has_bias
    )
