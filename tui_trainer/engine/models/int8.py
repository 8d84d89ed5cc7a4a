"""Weights in 8 bits on a CPU: a quarter of the bytes to read for every token, which is what a token costs there.

Each row of a weight is a list of whole numbers from -127 to 127 and one scale. Activations stay as they are, rounded to
bfloat16 for the product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tui_trainer.errors import MachineError

INT8 = "int8"
"""What the type is called."""

_FEW_TOKENS = 16
"""Up to so many tokens the weights are read as they are; for more it pays to unpack them once."""


class Int8Linear(nn.Module):
    """A linear layer with weights in 8 bits; takes the place of an `nn.Linear`.

    Args:
        weight: [out, in], int8.
        scale: [out], bfloat16; what a whole number of each row counts.
        bias: [out], or None.
    """

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.weight = nn.Buffer(weight)
        self.scale = nn.Buffer(scale)
        self.bias = nn.Buffer(bias) if bias is not None else None
        self.out_features, self.in_features = weight.shape

    @classmethod
    def of(cls, linear: nn.Linear) -> Int8Linear:
        """The layer with its weights rounded; their scale is that of the largest of each row."""
        weight = linear.weight.detach().float()
        scale = (weight.abs().amax(1) / 127).clamp_(min=torch.finfo(torch.float32).tiny).to(torch.bfloat16)
        rounded = (weight / scale.float()[:, None]).round_().clamp_(-127, 127).to(torch.int8)
        return cls(rounded, scale, None if linear.bias is None else linear.bias.detach())

    @staticmethod
    def joined(layers: Sequence[Int8Linear]) -> Callable[[Tensor], Tensor] | None:
        """The product with several layers at once, without their biases; None if there are none."""
        if not layers:
            return None
        weight = torch.cat([layer.weight for layer in layers])
        scale = torch.cat([layer.scale for layer in layers])
        start = 0
        for layer in layers:
            end = start + layer.out_features
            layer.weight, layer.scale = nn.Buffer(weight[start:end]), nn.Buffer(scale[start:end])
            start = end
        return lambda x: _product(x, weight, scale)

    def forward(self, x: Tensor) -> Tensor:
        """X [..., in] times the weight, [..., out]."""
        flat = _product(x.reshape(-1, self.in_features), self.weight, self.scale)
        y = flat.view(*x.shape[:-1], self.out_features)
        return y if self.bias is None else y + self.bias.to(y.dtype)


def _product(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    if x.shape[0] > _FEW_TOKENS:
        return functional.linear(x, weight.to(x.dtype)) * scale.to(x.dtype)
    product: Tensor = torch._weight_int8pack_mm(x.to(torch.bfloat16), weight, scale)
    return product.to(x.dtype)


def quantize(model: Any) -> None:
    """Put 8 bit layers in the place of all linear layers of a model, adapters' own aside.

    Raises:
        MachineError: torch has no such product on this machine.
    """
    probe = torch.zeros(1, 64, dtype=torch.bfloat16)
    try:
        torch._weight_int8pack_mm(probe, torch.zeros(64, 64, dtype=torch.int8), torch.ones(64, dtype=torch.bfloat16))
    except RuntimeError as error:
        raise MachineError(
            f"this torch cannot multiply with int8 weights on this machine: {str(error).splitlines()[0][:120]}",
            remedy="Choose dtype float32 or bfloat16.",
        ) from None
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear and not _holds_adapters(module):
                setattr(module, name, Int8Linear.of(child))


def _holds_adapters(module: nn.Module) -> bool:
    """Whether a module's children are the matrices of adapters: PEFT keeps them in dictionaries."""
    return isinstance(module, nn.ModuleDict)
