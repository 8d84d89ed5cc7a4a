"""Linear layers that read the same input, computed as one: queries, keys and values; gate and up.

Their weights are laid side by side in memory once, and the library's layers look into that memory, so that nothing
takes room twice and whoever writes new weights into the library's model writes them here as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import Tensor, nn
from torch.nn import functional

from tui_trainer.engine.models.int8 import Int8Linear

_SMALL = 1 << 17
"""Weights below this many numbers stay in the processor's cache; how they are read does not matter."""
_FEW_TOKENS = 8
_CACHE_LINE = 64


class UnsupportedError(Exception):
    """A model has a part that the lean forward pass does not know; the text names it."""


@dataclass(frozen=True)
class Group:
    """Tokens that go through the same adapter.

    Attributes:
        adapter: its name.
        start: first token.
        end: token behind the last.
    """

    adapter: str
    start: int
    end: int


class Projection:
    """Linear layers over one input, with their adapters.

    Args:
        modules: the library's layers: `nn.Linear`, `Int8Linear`, or LoRA layers around one.

    Raises:
        UnsupportedError: one of them is something else.
    """

    def __init__(self, modules: Sequence[Any]) -> None:
        self._modules = list(modules)
        bases = [_base_of(module) for module in modules]
        self._int8 = Int8Linear.joined([base for base in bases if isinstance(base, Int8Linear)])
        plain = [base for base in bases if not isinstance(base, Int8Linear)]
        if plain and self._int8 is not None:
            raise UnsupportedError("layers of which only some are quantised")
        self._weight = None if self._int8 is not None else _side_by_side(plain)
        self._bias = _joined_bias(bases)
        self._is_large = self._weight is not None and _is_read_slowly(self._weight)
        self._deltas: dict[str, tuple[Tensor, Tensor]] = {}
        self.refresh()

    @property
    def adapters(self) -> set[str]:
        """The adapters that change this projection."""
        return set(self._deltas)

    def refresh(self) -> None:
        """Take the adapters' weights over from the library's layers."""
        names = dict.fromkeys(name for module in self._modules for name in getattr(module, "lora_A", ()))
        self._deltas = {name: self._delta(name) for name in names}

    def __call__(self, x: Tensor, groups: Sequence[Group]) -> Tensor:
        """The product with all layers.

        Args:
            x: [tokens, in].
            groups: the tokens that go through an adapter.

        Returns:
            [tokens, out of the first layer, out of the second, …].
        """
        y = self._product(x)
        if self._bias is not None:
            y = y + self._bias
        for group in groups:
            if group.adapter in self._deltas:
                down, up = self._deltas[group.adapter]
                inner = functional.linear(x[group.start : group.end].to(down.dtype), down)
                y[group.start : group.end] += functional.linear(inner, up).to(y.dtype)
        return y

    def _product(self, x: Tensor) -> Tensor:
        """X times the weight.

        On a CPU in float32 a product with two columns reads the weights a third faster than one with a single one (22
        against 31 ms for all of SmolLM2's on one core, MKL on AVX-512), and two rows cost no more than one.
        """
        if self._int8 is not None:
            return self._int8(x)
        weight: Any = self._weight
        tokens = x.shape[0]
        if not self._is_large or tokens > _FEW_TOKENS:
            return functional.linear(x, weight)
        columns = x if tokens % 2 == 0 else torch.cat([x, x[-1:]])
        return torch.mm(weight, columns.t())[:, :tokens].t().contiguous()

    def _delta(self, name: str) -> tuple[Tensor, Tensor]:
        """The two matrices of an adapter over all layers: [ranks, in], and [out, ranks] with the scale in it."""
        downs, ups = [], []
        for module in self._modules:
            base = _base_of(module)
            if name in getattr(module, "lora_A", ()):
                _check_plain(module, name)
                downs.append(module.lora_A[name].weight.detach())
                ups.append(module.lora_B[name].weight.detach() * module.scaling[name])
            else:
                some = next(other for other in self._modules if name in getattr(other, "lora_A", ()))
                weight = some.lora_A[name].weight
                downs.append(weight.new_zeros(0, base.in_features))
                ups.append(weight.new_zeros(base.out_features, 0))
        up: Tensor = torch.block_diag(*ups) if len(ups) > 1 else ups[0]  # type: ignore[no-untyped-call]
        return torch.cat(downs), up


def _is_read_slowly(weight: Tensor) -> bool:
    """Whether a product with few tokens takes as long as it takes to read the weight, on a CPU in float32."""
    return weight.dtype == torch.float32 and weight.device.type == "cpu" and weight.numel() >= _SMALL


def _base_of(module: Any) -> Any:
    base = module.base_layer if type(module) is LoraLinear else module
    if type(base) not in (nn.Linear, Int8Linear):
        raise UnsupportedError(f"a layer of type {type(base).__name__}")
    return base


def _check_plain(module: Any, name: str) -> None:
    if name in module.lora_variant or module.lora_bias.get(name) or module.merged_adapters:
        raise UnsupportedError("an adapter that is more than a plain LoRA")


def _side_by_side(bases: Sequence[nn.Linear]) -> Tensor:
    """One weight for all; also a single one that begins within a cache line is laid out anew.

    Weights that lie in a mapped file begin anywhere: reading SmolLM2's takes 6 % longer there.
    """
    if len(bases) == 1 and bases[0].weight.data_ptr() % _CACHE_LINE == 0:
        return bases[0].weight.detach()
    return _joined([base.weight for base in bases])


def _joined_bias(bases: Sequence[Any]) -> Tensor | None:
    biases = [base.bias for base in bases if base.bias is not None]
    if biases and len(biases) < len(bases):
        raise UnsupportedError("layers of which only some have a bias")
    return _joined(biases) if biases else None


def _joined(parameters: Sequence[Tensor]) -> Tensor:
    """Parameters one behind the other; each looks into the result from now on."""
    joined = torch.cat([parameter.detach() for parameter in parameters])
    start = 0
    for parameter in parameters:
        end = start + len(parameter)
        parameter.data = joined[start:end]
        start = end
    return joined
