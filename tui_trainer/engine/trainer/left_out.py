"""Rows of a stream that are of no use: no verdict over the whole set can tell of them before, so the run does."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from typing_extensions import override

from tui_trainer.engine.data.prepare import PreparedData
from tui_trainer.engine.trainer.journal import EventLog
from tui_trainer.runs.events import Alert


class LeftOutRows(TrainerCallback):
    """Tells when the first row of a stream was left out, and at the end how many were.

    Args:
        data: the data of the run.
        events: where it is told.
    """

    def __init__(self, data: PreparedData, events: EventLog) -> None:
        self._data = data
        self._events = events
        self._told = 0

    @override
    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Tell of the first ones; from then on their number stands in the metrics of the steps."""
        if not self._told:
            self.tell(state.global_step, "so far")

    @override
    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Tell how many there were."""
        self.tell(state.global_step, "in all")

    def tell(self, step: int, scope: str) -> None:
        """Tell how many there are, if more than were told of."""
        count = self._data.num_left_out or 0
        if count > self._told:
            self._told = count
            found = "1 row of the stream was" if count == 1 else f"{count:,} rows of the stream were"
            said = f"data: {found} of no use and left out {scope}, counted each time the data came round"
            self._events.write(Alert(kind="data", step=step, message=said, remedy="`tui-trainer check` shows why."))
