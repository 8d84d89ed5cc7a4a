"""What a forward pass offers to `runner`, and the keys and values that it keeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor

Adapters = Sequence[str]
"""For each row the adapter it goes through, or `WITHOUT_ADAPTER`; empty: all rows go through the model as it stands."""


class KeyValues(Protocol):
    """Keys and values of the tokens that have been run, for one or several rows."""

    @property
    def can_crop(self) -> bool:
        """Whether tokens can be taken off the end."""

    def crop(self, length: int) -> None:
        """Keep the first `length` tokens."""

    def joined(self, others: Sequence[Any]) -> KeyValues:
        """The rows of several, one after the other, each of the same length; these stay as they are."""

    def repeated(self, count: int) -> KeyValues:
        """`count` rows in place of one; this one stays as it is."""

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only."""


class Forward(Protocol):
    """Runs tokens through a model.

    Attributes:
        model: the library's model.
        kind: library or fused.
        device: where it computes.
        keeps_cache: whether keys and values are kept; else every step runs all tokens.
        takes_parts: whether a text may be run in parts; a recurrent state takes one token or a whole prompt.
        without_gradients: the context in which its tokens are run, and all that is computed from its logits.
    """

    model: Any
    kind: str
    device: torch.device
    keeps_cache: bool
    takes_parts: bool
    without_gradients: Callable[[], AbstractContextManager[Any]]

    def new_cache(self) -> KeyValues:
        """An empty cache."""

    def last_logits(self, input_ids: Tensor, cache: KeyValues | None, adapters: Adapters = ()) -> Tensor:
        """Run tokens behind those in the cache.

        Args:
            input_ids: [rows, length].
            cache: what was run before; grows.
            adapters: of each row.

        Returns:
            The logits after the last token, [rows, vocabulary] in float32.
        """

    def all_logits(self, input_ids: Tensor, cache: KeyValues | None, adapters: Adapters = ()) -> Tensor:
        """The same with the logits after every token, [rows, length, vocabulary] float32."""

    def refresh(self) -> None:
        """Weights have changed, or adapters have come or gone."""
