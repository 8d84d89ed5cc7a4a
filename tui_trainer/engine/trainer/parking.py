"""Moving a model and its optimiser off the GPU while a run is paused, and back. Called by `engine.trainer.trainer`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch

Put = Callable[[torch.Tensor], None]


class ParkedModel:
    """The tensors of a model and its optimiser that live on one device, moved elsewhere together.

    Modules and parameters stay the same objects, so that whatever refers to them, as the wrapper for several
    processes, finds the values again when they are back. Gradients are dropped: between two steps nobody needs them.

    Args:
        model: the model.
        optimizer: its optimiser.
        place: where the tensors go.
    """

    def __init__(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer | None, place: torch.device) -> None:
        self._homes: list[tuple[Put, torch.Tensor, torch.device]] = []
        model.zero_grad(set_to_none=True)
        for put, tensor in list(movable_tensors(model, optimizer)):
            if tensor.device != place:
                home, moved = tensor.device, tensor.to(place)
                put(moved)
                self._homes.append((put, moved, home))
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    @property
    def num_bytes(self) -> int:
        """How much was moved."""
        return sum(tensor.numel() * tensor.element_size() for _, tensor, _ in self._homes)

    def bring_back(self) -> None:
        """Put everything back where it was."""
        for put, tensor, home in self._homes:
            put(tensor.to(home))
        self._homes = []


def movable_tensors(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer | None
) -> Iterator[tuple[Put, torch.Tensor]]:
    """Each tensor of a model and its optimiser, and what puts another in its place."""
    for weight in [*model.parameters(), *model.buffers()]:
        yield partial(setattr, weight, "data"), weight.data
    for state in optimizer.state.values() if optimizer is not None else ():
        for name, value in list(state.items()):
            if isinstance(value, torch.Tensor):
                yield partial(state.__setitem__, name), value
