"""What goes wrong is seen at the step at which it does."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState

from tui_trainer.engine.trainer.alerts import RunAlerts
from tui_trainer.engine.trainer.checkpoint import Checkpoints
from tui_trainer.engine.trainer.failures import NotANumberError
from tui_trainer.engine.trainer.group import Group
from tui_trainer.engine.trainer.mailbox import Health, Mailbox
from tui_trainer.engine.trainer.watch import LossWatch, OverflowWatch
from tui_trainer.runs.control import send
from tui_trainer.runs.events import Alert, CheckpointSaved, RunFinished, RunPaused, StepMetrics
from tui_trainer.runs.store import list_checkpoints


class Poison(TrainerCallback):
    """Puts a NaN into the weights before one step."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        if state.global_step + 1 == self._step:
            next(model.parameters()).data.fill_(float("nan"))


class StopAt(TrainerCallback):
    """Asks the run to stop before one step."""

    def __init__(self, layout: Any, step: int) -> None:
        self._layout, self._step = layout, step

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step + 1 == self._step:
            send(self._layout, "stop")


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


def test_a_run_told_to_pause_waits_at_the_first_such_step(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tiny.run("max_steps=30", "upkeep.on_nan=pause", "save_strategy=steps", "save_steps=2")
    run.trainer.add_callback(Poison(4))
    waits: list[int] = []

    def wait(_: float) -> None:
        waits.append(run.trainer.state.global_step)
        send(run.layout, "continue" if len(waits) < 3 else "stop")

    monkeypatch.setattr(time, "sleep", wait)
    run.trainer.add_callback(StopAt(run.layout, 8))
    with pytest.raises(NotANumberError):
        run.train()
    assert waits == [4]
    assert [(event.reason, event.step) for event in run.written(RunPaused)] == [("nan", 4)]
    assert run.trainer.state.global_step == 8
    assert [event.step for event in run.written(CheckpointSaved)] == [2]


def test_a_run_told_to_warn_goes_on(tiny: Any) -> None:
    run = tiny.run("max_steps=9", "upkeep.on_nan=warn")
    run.trainer.add_callback(Poison(4))
    run.train()
    assert [(alert.kind, alert.step) for alert in run.written(Alert) if alert.kind == "nan"] == [("nan", 4)]
    assert [event.step for event in run.written(RunFinished)] == [9]


def test_each_row_of_bad_steps_is_told_once_at_its_first_step(tiny: Any) -> None:
    run = tiny.run("max_steps=12", "upkeep.on_nan=warn", "logging_steps=5")
    loss, bad = run.trainer.compute_loss, (3, 6, 7, 12)

    def spoiled(*arguments: Any, **named: Any) -> Any:
        value = loss(*arguments, **named).detach()
        return (value * float("nan") if run.trainer.state.global_step + 1 in bad else value).requires_grad_()

    run.trainer.compute_loss = spoiled
    run.train()
    assert [alert.step for alert in run.written(Alert) if alert.kind == "nan"] == [3, 6, 12]


@dataclass(frozen=True)
class OneOfTwo(Group):
    """This rank of two, of which the other says what it is told to."""

    bad_steps: tuple[int, ...] = ()
    num_bad: int = 0

    def sum(self, values: Any) -> list[float]:
        slots = [0.0] * 6 + [len(self.bad_steps), self.num_bad]
        return [own + more for own, more in zip(values, slots, strict=True)]

    def from_all(self, value: Any) -> list[Any]:
        return [value, self.bad_steps]


def test_the_steps_of_all_ranks_are_told_although_they_are_over(tiny: Any) -> None:
    run = tiny.run()
    other = OneOfTwo(0, 2, torch.device("cpu"), (3, 7), 0)
    assert Mailbox(run.layout, other, run.termination).receive(9, Health()).health == Health((3, 7), 0)
    box = Mailbox(run.layout, replace(other, bad_steps=(7, 8), num_bad=2), run.termination)
    assert box.receive(9, Health((8, 9), 2)).health == Health((7, 8, 9), 2)


def test_a_run_whose_end_is_nan_is_not_saved(tiny: Any) -> None:
    run = tiny.run("max_steps=4", "save_strategy=steps", "save_steps=2")
    run.trainer.add_callback(Poison(4))
    with pytest.raises(NotANumberError):
        run.train()
    assert [event.step for event in run.written(CheckpointSaved)] == [2]


def test_a_deferred_look_names_the_right_step_until_it_is_told() -> None:
    watch = LossWatch(is_deferred=True)
    seen = []
    for step, loss in enumerate((1.0, float("inf"), 1.0, 1.0), start=1):
        watch.add(torch.tensor(loss))
        watch.end_step(step)
        seen.append(([*watch.bad_steps], watch.num_bad))
    assert seen == [([], 0), ([], 0), ([2], 1), ([2], 0)]
    assert not watch.is_bad()
    watch.was_told()
    assert watch.bad_steps == []


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
    alerts = [(alert.kind, alert.step) for alert in run.written(Alert)]
    assert alerts == [("loss_spike", 25), ("gradient_explosion", 25)]


def told(tiny: Any, *entries: dict[str, float]) -> list[tuple[str, int]]:
    """The alerts that follow from log entries of the steps 1, 2, 3, …"""
    run = tiny.run()
    alerts = RunAlerts(run.events, run.layout, Checkpoints(run.layout, Group(0, 1, torch.device("cpu")), run.events))
    for step, logs in enumerate(entries, start=1):
        alerts.on_log(run.trainer.args, TrainerState(global_step=step), TrainerControl(), logs)
    return [(alert.kind, alert.step) for alert in run.written(Alert)]


def noisy(count: int, middle: float) -> list[dict[str, float]]:
    dice = random.Random(3)
    return [{"loss": middle * dice.uniform(0.8, 1.2), "learning_rate": 1e-4} for _ in range(count)]


def test_a_spike_of_the_loss_is_an_alert_and_noise_is_none(tiny: Any) -> None:
    assert told(tiny, *noisy(60, 2.0), {"loss": 9.0}, *noisy(5, 2.0)) == [("loss_spike", 61)]


def test_a_loss_near_zero_may_jump(tiny: Any) -> None:
    assert told(tiny, *noisy(60, 0.002), {"loss": 0.2}) == []


def test_a_falling_loss_and_a_first_step_without_a_rate_are_none(tiny: Any) -> None:
    falling = [{"loss": 8 * 0.97**step, "learning_rate": 1e-5 * step} for step in range(100)]
    assert told(tiny, *falling) == []


def test_a_learning_rate_of_zero_is_an_alert(tiny: Any) -> None:
    assert told(tiny, *noisy(3, 2.0), *[{"loss": 2.0, "learning_rate": 0.0}] * 3) == [("zero_rate", 5)]


@pytest.mark.parametrize(("share", "expected"), [(0.5, [("slow_data", 21)]), (0.1, [])])
def test_waiting_for_rows_is_an_alert(tiny: Any, share: float, expected: list[Any]) -> None:
    entries = [{**entry, "step_seconds": 2.0, "data_seconds": 2.0 * share} for entry in noisy(40, 2.0)]
    assert told(tiny, *entries) == expected


def test_the_time_waited_for_rows_is_measured(tiny: Any) -> None:
    class Slow(list[Any]):
        def __getitem__(self, index: Any) -> Any:
            time.sleep(0.01)
            return super().__getitem__(index)

    run = tiny.run("max_steps=3", rows=Slow(tiny.rows(12)))
    run.train()
    waited = [event.data_seconds for event in run.written(StepMetrics)]
    assert all(0.04 <= seconds < 5 for seconds in waited)


def test_a_gpu_that_is_nearly_full_is_an_alert(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui_trainer.engine.trainer.alerts.gpu_memory", lambda _: (78 * 10**9, 80 * 10**9))
    run = tiny.run("max_steps=2")
    run.train()
    (alert,) = [alert for alert in run.written(Alert) if alert.kind == "memory"]
    assert "72.6 GiB of the 74.5 GiB" in alert.message


def test_updates_that_float16_skips_are_an_alert_when_they_are_many(tiny: Any) -> None:
    run = tiny.run()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer, watch = torch.optim.SGD([weight], lr=0.1), OverflowWatch(run.events)
    for step in range(1, 9):
        weight.grad = torch.full((1,), float("inf") if step > 2 else 1.0)
        scaler.scale(torch.ones(1))
        scaler.unscale_(optimizer)
        before = scaler.get_scale()
        scaler.step(optimizer)
        scaler.update()
        watch.end_step(step, is_skipped=scaler.get_scale() < before)
    assert [(alert.kind, alert.step) for alert in run.written(Alert)] == [("fp16_overflow", 7)]
