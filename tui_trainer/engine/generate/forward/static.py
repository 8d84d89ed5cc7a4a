"""Keys and values in tensors that are there from the start; a token is written in its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_FIRST_CAPACITY = 256


@dataclass(frozen=True)
class CacheShape:
    """What a cache is made of.

    Attributes:
        num_layers: layers.
        num_heads: heads of keys and values.
        head_dim: numbers of a head.
        dtype: their type.
        device: where they are.
    """

    num_layers: int
    num_heads: int
    head_dim: int
    dtype: torch.dtype
    device: torch.device


class StaticKeyValues:
    """Keys and values with room to grow; the room doubles when it is used up.

    Args:
        shape: what they are made of.
        num_rows: rows.
        capacity: tokens there is room for at first.

    Attributes:
        length: tokens that are in it.
        layers: for each layer [rows, 2, heads, capacity, head_dim], keys at 0 and values at 1.
    """

    can_crop = True

    def __init__(self, shape: CacheShape, num_rows: int = 1, capacity: int = _FIRST_CAPACITY) -> None:
        self.shape = shape
        self.num_rows = num_rows
        self.length = 0
        self.layers = self._allocated(num_rows, capacity)

    @property
    def capacity(self) -> int:
        """Tokens there is room for."""
        return self.layers[0].shape[3]

    def make_room(self, num_tokens: int) -> None:
        """See that so many more tokens can be written."""
        needed = self.length + num_tokens
        if needed <= self.capacity:
            return
        old = self.layers
        self.layers = self._allocated(self.num_rows, max(2 * self.capacity, needed))
        for layer, before in zip(self.layers, old, strict=True):
            layer[:, :, :, : self.length] = before[:, :, :, : self.length]

    def crop(self, length: int) -> None:
        """Keep the first `length` tokens."""
        self.length = length

    def joined(self, others: Sequence[StaticKeyValues]) -> StaticKeyValues:
        """The rows of several, one after the other."""
        parts = [self, *others]
        joined = self._like(sum(part.num_rows for part in parts))
        for place, layer in enumerate(joined.layers):
            filled = [part.layers[place][:, :, :, : self.length] for part in parts]
            layer[:, :, :, : self.length] = torch.cat(filled)
        return joined

    def repeated(self, count: int) -> StaticKeyValues:
        """`count` rows in place of one."""
        repeated = self._like(count)
        for layer, before in zip(repeated.layers, self.layers, strict=True):
            layer[:, :, :, : self.length] = before[:1, :, :, : self.length]
        return repeated

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only."""
        index = torch.tensor(list(rows), device=self.shape.device)
        self.layers = [layer[index] for layer in self.layers]
        self.num_rows = len(rows)

    def _like(self, num_rows: int) -> StaticKeyValues:
        other = StaticKeyValues(self.shape, num_rows, max(_FIRST_CAPACITY, self.length + _FIRST_CAPACITY))
        other.length = self.length
        return other

    def _allocated(self, num_rows: int, capacity: int) -> list[Tensor]:
        shape = self.shape
        size = (num_rows, 2, shape.num_heads, capacity, shape.head_dim)
        return [torch.empty(size, dtype=shape.dtype, device=shape.device) for _ in range(shape.num_layers)]
