"""What rank 0 tells of a run while it goes on: its start and its numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from typing_extensions import override

from tui_trainer.engine.trainer.feed import Feed
from tui_trainer.engine.trainer.journal import EventLog
from tui_trainer.runs.events import EvalMetrics, RunResumed, RunStarted, StepMetrics


class RunEvents(TrainerCallback):
    """Writes the events of a run.

    Args:
        events: where they go.
        facts: the fields of `RunStarted` that the trainer knows before it starts.
        feed: what hands out the rows, once the training begins; None where the library does.
        is_resumed: whether it goes on from a checkpoint.
        left_out: tells how many rows of a stream were of no use so far, None where nothing is streamed.
    """

    def __init__(
        self,
        events: EventLog,
        facts: dict[str, Any],
        feed: Callable[[], Feed | None],
        *,
        is_resumed: bool,
        left_out: Callable[[], int | None],
    ) -> None:
        self._events = events
        self._facts = facts
        self._feed = feed
        self._is_resumed = is_resumed
        self._left_out = left_out

    @override
    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Say that the first step is about to be made."""
        feed = self._feed()
        order = feed.order(args.gradient_accumulation_steps) if feed else None
        facts: dict[str, Any] = {
            "step": state.global_step,
            "row_order": order.to_dict() if order else None,
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
                data_seconds=_rounded(logs.get("data_seconds")),
                num_left_out=self._left_out(),
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


def _rounded(value: float | None, digits: int = 6) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, digits)
