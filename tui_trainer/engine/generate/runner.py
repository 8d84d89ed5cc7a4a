"""Running tokens through a model, with keys and values that are kept from one answer to the next.

A conversation grows at its end: what was run for the last turn need not be run again. The runner keeps one cache and
the tokens it holds, and on a new prompt runs only what differs.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

_CHUNK = 512
"""Tokens of a prompt run at once; between chunks a cancellation is noticed."""


class Runner:
    """Owns the cache of a model.

    Args:
        model: a causal language model, or a PEFT model around one; in evaluation mode.
        is_in_training: the model is being trained: torch's inference mode, a tenth faster, would leave tensors behind
            that gradients cannot pass through.
    """

    def __init__(self, model: Any, *, is_in_training: bool = False) -> None:
        self.model = model
        self.without_gradients: Callable[[], AbstractContextManager[Any]] = (
            torch.no_grad if is_in_training else torch.inference_mode
        )
        self.device: torch.device = model.device
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        accepted = inspect.signature(base.forward).parameters
        names = [name for name in ("past_key_values", "cache_params") if name in accepted]
        self._cache_name: str | None = names[0] if names else None
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}
        # a recurrent state (Mamba and its kin) takes one token or a whole prompt, but not the second half of one
        self._takes_parts = self._cache_name is not None and not getattr(base, "_is_stateful", False)
        self._held: list[int] = []
        self._cache: Cache | None = None

    def forget(self) -> None:
        """Drop the cache: the weights have changed, or it may be broken."""
        self._held, self._cache = [], None

    def prefill(self, ids: Sequence[int], check: Callable[[], None] = lambda: None) -> tuple[Tensor, Rows, int]:
        """Run a prompt.

        Args:
            ids: the prompt, at least one token.
            check: called between chunks; what it raises ends the run.

        Returns:
            The logits after the prompt [1, vocabulary] in float32; the row to go on with; how many tokens of the prompt
            were in the cache.
        """
        if self._cache_name is None:
            rows = Rows(self, None, torch.tensor([list(ids)], device=self.device))
            return self.run(rows.history, None), rows, 0
        reused = self._align(ids)
        logits = None
        try:
            step = _CHUNK if self._takes_parts else len(ids)
            for start in range(reused, len(ids), step):
                check()
                chunk = list(ids[start : start + step])
                logits = self.run(torch.tensor([chunk], device=self.device), self._cache)
                self._held.extend(chunk)
        except BaseException:
            self.forget()
            raise
        assert logits is not None
        return logits, Rows(self, self._cache, None, self._held), reused

    def run(self, input_ids: Tensor | None, cache: Cache | None) -> Tensor:
        """The logits after the last of the given tokens, [rows, vocabulary] in float32."""
        return self._forward(input_ids, cache, **self._last_only)[:, -1].float()

    def all_logits(
        self, ids: Sequence[int], chunk: int, check: Callable[[], None] = lambda: None, *, start: int = 0
    ) -> Iterator[tuple[int, Tensor]]:
        """The logits after the tokens of a text from `start` on, a chunk at a time, in a cache of its own.

        Yields:
            The position of the chunk's first token, and the logits after its tokens [chunk, vocabulary] in float32.
        """
        cache = DynamicCache(config=self.model.config) if self._cache_name else None
        if not self._takes_parts:
            check()
            logits = self._forward(torch.tensor([list(ids)], device=self.device), cache)[0, start:]
            for place in range(0, len(logits), chunk):
                yield start + place, logits[place : place + chunk].float()
            return
        for begin in range(0, start, _CHUNK):
            check()
            self.run(torch.tensor([list(ids[begin : min(begin + _CHUNK, start)])], device=self.device), cache)
        for begin in range(start, len(ids), chunk):
            check()
            input_ids = torch.tensor([list(ids[begin : begin + chunk])], device=self.device)
            yield begin, self._forward(input_ids, cache)[0].float()

    def _forward(self, input_ids: Tensor | None, cache: Cache | None, **arguments: Any) -> Tensor:
        if self._cache_name:
            arguments |= {self._cache_name: cache, "use_cache": True}
        with self.without_gradients():
            logits: Tensor = self.model(input_ids=input_ids, **arguments).logits
            return logits

    def _align(self, ids: Sequence[int]) -> int:
        """Bring the cache to the longest beginning that it shares with a prompt; returns its length.

        At least the prompt's last token is left to run, since the logits after it are wanted.
        """
        shared = 0
        while shared < min(len(self._held), len(ids) - 1) and self._held[shared] == ids[shared]:
            shared += 1
        surplus = len(self._held) - shared
        can_go_on = self._takes_parts and (surplus == 0 or (self._cache is not None and _can_crop(self._cache)))
        if self._cache is None or shared == 0 or not can_go_on:
            self._held, self._cache = [], DynamicCache(config=self.model.config)
            return 0
        if surplus:
            self._cache.crop(-surplus)
            del self._held[shared:]
        return shared


class Rows:
    """One or several answers that go on from the same prompt.

    Args:
        runner: runs the tokens.
        cache: keys and values; None if the model keeps none, in which case every step runs all tokens.
        history: all tokens [rows, length], where there is no cache.
        held: list that records what a single row puts into the runner's own cache.
    """

    def __init__(
        self, runner: Runner, cache: Cache | None, history: Tensor | None, held: list[int] | None = None
    ) -> None:
        self._runner = runner
        self._cache = cache
        self.history = history
        self._held = held

    def repeated(self, count: int) -> Rows:
        """`count` rows in place of one; the runner's cache stays as it is."""
        if self._cache is None:
            assert self.history is not None
            return Rows(self._runner, None, self.history.repeat(count, 1))
        cache = _branch(self._cache)
        _select(cache, torch.zeros(count, dtype=torch.long, device=self._runner.device))
        return Rows(self._runner, cache, None)

    def step(self, tokens: Tensor) -> Tensor:
        """Add one token to each row, [rows]; returns the logits after it, [rows, vocabulary] in float32."""
        tokens = tokens[:, None]
        if self._cache is None:
            assert self.history is not None
            self.history = tokens = torch.cat([self.history, tokens], dim=1)
        try:
            logits = self._runner.run(tokens, self._cache)
        except BaseException:
            self._runner.forget()
            raise
        if self._held is not None:
            self._held.append(int(tokens[0, 0]))
        return logits

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only."""
        index = torch.tensor(rows, device=self._runner.device)
        if self._cache is not None:
            _select(self._cache, index)
        elif self.history is not None:
            self.history = self.history[index]


def _can_crop(cache: Cache) -> bool:
    """Whether tokens can be taken off the end: not from windows that have moved on."""
    for each in cache.layers:
        layer: Any = each
        if getattr(layer, "is_sliding", False) and layer.get_seq_length() >= layer.get_max_length():
            return False
    return True


def _select(cache: Any, rows: Tensor) -> None:
    """Put the named rows of a cache in place of all; a row may be named several times. Every kind of layer can that."""
    cache.reorder_cache(rows)


def _branch(cache: Cache) -> Cache:
    """A cache with the same contents that can grow without touching the first.

    Plain layers replace their tensors when they grow, so theirs can be shared; others may write into them.
    """
    branch = copy.copy(cache)
    branch.layers = [
        copy.copy(layer) if type(layer) is DynamicLayer else copy.deepcopy(layer) for layer in cache.layers
    ]
    return branch
