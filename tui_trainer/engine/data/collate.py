"""From examples to a batch of tensors: padded with the semantics of `DataCollatorForSeq2Seq`, or packed.

`padded_batch` and `packed_batch` make plain arrays, for showing without torch; the collators make the tensors of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tui_trainer.config.data import DataConfig
from tui_trainer.engine.data.example import IGNORED, LOSS_WEIGHTS
from tui_trainer.engine.data.packing import joined_weights

if TYPE_CHECKING:
    import torch

Example = dict[str, Any]


@dataclass(frozen=True)
class Padding:
    """How a batch is filled.

    Attributes:
        pad_token_id: id that fills; what is filled is masked by length, never by id.
        side: right or left.
        to_length: pad to this length; None for the longest example.
        multiple_of: round the length up to a multiple of this.
    """

    pad_token_id: int
    side: str = "right"
    to_length: int | None = None
    multiple_of: int | None = None

    @classmethod
    def of(cls, data: DataConfig, pad_token_id: int) -> Padding:
        """The padding a configuration asks for."""
        to_length = data.max_length if data.padding == "max_length" else None
        return cls(pad_token_id, data.padding_side, to_length, data.pad_to_multiple_of)

    def length(self, longest: int) -> int:
        """Tokens of each row of a batch."""
        length = max(longest, self.to_length or 0)
        return length if not self.multiple_of else -(-length // self.multiple_of) * self.multiple_of


def padded_batch(examples: Sequence[Example], padding: Padding) -> dict[str, np.ndarray]:
    """`input_ids`, `attention_mask` and `labels`, int64, shape (batch, length).

    With `loss_weights`, float32, where an example has weights.
    """
    length = padding.length(max(len(example["input_ids"]) for example in examples))
    shape = (len(examples), length)
    batch = {
        "input_ids": np.full(shape, padding.pad_token_id, dtype=np.int64),
        "attention_mask": np.zeros(shape, dtype=np.int64),
        "labels": np.full(shape, IGNORED, dtype=np.int64),
    }
    if any(LOSS_WEIGHTS in example for example in examples):
        batch[LOSS_WEIGHTS] = np.ones(shape, dtype=np.float32)
    for row, example in enumerate(examples):
        size = len(example["input_ids"])
        place = slice(0, size) if padding.side == "right" else slice(length - size, length)
        batch["input_ids"][row, place] = example["input_ids"]
        batch["attention_mask"][row, place] = 1
        batch["labels"][row, place] = example["labels"]
        if LOSS_WEIGHTS in example:
            batch[LOSS_WEIGHTS][row, place] = example[LOSS_WEIGHTS]
    return batch


def packed_batch(examples: Sequence[Example]) -> dict[str, np.ndarray]:
    """`input_ids`, `labels` and `position_ids`, int64, shape (1, num_tokens): all examples in one row, none padded.

    There is no attention mask: with one, transformers would not look for the borders and examples would see each other.
    With `loss_weights`, float32, where an example has weights.
    """
    batch = {name: np.concatenate([np.asarray(row[name]) for row in examples])[None] for name in _PACKED}
    weights = joined_weights(examples)
    return batch if weights is None else {**batch, LOSS_WEIGHTS: weights[None]}


_PACKED = ("input_ids", "labels", "position_ids")


class PaddedCollator:
    """Pads examples to one length."""

    def __init__(self, padding: Padding) -> None:
        self.padding = padding

    def __call__(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        """The batch as tensors of shape (batch, length)."""
        return _tensors(padded_batch(examples, self.padding))


class PackedCollator:
    """Puts packed rows one behind the other."""

    def __call__(self, rows: Sequence[Example]) -> dict[str, torch.Tensor]:
        """The batch as tensors of shape (1, num_tokens)."""
        return _tensors(packed_batch(rows))


def _tensors(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    import torch

    return {name: torch.from_numpy(array) for name, array in arrays.items()}
