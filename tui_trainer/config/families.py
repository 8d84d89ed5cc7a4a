"""The decoder families whose parameters are counted exactly: default sizes and layout of each; read by `shape`.

Sizes and names are those of `transformers` (5.23) for each `model_type`; a test builds every family and compares. Any
other model is counted as the commonest layout, that of Llama, with the sizes its configuration gives.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

Switch = bool | str
"""True, False, or the key of the configuration that decides, with "!" in front if it is on when nobody sets it."""


@dataclass(frozen=True)
class Family:
    """How the decoder models of one `model_type` are built.

    Attributes:
        vocab_size, hidden_size, num_layers, num_heads, intermediate_size, max_positions: sizes when the configuration
            does not give them; an `intermediate_size` of 0 means four times the width.
        num_kv_heads: key and value heads; 0 means as many as heads.
        head_dim: width of a head; 0 means hidden_size / num_heads.
        is_tied: whether the output layer shares the embedding's weights.
        layers: path of the list of layers.
        attention: the attention's path inside a layer, then its projections: query, key, value, output, or with query,
            key and value in one: all three, output.
        mlp: the feed-forward's path inside a layer, then its projections: gate, up, down, or gate and up in one, down,
            or without a gate up, down.
        is_gated: whether the feed-forward has a gate.
        num_activation_copies: tensors of the feed-forward's width that its activation keeps for the backward pass: with
            a gate three, without one; four where the activation is written out in steps ("gelu_new").
        embedding: path of the token embedding.
        positions: path of the learned positions, empty if positions are rotated in.
        num_norms: norms of a layer, those of query and key not counted.
        has_norm_bias: whether norms have a bias (LayerNorm) or not (RMSNorm).
        qk_norm: norm of query and key: none, over a head, over all heads.
        qkv_bias, output_bias, mlp_bias, head_bias: which projections have a bias.
        num_experts: experts of a layer, 0 for a dense model.
        expert_size: width of an expert; 0 means `intermediate_size`.
        shared_expert_size: width of the expert that every token passes.
        experts_per_token: experts a token is sent to.
        adapts_experts: whether `peft` puts adapters on the experts and their router when all layers get one.
    """

    vocab_size: int = 32000
    hidden_size: int = 4096
    num_layers: int = 32
    num_heads: int = 32
    num_kv_heads: int = 0
    head_dim: int = 0
    intermediate_size: int = 11008
    max_positions: int = 2048
    is_tied: bool = False
    layers: str = "model.layers"
    attention: tuple[str, ...] = ("self_attn", "q_proj", "k_proj", "v_proj", "o_proj")
    mlp: tuple[str, ...] = ("mlp", "gate_proj", "up_proj", "down_proj")
    is_gated: bool = True
    num_activation_copies: int = 3
    embedding: str = "model.embed_tokens"
    positions: str = ""
    num_norms: int = 2
    has_norm_bias: bool = False
    qk_norm: str = ""
    qkv_bias: Switch = False
    output_bias: Switch = False
    mlp_bias: Switch = False
    head_bias: bool = False
    num_experts: int = 0
    expert_size: int = 0
    shared_expert_size: int = 0
    experts_per_token: int = 0
    adapts_experts: bool = False


_QWEN = Family(vocab_size=151936, max_positions=32768, num_kv_heads=32, intermediate_size=22016)
_GEMMA = Family(
    vocab_size=256000,
    hidden_size=3072,
    num_layers=28,
    num_heads=16,
    num_kv_heads=16,
    head_dim=256,
    intermediate_size=24576,
    max_positions=8192,
    is_tied=True,
    qkv_bias="attention_bias",
    output_bias="attention_bias",
)
_GEMMA_2 = replace(
    _GEMMA, hidden_size=2304, num_layers=26, num_heads=8, num_kv_heads=4, intermediate_size=9216, num_norms=4
)

LLAMA = Family(qkv_bias="attention_bias", output_bias="attention_bias", mlp_bias="mlp_bias")
"""The commonest layout."""

FAMILIES: dict[str, Family] = {
    "llama": LLAMA,
    "granite": LLAMA,
    "smollm3": Family(
        vocab_size=128256,
        hidden_size=2048,
        num_layers=36,
        num_heads=16,
        num_kv_heads=4,
        max_positions=32768,
        is_tied=True,
        qkv_bias="attention_bias",
        output_bias="attention_bias",
        mlp_bias="mlp_bias",
    ),
    "mistral": Family(num_kv_heads=8, intermediate_size=14336, max_positions=131072),
    "mixtral": Family(
        num_kv_heads=8,
        intermediate_size=14336,
        max_positions=131072,
        num_experts=8,
        experts_per_token=2,
        adapts_experts=True,
    ),
    "qwen2": replace(_QWEN, qkv_bias=True),
    "qwen3": replace(
        _QWEN,
        head_dim=128,
        qk_norm="head",
        qkv_bias="attention_bias",
        output_bias="attention_bias",
    ),
    "qwen2_moe": replace(
        _QWEN,
        hidden_size=2048,
        num_layers=24,
        num_heads=16,
        num_kv_heads=16,
        intermediate_size=5632,
        qkv_bias="!qkv_bias",
        num_experts=60,
        expert_size=1408,
        shared_expert_size=5632,
        experts_per_token=4,
    ),
    "qwen3_moe": replace(
        _QWEN,
        hidden_size=2048,
        num_layers=24,
        num_kv_heads=4,
        intermediate_size=6144,
        qk_norm="head",
        qkv_bias="attention_bias",
        output_bias="attention_bias",
        num_experts=128,
        expert_size=768,
        experts_per_token=8,
        adapts_experts=True,
    ),
    "gemma": _GEMMA,
    "gemma2": _GEMMA_2,
    "gemma3_text": replace(_GEMMA_2, vocab_size=262208, max_positions=131072, qk_norm="head"),
    "olmo2": Family(vocab_size=50304, qk_norm="width", qkv_bias="attention_bias", output_bias="attention_bias"),
    "phi": Family(
        vocab_size=51200,
        hidden_size=2048,
        num_layers=24,
        intermediate_size=8192,
        attention=("self_attn", "q_proj", "k_proj", "v_proj", "dense"),
        mlp=("mlp", "fc1", "fc2"),
        is_gated=False,
        num_activation_copies=4,
        num_norms=1,
        has_norm_bias=True,
        qkv_bias=True,
        output_bias=True,
        mlp_bias=True,
        head_bias=True,
    ),
    "phi3": Family(
        vocab_size=32064,
        hidden_size=3072,
        intermediate_size=8192,
        max_positions=4096,
        attention=("self_attn", "qkv_proj", "o_proj"),
        mlp=("mlp", "gate_up_proj", "down_proj"),
    ),
    "starcoder2": Family(
        vocab_size=49152,
        hidden_size=3072,
        num_layers=30,
        num_heads=24,
        num_kv_heads=2,
        intermediate_size=12288,
        max_positions=4096,
        is_tied=True,
        mlp=("mlp", "c_fc", "c_proj"),
        is_gated=False,
        num_activation_copies=1,
        has_norm_bias=True,
        qkv_bias="!use_bias",
        output_bias="!use_bias",
        mlp_bias="!use_bias",
    ),
    "gpt2": Family(
        vocab_size=50257,
        hidden_size=768,
        num_layers=12,
        num_heads=12,
        intermediate_size=0,
        max_positions=1024,
        is_tied=True,
        layers="transformer.h",
        attention=("attn", "c_attn", "c_proj"),
        mlp=("mlp", "c_fc", "c_proj"),
        is_gated=False,
        num_activation_copies=4,
        embedding="transformer.wte",
        positions="transformer.wpe",
        has_norm_bias=True,
        qkv_bias=True,
        output_bias=True,
        mlp_bias=True,
    ),
    "gpt_neox": Family(
        vocab_size=50432,
        hidden_size=6144,
        num_layers=44,
        num_heads=64,
        intermediate_size=24576,
        layers="gpt_neox.layers",
        attention=("attention", "query_key_value", "dense"),
        mlp=("mlp", "dense_h_to_4h", "dense_4h_to_h"),
        is_gated=False,
        num_activation_copies=1,
        embedding="gpt_neox.embed_in",
        has_norm_bias=True,
        qkv_bias="!attention_bias",
        output_bias="!attention_bias",
        mlp_bias=True,
    ),
}
