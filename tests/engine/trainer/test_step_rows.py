"""The rows of a step, counted afterwards, are those that the trainer was given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import TrainerCallback

from tests.engine.trainer.conftest import events_of, padded
from tests.engine.trainer.test_resume import SAVING, killed
from tui_trainer.engine.trainer.feed import epoch_order
from tui_trainer.runs.events import StepMetrics
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.row_order import RowOrder
from tui_trainer.runs.snapshot import RunView
from tui_trainer.runs.status import read_status

ROWS = [{"input_ids": [number] * 8, "labels": [number] * 8} for number in range(21)]


class Given(TrainerCallback):
    """Notes which rows the trainer was given for each step."""

    def __init__(self, run: Any) -> None:
        self.of_step: dict[int, list[int]] = {}
        self._rows: list[int] = []
        run.trainer.data_collator = self._collate
        run.trainer.add_callback(self)

    def _collate(self, rows: Sequence[Any]) -> dict[str, torch.Tensor]:
        return {**padded(rows), "numbers": torch.tensor([row["input_ids"][0] for row in rows])}

    def note(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Take the numbers out of a batch."""
        self._rows += batch.pop("numbers").tolist()
        return batch

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.of_step[state.global_step] = self._rows
        self._rows = []


def _watched(run: Any) -> Given:
    given = Given(run)
    compute = run.trainer.training_step
    run.trainer.training_step = lambda model, batch, *rest: compute(model, given.note(batch), *rest)
    return given


def _counted(layout: RunLayout, step: int) -> list[int]:
    view = RunView(read_status(layout))
    for event in events_of(layout):
        view.apply(event)
    start = view.start_of(step)
    assert start is not None
    order = RowOrder.from_dict(start.row_order)
    assert order is not None
    found = order.stretch(step - 1 - start.step)
    assert found is not None
    epoch, first, last = found
    return [int(row) for row in epoch_order(order.position, epoch, list)[first:last]]


def test_steps_take_what_is_counted_also_across_epochs_a_kill_and_another_batch(tiny: Any) -> None:
    given = (*SAVING, "save_steps=2", "gradient_accumulation_steps=2", "train_sampling_strategy=random")
    first = tiny.run(*given, "max_steps=9", rows=ROWS)
    seen = _watched(first)
    killed(first, before=6)
    second = tiny.run(*given, "max_steps=9", "per_device_train_batch_size=3", rows=ROWS)
    assert second.resumption.state.step == 4
    again = _watched(second)
    second.train()
    taken = {**{step: rows for step, rows in seen.of_step.items() if step <= 4}, **again.of_step}
    assert sorted(taken) == list(range(1, 10))
    assert {len(rows) for rows in taken.values()} == {8, 6, 5, 1}
    assert {step: _counted(second.layout, step) for step in taken} == taken
    assert [event.step for event in second.written(StepMetrics)][-1] == 9
