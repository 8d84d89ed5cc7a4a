"""The ranks of a run as those that decide together: what one of them knows, and what all of them say, for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed


@dataclass(frozen=True)
class Group:
    """The ranks that decide together.

    Attributes:
        rank: number of this process.
        size: how many there are.
        device: where tensors for a collective live.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """The sum over all ranks of each value; whole numbers up to 2**53 stay exact."""
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(tensor)
        return [float(value) for value in tensor.tolist()]

    def leave(self) -> None:
        """End the group once all ranks are here: one that is still talked to would abort on its way out."""
        if self.size > 1 and distributed.is_initialized():
            distributed.barrier(device_ids=[self.device.index] if self.device.type == "cuda" else None)
            distributed.destroy_process_group()

    def all_true(self, value: bool) -> bool:
        """Whether `value` is true on every rank."""
        return self.sum([int(value)])[0] == self.size

    def from_all(self, value: Any) -> list[Any]:
        """The objects that the ranks gave, by rank."""
        if self.size == 1:
            return [value]
        values = [None] * self.size
        distributed.all_gather_object(values, value)
        return values

    def from_first(self, value: Any) -> Any:
        """The object that rank 0 gave."""
        if self.size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0, device=self.device)
        return box[0]
