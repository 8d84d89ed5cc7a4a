"""A chat that follows a run: each checkpoint that is published takes the place of the one before it."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from tui_trainer.errors import CancelledError, WorkbenchError
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.status import read_status
from tui_trainer.runs.store import list_checkpoints

POLL_SECONDS = 0.5

Swap = Callable[[str], Generator[dict[str, Any], None, dict[str, Any]]]
"""Puts a model into the slot that follows; yields how far it is, returns what the worker's `swap` returns."""


@dataclass
class Follower:
    """Looks for checkpoints of a run.

    Attributes:
        name: what the user calls the run.
        layout: the run.
        swap: puts one into the chat.
        wait: waits some seconds; raises `CancelledError` when nobody follows any more.
        step: the newest step that was looked at.
    """

    name: str
    layout: RunLayout
    swap: Swap
    wait: Callable[[float], None]
    step: int = -1

    def follow(self) -> Generator[dict[str, Any], None, dict[str, Any]]:
        """Follow until the run has ended and its last checkpoint is there.

        Yields:
            {"event": "waiting" | "swapped" | "skipped", "step", …} and how far a load is.

        Returns:
            {"event": "ended", "step", "reason"}.

        Raises:
            CancelledError: nobody follows any more.
        """
        is_told = False
        while True:
            status = read_status(self.layout)
            checkpoints = list_checkpoints(self.layout)
            if checkpoints and checkpoints[-1].step > self.step:
                self.step = checkpoints[-1].step
                yield from self._take(self.step)
                is_told = False
                continue
            if status.state.is_over:
                reason = f"the run is {status.state.value}"
                if self.step < 0:
                    reason += " and has no checkpoint"
                return {"event": "ended", "step": self.step if self.step >= 0 else None, "reason": reason}
            if not is_told:
                is_told = True
                yield {"event": "waiting", "step": self.step if self.step >= 0 else None, "run_step": status.step}
            self.wait(POLL_SECONDS)

    def _take(self, step: int) -> Generator[dict[str, Any], None, None]:
        try:
            described = yield from self.swap(f"{self.name}@{step}")
        except CancelledError:
            raise
        except WorkbenchError as error:
            # it may have been deleted to make room for the next, or the memory may be too small just now
            yield {"event": "skipped", "step": step, "note": str(error)}
            return
        yield {
            "event": "swapped",
            "step": step,
            "path": described["stamp"]["path"],
            "age_seconds": self._age(step),
            "seconds": described["seconds"],
            "how": described["how"],
            "device": described["device"],
            "note": described["note"],
        }

    def _age(self, step: int) -> float | None:
        try:
            return max(time.time() - self.layout.checkpoint(step).stat().st_mtime, 0.0)
        except OSError:
            return None
