"""What rank 0 tells of a run while it goes on: its start, its numbers, and what should worry its user."""

from __future__ import annotations

import math
import shutil
import time
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from typing_extensions import override

from tui_trainer.engine.trainer.checkpoint import Checkpoints
from tui_trainer.engine.trainer.journal import EventLog
from tui_trainer.runs.events import Alert, EvalMetrics, RunResumed, RunStarted, StepMetrics
from tui_trainer.runs.layout import RunLayout

_EXPLOSION = 10.0
"""Times the usual gradient norm that counts as an explosion."""

_QUIET_STEPS = 50
"""Steps without the same alert again."""

_WARM_UP = 20
_DISK_SECONDS = 30.0
_SMALL_DISK = 500_000_000


class RunEvents(TrainerCallback):
    """Writes the events of a run.

    Args:
        events: where they go.
        facts: the fields of `RunStarted` that the trainer knows before it starts.
        is_resumed: whether it goes on from a checkpoint.
    """

    def __init__(self, events: EventLog, facts: dict[str, Any], *, is_resumed: bool) -> None:
        self._events = events
        self._facts = facts
        self._is_resumed = is_resumed

    @override
    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Say that the first step is about to be made."""
        facts: dict[str, Any] = {
            "step": state.global_step,
            "max_steps": state.max_steps,
            "num_epochs": state.num_train_epochs,
            **self._facts,
        }
        started = RunStarted(**facts)
        if self._is_resumed:
            started = RunResumed(**facts, superseded_steps=max(self._events.reached - state.global_step, 0))
        self._events.write(started, durable=True)

    @override
    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Write the numbers of the steps since the last entry."""
        if not logs or "loss" not in logs:
            return
        self._events.write(
            StepMetrics(
                step=state.global_step,
                loss=logs["loss"],
                learning_rate=logs.get("learning_rate"),
                grad_norm=logs.get("grad_norm"),
                epoch=self._epoch(state),
                num_input_tokens=logs.get("num_input_tokens"),
                tokens_per_second=_rounded(logs.get("tokens_per_second"), 1),
                step_seconds=_rounded(logs.get("step_seconds")),
                memory_bytes=logs.get("memory_bytes"),
            )
        )

    @override
    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Write the result of an evaluation."""
        extra = {name: value for name, value in (metrics or {}).items() if name.startswith("eval_")}
        self._events.write(EvalMetrics(step=state.global_step, epoch=self._epoch(state), extra=extra))

    def _epoch(self, state: TrainerState) -> float | None:
        """Passes over the data; a stream has none that anyone knows of."""
        return None if self._facts["num_rows"] is None else _rounded(state.epoch)


class RunAlerts(TrainerCallback):
    """Alerts: a loss of exactly zero, an exploding gradient, a disk that fills up.

    Args:
        events: where they go.
        layout: the run, on whose disk checkpoints are written.
        checkpoints: knows how large one is.
    """

    def __init__(self, events: EventLog, layout: RunLayout, checkpoints: Checkpoints) -> None:
        self._events = events
        self._layout = layout
        self._checkpoints = checkpoints
        self._usual_norm: float | None = None
        self._num_norms = 0
        self._quiet_until: dict[str, int] = {}
        self._next_disk_look = 0.0
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
        """Look at loss and gradient."""
        if not logs or "loss" not in logs:
            return
        if logs["loss"] == 0.0:
            self._alert(
                state.global_step,
                "zero_loss",
                "the loss is exactly 0: no token of these rows is trained",
                "Look at the mask on the Data screen: the answers may be cut off by data.max_length.",
            )
        norm = logs.get("grad_norm")
        if norm is not None:
            self._look_at_gradient(state.global_step, float(norm))

    def _look_at_gradient(self, step: int, norm: float) -> None:
        if not math.isfinite(norm):
            self._alert(
                step,
                "nan_gradient",
                f"the gradient of step {step} is not finite",
                "In float16 a few of these are normal: the step is skipped. Otherwise lower the learning rate.",
            )
            return
        usual, self._num_norms = self._usual_norm, self._num_norms + 1
        if usual and self._num_norms > _WARM_UP and norm > _EXPLOSION * usual:
            self._alert(
                step,
                "gradient_explosion",
                f"the gradient norm {norm:.3g} of step {step} is {norm / usual:.0f} times the usual",
                "Lower the learning rate or training.max_grad_norm; look at the rows of this step.",
            )
        self._usual_norm = norm if usual is None else 0.95 * usual + 0.05 * min(norm, _EXPLOSION * usual)

    @override
    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Look at the disk, now and then."""
        if time.monotonic() < self._next_disk_look:
            return
        self._next_disk_look = time.monotonic() + _DISK_SECONDS
        needed = max(2 * self._checkpoints.expected_bytes, _SMALL_DISK)
        free = shutil.disk_usage(self._layout.root).free
        was_small, self._is_disk_small = self._is_disk_small, free < needed
        if self._is_disk_small and not was_small:
            self._alert(
                state.global_step,
                "disk",
                f"the disk has only {free / 1e9:.1f} GB left; a checkpoint needs "
                f"{self._checkpoints.expected_bytes / 1e9:.1f} GB",
                "Free space, or keep fewer checkpoints with training.save_total_limit.",
            )

    def _alert(self, step: int, kind: str, message: str, remedy: str) -> None:
        if step >= self._quiet_until.get(kind, 0):
            self._quiet_until[kind] = step + _QUIET_STEPS
            self._events.write(Alert(step=step, kind=kind, message=message, remedy=remedy))


def _rounded(value: float | None, digits: int = 6) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, digits)
