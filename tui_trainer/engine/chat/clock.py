"""When the first token of an answer came and how fast the others followed."""

from __future__ import annotations

import time


class Clock:
    """Counts tokens as they come.

    Args:
        started: `time.perf_counter()` when the question was asked.
    """

    def __init__(self, started: float) -> None:
        self._started = started
        self._first: float | None = None
        self._last = started
        self.num_tokens = 0

    def restart(self) -> None:
        """The question's turn has come only now."""
        self._started = self._last = time.perf_counter()

    def tick(self) -> None:
        """A token has come."""
        self._last = time.perf_counter()
        self._first = self._first or self._last
        self.num_tokens += 1

    @property
    def seconds_to_first(self) -> float | None:
        """Seconds to the first token, None if none came."""
        return None if self._first is None else self._first - self._started

    def tokens_per_second(self, num_rows: int) -> float | None:
        """Tokens of all answers in a second, without the prompt and the first token of each."""
        if self._first is None:
            return None
        later, seconds = self.num_tokens - num_rows, self._last - self._first
        if later > 0 and seconds > 0:
            return later / seconds
        return self.num_tokens / max(self._last - self._started, 1e-9)
