"""Packing: several examples in one row of tokens, so that little is padded; none of them sees another.

Exactness lies in `position_ids`: they begin at 0 with every example, and with no attention mask beside them
transformers keeps the examples apart (`masking_utils.find_packed_sequence_indices`).
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence

import numpy as np

from tui_trainer.engine.data.example import IGNORED, LOSS_WEIGHTS


def pack(lengths: Sequence[int], capacity: int, seed: int) -> list[list[int]]:
    """Put examples into bins, the longest first, each into the fullest bin that has room for it (best-fit decreasing).

    Args:
        lengths: tokens of each example.
        capacity: tokens of a bin; a longer example gets a bin of its own.
        seed: the order of the bins is shuffled with it, so that they do not come sorted by length.

    Returns:
        Indices of the examples in each bin.
    """
    order = np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable")
    bins: list[list[int]] = []
    rooms: list[tuple[int, int]] = []
    for index in order.tolist():
        length = int(lengths[index])
        place = bisect.bisect_left(rooms, (length, -1))
        if place < len(rooms):
            room, number = rooms.pop(place)
        else:
            room, number = capacity, len(bins)
            bins.append([])
        bins[number].append(index)
        if room > length:
            bisect.insort(rooms, (room - length, number))
    shuffled = np.random.default_rng(seed).permutation(len(bins))
    return [bins[number] for number in shuffled]


def packed_row(examples: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Examples one behind the other, as `input_ids`, `labels` and `position_ids` of shape (num_tokens,).

    With `loss_weights` if one of them has weights. The first label of each is ignored, because what precedes it
    belongs to another.
    """
    labels = np.concatenate([example["labels"] for example in examples])
    lengths = [len(example["input_ids"]) for example in examples]
    labels[np.cumsum([0, *lengths[:-1]])] = IGNORED
    weights = joined_weights(examples)
    return {
        **({} if weights is None else {LOSS_WEIGHTS: weights}),
        "input_ids": np.concatenate([example["input_ids"] for example in examples]),
        "labels": labels,
        "position_ids": np.concatenate([np.arange(length) for length in lengths]),
    }


def joined_weights(examples: Sequence[dict[str, np.ndarray]]) -> np.ndarray | None:
    """The weights of examples one behind the other, 1 for those that have none; None if none has any."""
    if not any(LOSS_WEIGHTS in example for example in examples):
        return None
    return np.concatenate(
        [example.get(LOSS_WEIGHTS, np.ones(len(example["input_ids"]), dtype=np.float32)) for example in examples]
    )
