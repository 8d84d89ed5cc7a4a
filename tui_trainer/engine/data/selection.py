"""Which examples are trained on and which are held out for evaluation: by share, by weight, in packed rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tui_trainer.config.schema import RunConfig
from tui_trainer.engine.data.building import PART_ROWS
from tui_trainer.engine.data.dataset import Examples, PackedExamples
from tui_trainer.engine.data.packing import pack
from tui_trainer.engine.data.rowset import Part
from tui_trainer.engine.data.store import ExampleStore


@dataclass(frozen=True)
class Selection:
    """The examples of one store, divided.

    Attributes:
        train: indices of the examples to train on; one of weight 2 comes twice.
        held_out_rows: rows to evaluate on, in order; None unless a share is held out.
        evaluation: indices of the examples of those rows.
        bins: which of `train` stand together in a packed row; None without packing.
    """

    train: np.ndarray
    held_out_rows: np.ndarray | None
    evaluation: np.ndarray | None
    bins: list[list[int]] | None

    @property
    def num_items(self) -> int:
        """Items of an epoch: examples, or packed rows."""
        return len(self.train) if self.bins is None else len(self.bins)


def select(config: RunConfig, parts: Sequence[Part], store: ExampleStore) -> Selection:
    """Divide the examples of a store.

    Args:
        config: the run.
        parts: the sources, whose rows the store has one behind the other.
        store: the examples.
    """
    data, training = config.data, config.training
    num_rows = int(store.meta["num_rows"])
    is_held_out = np.zeros(num_rows, dtype=bool)
    held_out_rows = evaluation = None
    if isinstance(data.eval_split, float):
        seed = training.seed if training.data_seed is None else training.data_seed
        is_held_out[_share(num_rows, data.eval_split, seed, data.shuffle)] = True
        held_out_rows = np.flatnonzero(is_held_out)
        evaluation = np.flatnonzero(is_held_out[store.rows])
    train = _weighted(parts, store, is_held_out)
    lengths = store.example_lengths[train].tolist()
    bins = pack(lengths, data.max_length, training.seed) if data.packing else None
    return Selection(train, held_out_rows, evaluation, bins)


def items_of(store: ExampleStore, selection: Selection) -> Examples | PackedExamples:
    """What is trained on, item by item."""
    examples = Examples(store, selection.train)
    return examples if selection.bins is None else PackedExamples(examples, selection.bins)


def _share(num_rows: int, share: float, seed: int, shuffle: bool) -> np.ndarray:
    """Rows to evaluate on: drawn at random, or the last ones."""
    count = max(1, round(num_rows * share))
    order = np.random.default_rng(seed).permutation(num_rows) if shuffle else np.arange(num_rows)
    return order[num_rows - count :]


def _weighted(parts: Sequence[Part], store: ExampleStore, is_held_out: np.ndarray) -> np.ndarray:
    """Indices of the examples to train on, each as often as the weight of its source says."""
    chosen = [np.zeros(0, dtype=np.int64)]
    first = 0
    for part, count in zip(parts, store.meta[PART_ROWS], strict=True):
        last = first + count
        own = np.flatnonzero((store.rows >= first) & (store.rows < last) & ~is_held_out[store.rows])
        whole, rest = divmod(part.weight, 1.0)
        chosen.extend([own] * int(whole))
        if rest:
            chosen.append(own[np.floor(np.arange(round(len(own) * rest)) / rest).astype(np.int64)])
        first = last
    return np.concatenate(chosen)
