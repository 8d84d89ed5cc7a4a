"""What is looked at after every step: whether the loss is still a number, how long a step takes, how many tokens.

On a GPU a loss is read one step late, when it is there without waiting; it is reported with the step it belongs to.
Called by `engine.trainer.trainer` on all ranks.
"""

from __future__ import annotations

import resource
import time

import torch

from tui_trainer.engine.trainer.journal import EventLog
from tui_trainer.runs.events import Alert

_HOPELESS_AFTER = 3
"""Steps in a row without a finite loss after which the run gives up."""


class LossWatch:
    """Finds the step at which the loss stops being a finite number.

    Args:
        events: where that is reported.
        is_deferred: read each loss one step late.
    """

    def __init__(self, events: EventLog, *, is_deferred: bool) -> None:
        self._events = events
        self._is_deferred = is_deferred
        self._sum: torch.Tensor | None = None
        self._unread: tuple[int, torch.Tensor] | None = None
        self._num_bad = 0

    @property
    def is_hopeless(self) -> bool:
        """Whether the loss was no number for so many steps that the weights are lost."""
        return self._num_bad >= _HOPELESS_AFTER

    def add(self, loss: torch.Tensor) -> None:
        """Take in the loss of one batch of the step in hand."""
        self._sum = loss if self._sum is None else self._sum + loss

    def end_step(self, step: int) -> None:
        """Close a step, and look at it or at the one before."""
        unread, self._unread = self._unread, (step, self._sum) if self._sum is not None else None
        self._sum = None
        self._look(unread)
        if not self._is_deferred:
            self.is_bad()

    def is_bad(self) -> bool:
        """Whether the last step's loss was no finite number."""
        unread, self._unread = self._unread, None
        self._look(unread)
        return self._num_bad > 0

    def _look(self, unread: tuple[int, torch.Tensor] | None) -> None:
        if unread is None:
            return
        step, loss = unread
        if torch.isfinite(loss).item():
            self._num_bad = 0
            return
        self._num_bad += 1
        if self._num_bad == 1:
            self._events.write(
                Alert(
                    step=step,
                    kind="nan",
                    message=f"the loss of step {step} is {_word(loss)}",
                    remedy="Lower the learning rate; look at the rows of this step. Checkpoints are not overwritten.",
                ),
                durable=True,
            )


def _word(loss: torch.Tensor) -> str:
    return "not a number (NaN)" if torch.isnan(loss).item() else "infinite"


class Window:
    """Steps, tokens and seconds since the last log entry, without the time for evaluating, saving and pauses."""

    def __init__(self) -> None:
        self._mark = time.monotonic()
        self._seconds = 0.0
        self.num_steps = 0
        self._num_tokens: int | torch.Tensor = 0

    def add_tokens(self, count: int | torch.Tensor) -> None:
        """Count the tokens of one batch of this rank."""
        self._num_tokens = self._num_tokens + count

    def end_step(self) -> None:
        """Close a step."""
        self._seconds += time.monotonic() - self._mark
        self._mark = time.monotonic()
        self.num_steps += 1

    def restart_clock(self) -> None:
        """Leave out the time since the last step."""
        self._mark = time.monotonic()

    def take_tokens(self) -> int:
        """The tokens of this rank since the last call."""
        count, self._num_tokens = int(self._num_tokens), 0
        return count

    def take_time(self) -> tuple[int, float]:
        """Steps and seconds since the last call."""
        taken = self.num_steps, self._seconds
        self.num_steps, self._seconds = 0, 0.0
        return taken


def peak_memory(device: torch.device) -> int:
    """Largest memory this process used so far, in bytes: of the GPU if it computes on one, else its resident set."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
