"""Commands that changed a run outlive a kill: written down before they act, carried out again at their own step."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from tui_trainer.engine.trainer.command_log import CommandLog, forget_after, read_log
from tui_trainer.engine.trainer.group import Group
from tui_trainer.runs.checkpoint_state import CheckpointState
from tui_trainer.runs.control import Command, send
from tui_trainer.runs.events import ControlApplied, StepMetrics
from tui_trainer.runs.layout import RunLayout

OPTIONS = ("save_strategy=steps", "save_steps=4", "max_steps=10", "lr_scheduler_type=cosine")
RATES: dict[int, float | str] = {3: "x0.5", 4: "x0.5", 6: 5e-3, 7: "x2"}
ALONE = Group(0, 1, torch.device("cpu"))


class Killed(BaseException):
    """The process is no more."""


class Script(TrainerCallback):
    """Sets the learning rate at given steps, and dies before one."""

    def __init__(self, layout: RunLayout, rates: dict[int, float | str], dies_before: int | None = None) -> None:
        self._layout, self._rates, self._dies_before = layout, rates, dies_before

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        step = state.global_step + 1
        if step == self._dies_before:
            raise Killed
        if step in self._rates:
            send(self._layout, "set", {"learning_rate": self._rates[step]}, by="you")


def weights(layout: RunLayout) -> bytes:
    return (layout.checkpoint(10) / "model.safetensors").read_bytes()


def held(layout: RunLayout, step: int) -> CheckpointState:
    state = CheckpointState.read(layout.checkpoint(step))
    assert state is not None
    return state


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    return RunLayout(tmp_path)


def test_a_killed_run_does_again_what_it_was_told(tiny: Any) -> None:
    whole = tiny.run(*OPTIONS, directory="whole")
    whole.trainer.add_callback(Script(whole.layout, RATES))
    whole.train()
    first = tiny.run(*OPTIONS, directory="killed")
    first.trainer.add_callback(Script(first.layout, RATES, dies_before=9))
    with pytest.raises(Killed):
        first.train()
    assert [step for step, _ in read_log(first.layout)] == [3, 4, 6, 7]
    # killed right after the save of step 8 it would have nothing to do again: take that checkpoint away
    (first.layout.checkpoint(8) / "manifest.json").unlink()
    second = tiny.run(*OPTIONS, directory="killed")
    assert second.checkpoint == str(second.layout.checkpoint(4))
    second.train()
    applied = second.written(ControlApplied)
    assert [(event.step, event.replayed) for event in applied[4:]] == [(6, True), (7, True)]
    assert applied[4].latency_seconds is None
    assert weights(second.layout) == weights(whole.layout)
    rows = {event.step: event.learning_rate for event in second.written(StepMetrics)}
    assert rows == {event.step: event.learning_rate for event in whole.written(StepMetrics)}


def test_a_run_without_a_checkpoint_does_all_of_it_again(tiny: Any) -> None:
    first = tiny.run(*OPTIONS)
    first.trainer.add_callback(Script(first.layout, {2: "x0.1"}, dies_before=4))
    with pytest.raises(Killed):
        first.train()
    second = tiny.run(*OPTIONS)
    assert second.checkpoint is None
    second.train()
    assert [(event.step, event.replayed) for event in second.written(ControlApplied)] == [(2, None), (2, True)]


def test_what_was_set_in_a_pause_after_the_save_is_set_again(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tiny.run(*OPTIONS)
    run.trainer.add_callback(Script(run.layout, {4: "x0.5"}))

    class PauseAtFour(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 3:
                send(run.layout, "pause")

    run.trainer.add_callback(PauseAtFour())
    moments: list[int] = []

    def wait(_: float) -> None:
        moments.append(1)
        if len(moments) == 1:
            send(run.layout, "set", {"learning_rate": "x0.5"})
        if len(moments) == 3:
            raise Killed

    monkeypatch.setattr(time, "sleep", wait)
    with pytest.raises(Killed):
        run.train()
    assert len(held(run.layout, 4).commands) == 1
    again = tiny.run(*OPTIONS)
    again.train()
    replayed = [event for event in again.written(ControlApplied) if event.replayed]
    assert [(event.step, event.new) for event in replayed] == [(4, {"learning_rate": 2.5e-4})]


def test_settings_that_no_library_keeps_survive(tiny: Any) -> None:
    run = tiny.run(*OPTIONS)

    class SetNorm(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 1:
                send(run.layout, "set", {"max_grad_norm": 0.25, "logging_steps": 2, "weight_decay": 0.5})
            if state.global_step == 5:
                raise Killed

    run.trainer.add_callback(SetNorm())
    with pytest.raises(Killed):
        run.train()
    assert held(run.layout, 4).settings == {
        "max_grad_norm": 0.25,
        "logging_steps": 2,
        "weight_decay": 0.5,
    }
    again = tiny.run(*OPTIONS)
    again.train()
    assert again.trainer.args.max_grad_norm == 0.25
    assert again.trainer.args.logging_steps == 2
    assert again.trainer.optimizer.param_groups[0]["weight_decay"] == 0.5
    assert [event.step for event in again.written(StepMetrics) if event.attempt] == [6, 8, 10]


def test_a_command_that_cannot_be_written_down_is_refused(tiny: Any) -> None:
    run = tiny.run("max_steps=4")
    run.trainer.add_callback(Script(run.layout, {2: "x0.1"}))
    run.layout.command_log.mkdir()
    run.train()
    (applied,) = run.written(ControlApplied)
    assert "commands.jsonl" in str(applied.error)
    assert run.trainer.lr_scheduler.base_lrs == [1e-3, 1e-3]


def test_going_back_forgets_what_was_commanded_later(layout: RunLayout) -> None:
    log = CommandLog(layout, ALONE)
    log.begin(0)
    for step, identifier in ((3, "a"), (5, "b"), (5, "c"), (7, "d")):
        assert log.record(Command("set", {"x": step}, id=identifier), step)
    forget_after(layout, 5, ["b"])
    log.record(Command("set", {"x": 6}, id="e"), 6)
    assert [(step, command.id) for step, command in read_log(layout)] == [(3, "a"), (5, "b"), (6, "e")]
    again = CommandLog(layout, ALONE)
    again.begin(5, ["b"])
    assert [command.id for command in again.due(6)] == ["e"]
    assert again.due(6) == []
    assert again.due(5) == []


def test_torn_and_foreign_lines_are_passed_over(layout: RunLayout) -> None:
    log = CommandLog(layout, ALONE)
    log.record(Command("set", {"x": 1}, id="a"), 1)
    with layout.command_log.open("a") as file:
        file.write('["no command"]\n{"type": "command", "step": "soon"}\n{"step": 2}\n')
        file.write(json.dumps({"type": "command", "step": 9, "id": "z", "command": "set", "arguments": {}})[:30])
    log.record(Command("set", {"x": 2}, id="b"), 2)
    assert [command.id for _, command in read_log(layout)] == ["a", "b"]
