"""The loss over tokens that do not all weigh the same: their weighted mean. Called by `engine.trainer.trainer`.

A batch with weights holds `loss_weights`, one a token, if it is padded, and `target_weights`, one a target, if it is
flat; without either every label weighs 1, and the numbers are those of the plain mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional

from tui_trainer.engine.data.example import IGNORED, LOSS_WEIGHTS
from tui_trainer.engine.models.adapter import base_of
from tui_trainer.engine.trainer.flat import own_loss
from tui_trainer.errors import DataError

LEAST_WEIGHT = 1e-6
"""What a batch without a label is divided by."""


def summed_loss(model: torch.nn.Module, inputs: Mapping[str, Any], label_smoothing: float) -> tuple[torch.Tensor, Any]:
    """The loss of each target of a batch, times its weight, added up; and what the model returned.

    Args:
        model: the model.
        inputs: a flat batch, with or without weights, or a padded one with weights.
        label_smoothing: share of probability given to all other ids.
    """
    inputs = dict(inputs)
    labels = inputs.pop("labels")
    if "target_positions" in inputs:
        positions, weights = inputs.pop("target_positions"), inputs.pop("target_weights", None)
        outputs = model(**inputs, logits_to_keep=positions)
        logits, targets = outputs.logits[0], labels[0, positions + 1]
    else:
        weights = inputs.pop(LOSS_WEIGHTS)[..., 1:].flatten()
        outputs = model(**inputs)
        logits, targets = outputs.logits[:, :-1].flatten(0, 1), labels[..., 1:].flatten()
    reduction = "sum" if weights is None else "none"
    losses = functional.cross_entropy(logits.float(), targets, reduction=reduction, label_smoothing=label_smoothing)
    return (losses if weights is None else (losses * weights).sum()), outputs


def check_weighable(model: torch.nn.Module) -> None:
    """Refuse weights where the model does not say its loss in terms of the labels alone.

    Raises:
        DataError: its loss is another.
    """
    if reason := own_loss(base_of(model)):
        raise DataError(
            f"the rows weigh their turns, but {reason}",
            where="data",
            remedy="Remove the weights that are neither 0 nor 1, or train another model.",
        )


def target_weight(batch: Mapping[str, Any]) -> torch.Tensor:
    """What the targets of a batch weigh together; without weights, their number."""
    if "target_weights" in batch:
        weight: torch.Tensor = batch["target_weights"].sum()
        return weight
    is_target: torch.Tensor = batch["labels"][..., 1:].ne(IGNORED)
    weighed = is_target * batch[LOSS_WEIGHTS][..., 1:] if LOSS_WEIGHTS in batch else is_target
    return weighed.sum()
