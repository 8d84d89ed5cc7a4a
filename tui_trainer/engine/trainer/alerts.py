"""What should worry the user of a run, found in the numbers that are logged anyway. Rank 0 tells it."""

from __future__ import annotations

import math
import shutil
import time
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from typing_extensions import override

from tui_trainer.engine.trainer.checkpoint import Checkpoints
from tui_trainer.engine.trainer.journal import EventLog
from tui_trainer.runs.events import Alert
from tui_trainer.runs.layout import RunLayout
from tui_trainer.units import size

_EXPLOSION = 10.0
"""Times the usual gradient norm that counts as an explosion."""

_SPIKE = 0.5
"""How much the loss has to rise; when it is near zero a row may be many times the usual and mean nothing."""

_FAR = 6.0
"""Usual deviations above the usual value that count as far."""

_PAST = 0.95
"""Weight of the past in what is usual: about the last twenty entries."""

_QUIET_STEPS = {"slow_data": 1000, "memory": 1000}
"""Steps without the same alert again, where it is not 50."""

_WARM_UP = 20
_SLOW_SHARE = 0.3
_FULL_SHARE = 0.95
_LOOK_SECONDS = 30.0
_SMALL_DISK = 500_000_000


class _Usual:
    """The running mean of a number and its running deviation, on which a single outlier has little influence."""

    def __init__(self) -> None:
        self.num = 0
        self.mean = 0.0
        self.deviation = 0.0

    def add(self, value: float) -> None:
        """Take in a value; one that is not finite is left out."""
        if not math.isfinite(value):
            return
        self.num += 1
        if self.num > _WARM_UP:
            value = min(value, self.mean + _FAR * self.deviation)
        weight = max(1 / self.num, 1 - _PAST)
        self.deviation += weight * (abs(value - self.mean) - self.deviation) if self.num > 1 else 0.0
        self.mean += weight * (value - self.mean)

    def is_far_above(self, value: float, times: float) -> bool:
        """Whether a value is so many times the usual one, and more than chance explains."""
        is_known = self.num >= _WARM_UP and math.isfinite(value)
        return is_known and value > times * self.mean and value > self.mean + _FAR * self.deviation


def gpu_memory(device: torch.device) -> tuple[int, int] | None:
    """The most memory this process held at once and all there is, in bytes; None without a GPU."""
    if device.type != "cuda":
        return None
    return torch.cuda.max_memory_reserved(device), torch.cuda.get_device_properties(device).total_memory


class RunAlerts(TrainerCallback):
    """Writes an alert when a number looks wrong.

    A loss of exactly zero or far above the usual, an exploding gradient, a learning rate of zero, rows that come
    slowly, a disk or a GPU's memory that fill up.

    Args:
        events: where they go.
        layout: the run, on whose disk checkpoints are written.
        checkpoints: knows how large one is.
    """

    def __init__(self, events: EventLog, layout: RunLayout, checkpoints: Checkpoints) -> None:
        self._events = events
        self._layout = layout
        self._checkpoints = checkpoints
        self._losses = _Usual()
        self._norms = _Usual()
        self._waits = _Usual()
        self._was_rate_zero = False
        self._quiet_until: dict[str, int] = {}
        self._next_look = 0.0
        self._is_disk_small = False

    @override
    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Look at the numbers of the steps since the last entry."""
        if not logs or "loss" not in logs:
            return
        step = state.global_step
        self._look_at_loss(step, float(logs["loss"]))
        if (norm := logs.get("grad_norm")) is not None:
            self._look_at_gradient(step, float(norm))
        if (rate := logs.get("learning_rate")) is not None:
            self._look_at_rate(step, float(rate))
        if logs.get("step_seconds") and "data_seconds" in logs:
            self._look_at_waiting(step, float(logs["data_seconds"]), float(logs["step_seconds"]))

    def _look_at_loss(self, step: int, loss: float) -> None:
        if loss == 0.0:
            self._alert(
                step,
                "zero_loss",
                "the loss is exactly 0: no token of these rows is trained",
                "Look at the mask on the Data screen: the answers may be cut off by data.max_length.",
            )
        elif self._losses.is_far_above(loss, 1.5) and loss > self._losses.mean + _SPIKE:
            self._alert(
                step,
                "loss_spike",
                f"the loss {loss:.3g} of step {step} is far above the usual {self._losses.mean:.3g}",
                "One is often a hard row; if it stays up, lower the learning rate or go back to a checkpoint.",
            )
        self._losses.add(loss)

    def _look_at_gradient(self, step: int, norm: float) -> None:
        if not math.isfinite(norm):
            self._alert(
                step,
                "nan_gradient",
                f"the gradient of step {step} is not finite",
                "In float16 a few of these are normal: the step is skipped. Otherwise lower the learning rate.",
            )
        elif self._norms.is_far_above(norm, _EXPLOSION):
            self._alert(
                step,
                "gradient_explosion",
                f"the gradient norm {norm:.3g} of step {step} is {norm / self._norms.mean:.0f} times the usual",
                "Lower the learning rate or training.max_grad_norm; look at the rows of this step.",
            )
        self._norms.add(norm)

    def _look_at_rate(self, step: int, rate: float) -> None:
        # the first step of a warm-up has the rate 0
        if rate == 0.0 and self._was_rate_zero:
            self._alert(
                step,
                "zero_rate",
                "the learning rate is 0: nothing is learned any more",
                "The schedule is at its end: stop, raise the rate, or set a new max_steps with the schedule stretched.",
            )
        self._was_rate_zero = rate == 0.0

    def _look_at_waiting(self, step: int, data_seconds: float, step_seconds: float) -> None:
        self._waits.add(data_seconds / step_seconds)
        if self._waits.num > _WARM_UP and self._waits.mean > _SLOW_SHARE:
            self._alert(
                step,
                "slow_data",
                f"{self._waits.mean:.0%} of the time goes into waiting for rows",
                "Set training.dataloader_num_workers to 2 or more, or prepare the data once on a faster disk.",
            )

    @override
    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Look at disk and memory, now and then."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + _LOOK_SECONDS
        self._look_at_disk(state.global_step)
        self._look_at_memory(state.global_step, args.device)

    def _look_at_disk(self, step: int) -> None:
        needed = max(2 * self._checkpoints.expected_bytes, _SMALL_DISK)
        free = shutil.disk_usage(self._layout.root).free
        was_small, self._is_disk_small = self._is_disk_small, free < needed
        if self._is_disk_small and not was_small:
            self._alert(
                step,
                "disk",
                f"the disk has only {size(free)} left; a checkpoint needs {size(self._checkpoints.expected_bytes)}",
                "Free space, or keep fewer checkpoints with training.save_total_limit.",
            )

    def _look_at_memory(self, step: int, device: torch.device) -> None:
        reading = gpu_memory(device)
        if reading is not None and reading[0] > _FULL_SHARE * reading[1]:
            self._alert(
                step,
                "memory",
                f"{size(reading[0])} of the {size(reading[1])} of the GPU's memory were in use at once",
                "A longer row may not fit: lower per_device_train_batch_size or data.max_length for the next start.",
            )

    def _alert(self, step: int, kind: str, message: str, remedy: str) -> None:
        if step >= self._quiet_until.get(kind, 0):
            self._quiet_until[kind] = step + _QUIET_STEPS.get(kind, 50)
            self._events.write(Alert(step=step, kind=kind, message=message, remedy=remedy))
