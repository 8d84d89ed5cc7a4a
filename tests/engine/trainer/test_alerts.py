"""What goes wrong is seen at the step at which it does."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import TrainerCallback

from tui_trainer.engine.trainer.failures import NotANumberError
from tui_trainer.engine.trainer.watch import LossWatch
from tui_trainer.runs.events import Alert, CheckpointSaved, StepMetrics
from tui_trainer.runs.store import list_checkpoints


class Poison(TrainerCallback):
    """Puts a NaN into the weights before one step."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if state.global_step + 1 == self._step:
            next(model.parameters()).data.fill_(float("nan"))


@pytest.mark.parametrize("logging_steps", [1, 10])
def test_nan_is_flagged_at_its_own_step_and_the_last_good_checkpoint_stays(tiny: Any, logging_steps: int) -> None:
    run = tiny.run(f"logging_steps={logging_steps}", "max_steps=30", "save_strategy=steps", "save_steps=2")
    run.trainer.add_callback(Poison(4))
    with pytest.raises(NotANumberError):
        run.train()
    alert = run.written(Alert)[0]
    assert (alert.kind, alert.step) == ("nan", 4)
    assert [event.step for event in run.written(CheckpointSaved)] == [2]
    assert [checkpoint.step for checkpoint in list_checkpoints(run.layout)] == [2]
    assert run.trainer.state.global_step == 6
    if logging_steps == 1:
        losses = [event.loss for event in run.written(StepMetrics)]
        assert all(loss > 0 for loss in losses[:3])
        assert all(loss != loss for loss in losses[3:])


def test_a_run_whose_end_is_nan_is_not_saved(tiny: Any) -> None:
    run = tiny.run("max_steps=4", "save_strategy=steps", "save_steps=2")
    run.trainer.add_callback(Poison(4))
    with pytest.raises(NotANumberError):
        run.train()
    assert [event.step for event in run.written(CheckpointSaved)] == [2]


def test_a_deferred_look_names_the_right_step(tiny: Any) -> None:
    import torch

    run = tiny.run()
    watch = LossWatch(run.events, is_deferred=True)
    for step, loss in enumerate((1.0, float("inf"), 1.0, 1.0), start=1):
        watch.add(torch.tensor(loss))
        watch.end_step(step)
        assert len(run.written(Alert)) == (1 if step >= 3 else 0)
    assert run.written(Alert)[0].step == 2
    assert not watch.is_bad()


def test_rows_without_a_trained_token_are_an_alert(tiny: Any) -> None:
    rows = [{**row, "labels": [-100] * len(row["labels"])} for row in tiny.rows(12)]
    run = tiny.run("max_steps=3", rows=rows)
    run.train()
    assert [(alert.kind, alert.step) for alert in run.written(Alert)] == [("zero_loss", 1)]
    assert [event.loss for event in run.written(StepMetrics)] == [0.0] * 3


def test_an_exploding_gradient_is_an_alert(tiny: Any) -> None:
    class Scale(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            if state.global_step + 1 == 25:
                model.lm_head.weight.data.mul_(1000)

    run = tiny.run("max_steps=25", "lr_scheduler_type=constant", rows=tiny.rows(100))
    run.trainer.add_callback(Scale())
    run.train()
    assert [(alert.kind, alert.step) for alert in run.written(Alert)] == [("gradient_explosion", 25)]
