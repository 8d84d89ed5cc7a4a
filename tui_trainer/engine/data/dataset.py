"""What the trainer draws its batches from: examples in an order, or packed; map-style, without torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tui_trainer.engine.data.packing import packed_row
from tui_trainer.engine.data.store import ExampleStore


class Examples:
    """Examples of a store, chosen by index; an index may occur more than once.

    Args:
        store: the examples.
        indices: which of them, in order.
    """

    def __init__(self, store: ExampleStore, indices: np.ndarray) -> None:
        self._store = store
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """`input_ids` and `labels`, int64, shape (num_tokens,)."""
        return self._store[int(self.indices[index])]

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each example."""
        lengths: np.ndarray = self._store.example_lengths[self.indices]
        return lengths

    def rows(self, index: int) -> list[int]:
        """The rows of the data an example comes from."""
        return [int(self._store.rows[self.indices[index]])]


class PackedExamples:
    """Several examples in one row of tokens.

    Args:
        examples: what is packed.
        bins: which of them stand together.
    """

    def __init__(self, examples: Examples, bins: Sequence[Sequence[int]]) -> None:
        self._examples = examples
        self._bins = bins

    def __len__(self) -> int:
        return len(self._bins)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """`input_ids`, `labels` and `position_ids`, int64, shape (num_tokens,)."""
        return packed_row([self._examples[member] for member in self._bins[index]])

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each packed row."""
        single = self._examples.lengths
        return np.array([single[list(members)].sum() for members in self._bins], dtype=np.int64)

    def rows(self, index: int) -> list[int]:
        """The rows of the data a packed row comes from."""
        return [row for member in self._bins[index] for row in self._examples.rows(member)]
