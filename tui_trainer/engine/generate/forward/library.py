"""The forward pass of `transformers`, with its growing cache: works with every causal language model."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

from tui_trainer.engine.generate.forward.interface import Adapters
from tui_trainer.engine.models.adapter import base_of


def cache_name(model: Any) -> str | None:
    """The argument by which a model takes its key-value cache; None if it has none.

    `cache` since transformers 5.24, `past_key_values` before, `cache_params` in models with a state.
    """
    accepted = inspect.signature(model.forward).parameters
    return next((name for name in ("cache", "past_key_values", "cache_params") if name in accepted), None)


class LibraryForward:
    """Runs tokens as the library does.

    Args:
        model: a causal language model, or a PEFT model around one; in evaluation mode.
        is_in_training: the model is being trained at the same time, and put into evaluation mode for this
            (`batch.evaluating`): torch's inference mode, a tenth faster, would leave tensors behind that gradients
            cannot pass through.
    """

    kind = "library"

    def __init__(self, model: Any, *, is_in_training: bool = False) -> None:
        self.model = model
        self.without_gradients: Callable[[], AbstractContextManager[Any]] = (
            torch.no_grad if is_in_training else torch.inference_mode
        )
        self.device: torch.device = model.device
        base = base_of(model)
        accepted = inspect.signature(base.forward).parameters
        self._cache_name = cache_name(base)
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}
        self.keeps_cache = self._cache_name is not None
        self.takes_parts = self.keeps_cache and not getattr(base, "_is_stateful", False)

    def new_cache(self) -> LibraryKeyValues:
        """An empty cache."""
        return LibraryKeyValues(DynamicCache(config=self.model.config))

    def last_logits(self, input_ids: Tensor, cache: Any, adapters: Adapters = ()) -> Tensor:
        """See `Forward`."""
        return self._run(input_ids, cache, adapters, **self._last_only)[:, -1].float()

    def all_logits(self, input_ids: Tensor, cache: Any, adapters: Adapters = ()) -> Tensor:
        """See `Forward`."""
        return self._run(input_ids, cache, adapters).float()

    def refresh(self) -> None:
        """Nothing is kept of the weights."""

    def _run(self, input_ids: Tensor, cache: LibraryKeyValues | None, adapters: Adapters, **arguments: Any) -> Tensor:
        if self._cache_name and cache is not None:
            arguments |= {self._cache_name: cache.cache, "use_cache": True}
        if adapters:
            arguments["adapter_names"] = list(adapters)
        with self.without_gradients():
            logits: Tensor = self.model(input_ids=input_ids, **arguments).logits
            # weights that are kept in main memory compute elsewhere than they are (FSDP's cpu_offload)
            return logits.to(self.device)


class LibraryKeyValues:
    """A cache of `transformers`."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache

    @property
    def can_crop(self) -> bool:
        """Whether tokens can be taken off the end: not from windows that have moved on."""
        for each in self.cache.layers:
            layer: Any = each
            if getattr(layer, "is_sliding", False) and layer.get_seq_length() >= layer.get_max_length():
                return False
        return True

    def crop(self, length: int) -> None:
        """Keep the first `length` tokens."""
        self.cache.crop(length - self.cache.get_seq_length())

    def joined(self, others: Sequence[Any]) -> LibraryKeyValues:
        """The rows of several, one after the other."""
        joined = self.repeated(1 + len(others))
        for place, each in enumerate(joined.cache.layers):
            layer: Any = each
            parts: list[Any] = [other.cache.layers[place] for other in (self, *others)]
            layer.keys = torch.cat([part.keys for part in parts])
            layer.values = torch.cat([part.values for part in parts])
        return joined

    def repeated(self, count: int) -> LibraryKeyValues:
        """`count` rows in place of one. Plain layers replace their tensors when they grow, so theirs can be shared."""
        branch = copy.copy(self.cache)
        branch.layers = [
            copy.copy(layer) if type(layer) is DynamicLayer else copy.deepcopy(layer) for layer in self.cache.layers
        ]
        repeated = LibraryKeyValues(branch)
        repeated.keep([0] * count)
        return repeated

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only; a row may be named several times. Every kind of layer can that."""
        cache: Any = self.cache
        device = next((layer.keys.device for layer in cache.layers if getattr(layer, "keys", None) is not None), None)
        cache.reorder_cache(torch.tensor(list(rows), device=device))
