"""SIGTERM to a rank: a scheduler, an operator or the last rung but one of the stop ladder wants it to end.

Installed by `engine.train` before anything heavy is loaded, asked by `engine.trainer.mailbox` between steps.
"""

from __future__ import annotations

import signal
from types import FrameType

from tui_trainer.errors import CancelledError


class Termination:
    """SIGTERM: remembered while training, so that the step in hand is finished and saved; before, it ends at once.

    A second signal ends at once too, by its default action.
    """

    def __init__(self) -> None:
        self.is_requested = False
        self.is_training = False

    def install(self) -> None:
        """Take over the signal."""
        signal.signal(signal.SIGTERM, self._on_signal)

    def _on_signal(self, _: int, __: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self.is_requested = True
        if not self.is_training:
            raise CancelledError("the run was stopped before its first step")
