"""Running tokens through a model, with keys and values that are kept from one answer to the next.

A conversation grows at its end: what was run for the last turn need not be run again. The runner keeps one cache and
the tokens it holds, and on a new prompt runs only what differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from tui_trainer.engine.generate.forward.interface import Adapters, Forward, KeyValues

_CHUNK = 512
"""Tokens of a prompt run at once; between chunks a cancellation is noticed."""


class Runner:
    """Owns the cache of a model.

    Args:
        forward: runs tokens.
        adapter: the adapter they go through; empty: the model as it stands.
    """

    def __init__(self, forward: Forward, adapter: str = "") -> None:
        self.forward = forward
        self.adapter = adapter
        self.without_gradients = forward.without_gradients
        self.device = forward.device
        self._held: list[int] = []
        self._cache: KeyValues | None = None

    @property
    def adapters(self) -> Adapters:
        """The adapter of a single row."""
        return (self.adapter,) if self.adapter else ()

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
        if not self.forward.keeps_cache:
            rows = Rows(self.forward, None, self.adapters, history=self._tensor(ids))
            return self.forward.last_logits(self._tensor(ids), None, self.adapters), rows, 0
        reused = self._align(ids)
        logits = None
        try:
            step = _CHUNK if self.forward.takes_parts else len(ids)
            for start in range(reused, len(ids), step):
                check()
                chunk = list(ids[start : start + step])
                logits = self.forward.last_logits(self._tensor(chunk), self._cache, self.adapters)
                self._held.extend(chunk)
        except BaseException:
            self.forget()
            raise
        assert logits is not None
        return logits, Rows(self.forward, self._cache, self.adapters, owner=self, held=self._held), reused

    def all_logits(
        self, ids: Sequence[int], chunk: int, check: Callable[[], None] = lambda: None, *, start: int = 0
    ) -> Iterator[tuple[int, Tensor]]:
        """The logits after the tokens of a text from `start` on, a chunk at a time, in a cache of its own.

        Yields:
            The position of the chunk's first token, and the logits after its tokens [chunk, vocabulary] in float32.
        """
        cache = self.forward.new_cache() if self.forward.keeps_cache else None
        if not self.forward.takes_parts:
            check()
            logits = self.forward.all_logits(self._tensor(ids), cache, self.adapters)[0, start:]
            for place in range(0, len(logits), chunk):
                yield start + place, logits[place : place + chunk]
            return
        for begin in range(0, start, _CHUNK):
            check()
            self.forward.last_logits(self._tensor(ids[begin : min(begin + _CHUNK, start)]), cache, self.adapters)
        for begin in range(start, len(ids), chunk):
            check()
            yield begin, self.forward.all_logits(self._tensor(ids[begin : begin + chunk]), cache, self.adapters)[0]

    def _tensor(self, ids: Sequence[int]) -> Tensor:
        return torch.tensor([list(ids)], device=self.device)

    def _align(self, ids: Sequence[int]) -> int:
        """Bring the cache to the longest beginning that it shares with a prompt; returns its length.

        At least the prompt's last token is left to run, since the logits after it are wanted.
        """
        shared = 0
        while shared < min(len(self._held), len(ids) - 1) and self._held[shared] == ids[shared]:
            shared += 1
        surplus = len(self._held) - shared
        can_go_on = self.forward.takes_parts and (surplus == 0 or (self._cache is not None and self._cache.can_crop))
        if self._cache is None or shared == 0 or not can_go_on:
            self._held, self._cache = [], self.forward.new_cache()
            return 0
        if surplus:
            self._cache.crop(shared)
            del self._held[shared:]
        return shared


class Rows:
    """One or several answers that go on from prompts of the same length.

    Args:
        forward: runs the tokens.
        cache: keys and values; None if the model keeps none, in which case every step runs all tokens.
        adapters: the adapter of each row; empty if none is named.
        history: all tokens [rows, length], where there is no cache.
        owner: whose cache it is, if a single row writes into a runner's own.
        held: list that records what it puts there.
    """

    def __init__(
        self,
        forward: Forward,
        cache: KeyValues | None,
        adapters: Adapters,
        *,
        history: Tensor | None = None,
        owner: Runner | None = None,
        held: list[int] | None = None,
    ) -> None:
        self._forward = forward
        self._cache = cache
        self._adapters = tuple(adapters)
        self._history = history
        self._owner = owner
        self._held = held

    def repeated(self, count: int) -> Rows:
        """`count` rows in place of one; the runner's cache stays as it is."""
        adapters = self._adapters * count
        if self._cache is None:
            assert self._history is not None
            return Rows(self._forward, None, adapters, history=self._history.repeat(count, 1))
        return Rows(self._forward, self._cache.repeated(count), adapters)

    def joined(self, other: Rows) -> Rows:
        """The rows of two that go on from prompts of the same length, with one forward pass."""
        adapters = (*self._adapters, *other._adapters)
        if self._cache is None:
            assert self._history is not None
            assert other._history is not None
            return Rows(self._forward, None, adapters, history=torch.cat([self._history, other._history]))
        return Rows(self._forward, self._cache.joined([other._cache]), adapters)

    def step(self, tokens: Tensor) -> Tensor:
        """Add one token to each row, [rows]; returns the logits after it, [rows, vocabulary] in float32."""
        tokens = tokens[:, None]
        if self._cache is None:
            assert self._history is not None
            self._history = tokens = torch.cat([self._history, tokens], dim=1)
        try:
            logits = self._forward.last_logits(tokens, self._cache, self._adapters)
        except BaseException:
            if self._owner is not None:
                self._owner.forget()
            raise
        if self._held is not None:
            self._held.append(int(tokens[0, 0]))
        return logits

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only."""
        if self._adapters:
            self._adapters = tuple(self._adapters[row] for row in rows)
        if self._cache is not None:
            self._cache.keep(rows)
        elif self._history is not None:
            self._history = self._history[torch.tensor(list(rows), device=self._forward.device)]
