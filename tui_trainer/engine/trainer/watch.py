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

_MANY_SKIPPED = 5
"""Updates skipped in a row that are too many; the search for a scale needs one or two."""


class LossWatch:
    """Finds the step at which the loss stops being a finite number.

    Args:
        is_deferred: read each loss one step late.

    Attributes:
        bad_steps: steps without a finite loss of which not everybody knows yet.
        num_bad: how many such steps there were in a row until now.
    """

    def __init__(self, *, is_deferred: bool) -> None:
        self._is_deferred = is_deferred
        self._sum: torch.Tensor | None = None
        self._unread: tuple[int, torch.Tensor] | None = None
        self.bad_steps: list[int] = []
        self.num_bad = 0

    def add(self, loss: torch.Tensor) -> None:
        """Take in the loss of one batch of the step in hand."""
        self._sum = loss if self._sum is None else self._sum + loss

    def end_step(self, step: int, *, is_last: bool = False) -> None:
        """Close a step, and look at it or at the one before; at the last step of a run at both."""
        unread, self._unread = self._unread, (step, self._sum) if self._sum is not None else None
        self._sum = None
        self._look(unread)
        if is_last or not self._is_deferred:
            self.is_bad()

    def is_bad(self) -> bool:
        """Whether the last step's loss was no finite number."""
        unread, self._unread = self._unread, None
        self._look(unread)
        return self.num_bad > 0

    def was_told(self) -> None:
        """Take note that everybody knows of `bad_steps`."""
        self.bad_steps = []

    def _look(self, unread: tuple[int, torch.Tensor] | None) -> None:
        if unread is None:
            return
        step, loss = unread
        if torch.isfinite(loss).item():
            self.num_bad = 0
        else:
            self.bad_steps.append(step)
            self.num_bad += 1


class Window:
    """Steps, tokens and seconds since the last log entry, without the time for evaluating, saving and pauses."""

    def __init__(self) -> None:
        self._mark = time.monotonic()
        self._seconds = 0.0
        self._waited = 0.0
        self.num_steps = 0
        self._num_tokens: int | torch.Tensor = 0

    def add_tokens(self, count: int | torch.Tensor) -> None:
        """Count the tokens of one batch of this rank."""
        self._num_tokens = self._num_tokens + count

    def add_waiting(self, seconds: float) -> None:
        """Count time in which the rows of a batch were waited for."""
        self._waited += seconds

    def take_waiting(self) -> float:
        """Seconds waited since the last call."""
        waited, self._waited = self._waited, 0.0
        return waited

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


class OverflowWatch:
    """Counts the updates that float16 makes impossible: gradients too large for it, for which a step is skipped.

    A few are normal, that is how the loss scale is found; many in a row are not.

    Args:
        events: where that is reported.
    """

    def __init__(self, events: EventLog) -> None:
        self._events = events
        self._num_skipped = 0

    def end_step(self, step: int, *, is_skipped: bool) -> None:
        """Take in whether the update of a step was skipped."""
        self._num_skipped = self._num_skipped + 1 if is_skipped else 0
        if self._num_skipped == _MANY_SKIPPED:
            self._events.write(
                Alert(
                    step=step,
                    kind="fp16_overflow",
                    message=f"{_MANY_SKIPPED} updates in a row were skipped: the gradients overflow in float16",
                    remedy="Lower the learning rate; on a GPU that has it, train with bf16 instead.",
                ),
                durable=True,
            )


def peak_memory(device: torch.device) -> int:
    """Largest memory this process used so far, in bytes: of the GPU if it computes on one, else its resident set."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
