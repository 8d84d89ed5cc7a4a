"""SIGTERM to a rank: a scheduler, an operator or the last rung but one of the stop ladder wants it to end.

Installed by `engine.train` before anything heavy is loaded, asked by `engine.trainer.mailbox` between steps.
"""

from __future__ import annotations

import os
import signal
import time
from types import FrameType

from tui_trainer.errors import CancelledError

ECHO_SECONDS = 10.0
"""How long after the first signal another one counts as the same."""


class Termination:
    """SIGTERM: remembered while training, so that the step in hand is finished and saved; before, it ends at once.

    A second signal ends at once too, by its default action; but not one that comes within seconds. Whoever ends a whole
    machine or job signals launcher and ranks together, and the launcher hands its own signal on.
    """

    def __init__(self) -> None:
        self.is_requested = False
        self.is_training = False
        self._first: float | None = None

    def install(self) -> None:
        """Take over the signal."""
        signal.signal(signal.SIGTERM, self._on_signal)

    def _on_signal(self, _: int, __: FrameType | None) -> None:
        now = time.monotonic()
        if self._first is not None and now - self._first < ECHO_SECONDS:
            return
        if self._first is not None:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTERM)
        self._first = now
        self.is_requested = True
        if not self.is_training:
            raise CancelledError("the run was stopped before its first step")
