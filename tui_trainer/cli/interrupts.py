"""ctrl+c, SIGTERM and SIGUSR1 as something a command asks for when it is ready, instead of what hits it anywhere."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Interrupts:
    """Counts interruptions while it is the context; children are not affected.

    Attributes:
        was_terminated: whether one of them came from a scheduler, so that nobody is there to be asked.
    """

    def __init__(self) -> None:
        self._num_pending = 0
        self._before: dict[int, Any] = {}
        self.was_terminated = False

    def __enter__(self) -> Interrupts:
        self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        self._num_pending += 1
        self.was_terminated |= number != signal.SIGINT

    @property
    def are_pending(self) -> bool:
        """Whether there was an interruption that nobody took."""
        return self._num_pending > 0

    def take(self) -> None:
        """Take all there were as one."""
        self._num_pending = 0
