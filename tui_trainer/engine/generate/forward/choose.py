"""Which forward pass a model gets, and the proof that the lean one computes what the library's does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from tui_trainer.engine.generate.forward.fused import FusedForward
from tui_trainer.engine.generate.forward.interface import Forward
from tui_trainer.engine.generate.forward.library import LibraryForward
from tui_trainer.engine.generate.forward.projection import UnsupportedError
from tui_trainer.engine.models.int8 import Int8Linear
from tui_trainer.engine.models.messages import first_line
from tui_trainer.errors import UsageError

Decode = Literal["auto", "library"]
CHOICES: tuple[Decode, ...] = ("auto", "library")

_PROBE_TOKENS = 9
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 3e-2, torch.bfloat16: 8e-2}
"""Largest difference of logits, as a share of the largest logit, by which two orders of the same sums may differ.

Weights in 8 bits are multiplied in bfloat16.
"""


@dataclass(frozen=True)
class Choice:
    """A forward pass.

    Attributes:
        forward: the one that was chosen.
        note: why it is not the lean one; empty if it is, or nobody asked for it.
    """

    forward: Forward
    note: str = ""


def choose_forward(model: Any, decode: str = "auto") -> Choice:
    """The forward pass for a model: the lean one if it can be had and gives the library's results.

    Args:
        model: a causal language model, or a PEFT model around one; in evaluation mode.
        decode: "auto", or "library" for the library's in any case.

    Raises:
        UsageError: there is no such choice.
    """
    if decode not in CHOICES:
        raise UsageError(f"there is no way of decoding {decode!r}", remedy=f"There are {', '.join(CHOICES)}.")
    library = LibraryForward(model)
    if decode == "library":
        return Choice(library)
    try:
        fused = FusedForward(model)
    except (UnsupportedError, AttributeError) as reason:
        return Choice(library, f"decoding as the library does: {_words(reason)} is not known to the lean step")
    try:
        difference = disagreement(fused, library)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # a kernel that this device or type does not have
        return Choice(library, f"decoding as the library does: the lean step fails here: {first_line(error)}")
    if not difference <= _tolerance(model):
        return Choice(library, f"decoding as the library does: the lean step differs from it by {difference:.1%}")
    return Choice(fused)


def _tolerance(model: Any) -> float:
    is_int8 = any(isinstance(module, Int8Linear) for module in model.modules())
    return _TOLERANCE.get(torch.bfloat16 if is_int8 else model.dtype, 0.0)


def disagreement(one: Forward, other: Forward) -> float:
    """How far the logits of two forward passes are apart, as a share of the largest, over a prompt and a next token."""
    first, second = _probed(one), _probed(other)
    return float((first - second).abs().max() / second.abs().max().clamp(min=1e-6))


def _probed(forward: Forward) -> Tensor:
    vocabulary = int(forward.model.get_input_embeddings().weight.shape[0])
    ids = torch.arange(1, _PROBE_TOKENS + 1, device=forward.device) * 7919 % vocabulary
    cache = forward.new_cache()
    prompt = forward.all_logits(ids[None, :-1], cache)[0]
    return torch.cat([prompt, forward.last_logits(ids[None, -1:], cache)])


def _words(reason: Exception) -> str:
    return str(reason) if isinstance(reason, UnsupportedError) else f"a model without {getattr(reason, 'name', '')}"
