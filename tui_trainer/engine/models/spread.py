"""How large a weight is in all, wherever its pieces are.

Under DeepSpeed's ZeRO stage 3 a model is loaded in pieces: each weight is empty between two uses and keeps its true
shape beside. FSDP's weights tell theirs themselves.
"""

from __future__ import annotations

from typing import Any

import torch


def whole_shape(weight: torch.Tensor) -> tuple[int, ...]:
    """The shape of a weight, not that of the piece of it that is here."""
    spread: Any = getattr(weight, "ds_shape", None)
    return tuple(weight.shape if spread is None else spread)


def whole_size(weight: torch.Tensor) -> int:
    """How many numbers a weight has, not how many of them are here."""
    spread: Any = getattr(weight, "ds_numel", None)
    return weight.numel() if spread is None else int(spread)
