"""A lean forward pass for models of the Llama family: the same arithmetic in a third of the calls.

A small model spends most of a token's time in Python and in the dispatch of tiny operations (12 ms of a 13 ms token for
30 layers of next to nothing). Here a layer is about twenty calls: neighbouring linear layers are one, keys and values
are written into tensors that are there from the start, and one attention call serves all heads of a group.

`choose` sees to it that the results are the library's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tui_trainer.engine.generate.forward.interface import Adapters
from tui_trainer.engine.generate.forward.projection import Group, Projection, UnsupportedError
from tui_trainer.engine.generate.forward.static import CacheShape, StaticKeyValues
from tui_trainer.engine.models.adapter import WITHOUT_ADAPTER, base_of

ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
_ROPES = ("default", "linear", "llama3", "yarn")
"""Rotary embeddings whose frequencies do not depend on the length of the text."""
_FIRST_POSITIONS = 512


class _Norm:
    """A root-mean-square norm over the last dimension.

    In float32 it is computed from the length of the vector, in four calls instead of the library's seven: dividing by
    the root of the mean square is dividing by the length and multiplying by the root of the dimension.
    """

    def __init__(self, module: Any, eps: float) -> None:
        self._weight: Tensor = module.weight.detach()
        self._eps = eps
        self._is_exact = self._weight.dtype == torch.float32
        self.refresh()

    def refresh(self) -> None:
        size = self._weight.shape[0]
        self._scaled = self._weight * math.sqrt(size)
        self._floor = torch.tensor(math.sqrt(size * self._eps), device=self._weight.device)

    def __call__(self, x: Tensor) -> Tensor:
        if not self._is_exact:
            return functional.rms_norm(x, self._weight.shape, self._weight, self._eps)
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return (x * self._scaled).div_(torch.hypot(length, self._floor))


class _Layer:
    """The weights of a layer."""

    def __init__(self, layer: Any, eps: float) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.input_norm = _Norm(layer.input_layernorm, eps)
        self.qkv = Projection([attention.q_proj, attention.k_proj, attention.v_proj])
        self.head_norms = [attention.q_norm.weight, attention.k_norm.weight] if hasattr(attention, "q_norm") else None
        self.out = Projection([attention.o_proj])
        self.post_norm = _Norm(layer.post_attention_layernorm, eps)
        self.gate_up = Projection([mlp.gate_proj, mlp.up_proj])
        self.down = Projection([mlp.down_proj])

    @property
    def projections(self) -> list[Projection]:
        return [self.qkv, self.out, self.gate_up, self.down]


class FusedForward:
    """Runs tokens through a model of the Llama family.

    Args:
        model: the library's model, or a PEFT model with LoRA adapters around one; in evaluation mode.

    Raises:
        UnsupportedError: it has a part that is not known here.
    """

    kind = "fused"
    without_gradients: Callable[[], AbstractContextManager[Any]] = torch.inference_mode
    keeps_cache = True
    takes_parts = True

    def __init__(self, model: Any) -> None:
        self.model = model
        base = base_of(model)
        config = base.config
        _check(base, model)
        self.device: torch.device = model.device
        self._embedding: Tensor = base.model.embed_tokens.weight
        self._eps: float = config.rms_norm_eps
        self._layers = [_Layer(layer, self._eps) for layer in base.model.layers]
        self._norm = _Norm(base.model.norm, self._eps)
        self._head = Projection([base.lm_head])
        attention = base.model.layers[0].self_attn
        self._head_dim: int = attention.head_dim
        self._scale: float = attention.scaling
        self._num_heads: int = config.num_attention_heads
        self._num_kv: int = config.num_key_value_heads
        self._rotary = base.model.rotary_emb
        self._tables = self._rotations(_FIRST_POSITIONS)
        shape = (len(self._layers), self._num_kv, self._head_dim, self._embedding.dtype, self.device)
        self._shape = CacheShape(*shape)
        self._head_scales = [self._joined_head_norm(layer) for layer in self._layers]

    def new_cache(self) -> StaticKeyValues:
        """An empty cache."""
        return StaticKeyValues(self._shape)

    @torch.inference_mode()
    def last_logits(self, input_ids: Tensor, cache: Any, adapters: Adapters = ()) -> Tensor:
        """See `Forward`."""
        rows, length = input_ids.shape
        groups = self._groups(adapters, rows, length)
        hidden = self._hidden(input_ids, cache, groups).view(rows, length, -1)[:, -1]
        return self._logits(hidden, self._groups(adapters, rows, 1))

    @torch.inference_mode()
    def all_logits(self, input_ids: Tensor, cache: Any, adapters: Adapters = ()) -> Tensor:
        """See `Forward`."""
        rows, length = input_ids.shape
        groups = self._groups(adapters, rows, length)
        return self._logits(self._hidden(input_ids, cache, groups), groups).view(rows, length, -1)

    @torch.inference_mode()
    def refresh(self) -> None:
        """Take over anew what is kept beside the library's weights: adapters, and norms of heads.

        Raises:
            UnsupportedError: an adapter is more than a plain LoRA.
        """
        _check_adapters(self.model)
        for projection in (self._head, *(each for layer in self._layers for each in layer.projections)):
            projection.refresh()
        for norm in (self._norm, *(each for layer in self._layers for each in (layer.input_norm, layer.post_norm))):
            norm.refresh()
        self._head_scales = [self._joined_head_norm(layer) for layer in self._layers]

    def _groups(self, adapters: Adapters, rows: int, length: int) -> list[Group]:
        """Neighbouring rows with the same adapter; without any named, all go through the model's active one."""
        names = adapters or [_active_adapter(self.model)] * rows
        groups: list[Group] = []
        for row, name in enumerate(names):
            if groups and groups[-1].adapter == name and groups[-1].end == row * length:
                groups[-1] = Group(name, groups[-1].start, (row + 1) * length)
            else:
                groups.append(Group(name, row * length, (row + 1) * length))
        return [group for group in groups if group.adapter != WITHOUT_ADAPTER]

    def _logits(self, hidden: Tensor, groups: Sequence[Group]) -> Tensor:
        return self._head(self._norm(hidden), groups).float()

    def _hidden(self, input_ids: Tensor, cache: StaticKeyValues, groups: Sequence[Group]) -> Tensor:
        """The hidden state of each token behind the last layer, [rows * length, hidden]; keys and values are kept."""
        rows, length = input_ids.shape
        cache.make_room(length)
        start, end = cache.length, cache.length + length
        if end > len(self._tables[0]):
            self._tables = self._rotations(2 * end)
        cos, sin = (table[start:end].repeat(rows, 1)[:, None] for table in self._tables)
        mask = None if length == 1 or start == 0 else self._mask(length, end)
        hidden = functional.embedding(input_ids.reshape(-1), self._embedding)
        for place, layer in enumerate(self._layers):
            qkv = layer.qkv(layer.input_norm(hidden), groups)
            heads = self._rotated(qkv, place, cos, sin)
            attended = self._attended(heads, cache.layers[place], rows, start, end, mask)
            hidden = hidden + layer.out(attended, groups)
            gate, up = layer.gate_up(layer.post_norm(hidden), groups).chunk(2, -1)
            hidden = hidden + layer.down(functional.silu(gate).mul_(up), groups)
        cache.length = end
        return hidden

    def _rotated(self, qkv: Tensor, place: int, cos: Tensor, sin: Tensor) -> Tensor:
        """The heads of queries, keys and values [tokens, heads, head_dim], the first two turned by their position."""
        heads = qkv.view(qkv.shape[0], -1, self._head_dim)
        turning = heads.narrow(1, 0, self._num_heads + self._num_kv)
        scale = self._head_scales[place]
        if scale is not None:
            turning.copy_(functional.rms_norm(turning, (self._head_dim,), None, self._eps).mul_(scale))
        other = turning.roll(self._head_dim // 2, -1)
        turning.mul_(cos).addcmul_(other, sin)
        return heads

    def _attended(self, heads: Tensor, layer: Tensor, rows: int, start: int, end: int, mask: Tensor | None) -> Tensor:
        """Write keys and values, and let the queries look at all there are; [tokens, heads * head_dim]."""
        length = end - start
        queries, new = torch.split_with_sizes(heads, (self._num_heads, 2 * self._num_kv), 1)
        keys, values = layer.narrow(3, 0, end).unbind(1)
        if length == 1:
            layer.select(3, start).copy_(new.view(rows, 2, self._num_kv, self._head_dim))
            grouped = queries.view(rows, self._num_kv, -1, self._head_dim)
            out = functional.scaled_dot_product_attention(grouped, keys, values, scale=self._scale)
            return out.reshape(rows, -1)
        new = new.view(rows, length, 2, self._num_kv, self._head_dim)
        layer[:, :, :, start:end] = new.permute(0, 2, 3, 1, 4)
        apart = queries.view(rows, length, self._num_heads, self._head_dim).transpose(1, 2)
        out = functional.scaled_dot_product_attention(
            apart, keys, values, mask, is_causal=mask is None, scale=self._scale, enable_gqa=True
        )
        return out.transpose(1, 2).reshape(rows * length, -1)

    def _mask(self, length: int, end: int) -> Tensor:
        """Which tokens each of the last `length` ones sees, [length, end]."""
        ones = torch.ones(length, end, dtype=torch.bool, device=self.device)
        return ones.tril_(end - length)

    def _rotations(self, num_positions: int) -> tuple[Tensor, Tensor]:
        """Cosine and sine of each position's turn, [positions, head_dim]; the first half of the sines is negative."""
        positions = torch.arange(num_positions, device=self.device)[None]
        cos, sin = self._rotary(self._embedding[:1], positions)
        sin = sin[0].clone()
        sin[:, : sin.shape[1] // 2] *= -1
        return cos[0], sin

    def _joined_head_norm(self, layer: _Layer) -> Tensor | None:
        if layer.head_norms is None:
            return None
        queries, keys = (weight.detach() for weight in layer.head_norms)
        return torch.cat([queries.expand(self._num_heads, -1), keys.expand(self._num_kv, -1)])


def _check(base: Any, model: Any) -> None:
    name = type(base).__name__
    if name not in ARCHITECTURES:
        raise UnsupportedError(f"the architecture {name}")
    config = base.config
    if any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or ()) or (
        name == "MistralForCausalLM" and getattr(config, "sliding_window", None)
    ):
        raise UnsupportedError("attention in a sliding window")
    if config.hidden_act != "silu":
        raise UnsupportedError(f"the activation {config.hidden_act}")
    if base.model.rotary_emb.rope_type not in _ROPES:
        raise UnsupportedError(f"rotary embeddings of type {base.model.rotary_emb.rope_type}")
    if type(base.model.embed_tokens) is not nn.Embedding:
        raise UnsupportedError("a trained copy of the embedding")
    if len({parameter.device for parameter in base.parameters()}) != 1:
        raise UnsupportedError("weights on several devices")
    _check_adapters(model)


def _check_adapters(model: Any) -> None:
    for name, config in getattr(model, "peft_config", {}).items():
        if config.peft_type != "LORA" or config.modules_to_save or config.trainable_token_indices:
            raise UnsupportedError(f"the adapter {name}, which is more than a plain LoRA")


def _active_adapter(model: Any) -> str:
    """The adapter that a PEFT model goes through as it stands."""
    names = model.active_adapters if hasattr(model, "get_base_model") else ()
    return str(names[0]) if names else WITHOUT_ADAPTER
