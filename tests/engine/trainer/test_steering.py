"""Commands act at the next step boundary, are acknowledged once, and never harm a run."""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
import time
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from tests.slow_disk import SlowDisk
from tui_trainer.config.course import Course
from tui_trainer.config.schedule import learning_rate_at
from tui_trainer.engine.trainer import mailbox
from tui_trainer.engine.trainer.group import Group
from tui_trainer.engine.trainer.live import Refused, planned_change
from tui_trainer.engine.trainer.parking import ParkedModel, movable_tensors
from tui_trainer.errors import CancelledError
from tui_trainer.runs.control import send, waiting
from tui_trainer.runs.events import (
    CheckpointSaved,
    ControlApplied,
    EvalMetrics,
    RunFinished,
    RunStopped,
    Sample,
    StepMetrics,
)


class At(TrainerCallback):
    """Does something before given steps."""

    def __init__(self, **actions: Any) -> None:
        self._actions = {int(name.removeprefix("step_")): action for name, action in actions.items()}

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if action := self._actions.get(state.global_step + 1):
            action()


def set_at(run: Any, step: int, **fields: Any) -> None:
    run.trainer.add_callback(At(**{f"step_{step}": lambda: send(run.layout, "set", fields, by="you")}))


def rates(run: Any) -> list[float]:
    return [event.learning_rate for event in run.written(StepMetrics)]


def test_a_new_learning_rate_acts_on_the_next_step_and_keeps_the_shape(tiny: Any) -> None:
    options = ("lr_scheduler_type=cosine", "warmup_steps=2", "max_steps=8")
    plain = tiny.run(*options, directory="plain")
    plain.train()
    run = tiny.run(*options)
    set_at(run, 3, learning_rate=1e-4)
    run.train()
    expected = rates(plain)
    assert rates(run)[:3] == expected[:3]
    assert rates(run)[3:] == pytest.approx([rate / 10 for rate in expected[3:]], rel=1e-9, abs=1e-15)
    losses = [[event.loss for event in one.written(StepMetrics)] for one in (plain, run)]
    assert losses[0][:4] == losses[1][:4]
    assert losses[0][5] != losses[1][5]
    (applied,) = run.written(ControlApplied)
    assert (applied.command, applied.step, applied.by) == ("set", 3, "you")
    assert (applied.old, applied.new) == ({"learning_rate": 1e-3}, {"learning_rate": 1e-4})
    assert applied.error is None
    assert 0 <= applied.latency_seconds < 5
    assert os.listdir(run.layout.control) == []


@pytest.mark.parametrize("factor", ["x0.5", "*0.5"])
def test_a_factor_scales_the_learning_rate(tiny: Any, factor: str) -> None:
    run = tiny.run("lr_scheduler_type=constant")
    set_at(run, 2, learning_rate=factor)
    set_at(run, 4, learning_rate=factor)
    run.train()
    assert rates(run) == pytest.approx([1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4, 2.5e-4])


def test_a_new_learning_rate_survives_a_resume(tiny: Any) -> None:
    options = ("save_strategy=steps", "save_steps=3", "max_steps=6", "lr_scheduler_type=linear")
    whole = tiny.run(*options, directory="whole")
    set_at(whole, 2, learning_rate=1e-4)
    whole.train()
    first = tiny.run(*options, directory="parts")
    set_at(first, 2, learning_rate=1e-4)
    first.trainer.add_callback(At(step_3=lambda: send(first.layout, "stop")))
    first.train()
    second = tiny.run(*options, directory="parts")
    second.train()
    assert {event.step: event.learning_rate for event in second.written(StepMetrics)} == {
        event.step: event.learning_rate for event in whole.written(StepMetrics)
    }


def test_other_fields(tiny: Any) -> None:
    run = tiny.run("save_strategy=steps", "save_steps=100", "weight_decay=0.1", "max_steps=6")
    set_at(run, 1, weight_decay=0.3, max_grad_norm=0.5, save_steps=2, logging_steps=2)
    run.train()
    assert [event.step for event in run.written(CheckpointSaved)] == [2, 4, 6]
    assert [event.step for event in run.written(StepMetrics)] == [1, 2, 4, 6]
    assert [group["weight_decay"] for group in run.trainer.optimizer.param_groups] == [0.3, 0.0]
    assert run.trainer.args.max_grad_norm == 0.5
    assert run.written(ControlApplied)[0].old == {
        "weight_decay": 0.1,
        "max_grad_norm": 1.0,
        "save_steps": 100,
        "logging_steps": 1,
    }


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"learning_rate": "fast"}, "number"),
    ({"learning_rate": -1}, "from 0 to 10"),
    ({"learning_rate": float("nan")}, "number"),
    ({"learning_rate": True}, "number"),
    ({"learning_rate": "x1e6"}, "from 0 to 10"),
    ({"learning_rate": [1]}, "number"),
    ({"save_steps": 2.5}, "whole"),
    ({"save_steps": 5}, "save_strategy"),
    ({"optim": "sgd"}, "cannot be changed"),
    ({"learning_rate": 10**400}, "number"),
    ({"max_steps": 1}, "has done 1 steps"),
    ({"max_steps": 2.5}, "whole"),
    ({"max_steps": 5, "num_train_epochs": 2}, "one of them"),
    ({"max_steps": 5, "schedule": "jump"}, "stretch or keep"),
    ({"schedule": "keep"}, "with it"),
    ({}, "no field"),
    ({"weight_decay": 0.2, "learning_rate": 99}, "from 0 to 10"),
]


def test_values_that_make_no_sense_are_refused_and_change_nothing(tiny: Any) -> None:
    run = tiny.run("max_steps=3", "lr_scheduler_type=constant")
    for fields, _ in REFUSED:
        set_at(run, 1, **fields)
    run.train()
    refused = run.written(ControlApplied)
    assert [word in applied.error for applied, (_, word) in zip(refused, REFUSED, strict=True)] == [True] * len(REFUSED)
    assert rates(run) == [1e-3] * 3
    assert run.trainer.args.weight_decay == 0.0
    assert len(run.written(RunFinished)) == 1


def test_garbage_in_the_mailbox_is_refused_once(tiny: Any) -> None:
    garbage = ["{broken", '{"id": "x", "command": "stop"}', '["stop"]', '{"command": "format"}', "", "7"]
    run = tiny.run("max_steps=3")
    for number, content in enumerate(garbage):
        (run.layout.control / f"0000000000000000000{number}-aa.json").write_text(content)
    run.train()
    refused = run.written(ControlApplied)
    assert len(refused) == len(garbage)
    assert all(applied.error for applied in refused)
    assert os.listdir(run.layout.control) == []
    assert len(run.written(RunFinished)) == 1


def test_a_link_in_the_mailbox_is_not_followed(tiny: Any, tmp_path: Any) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text(json.dumps({"id": "link", "command": "stop", "arguments": {}}))
    run = tiny.run("max_steps=3")
    (run.layout.control / "link.json").symlink_to(secret)
    run.train()
    assert "plain file" in run.written(ControlApplied)[0].error
    assert secret.exists()


def test_stop_saves_and_ends(tiny: Any) -> None:
    run = tiny.run("max_steps=50", "save_strategy=no")
    run.trainer.add_callback(At(step_2=lambda: send(run.layout, "stop", by="you")))
    run.train()
    assert [event.step for event in run.written(CheckpointSaved)] == [2]
    assert [(event.step, event.reason) for event in run.written(RunStopped)] == [(2, "asked to stop by you")]
    assert run.written(RunFinished) == []


def test_a_stopped_run_is_not_evaluated_once_more(tiny: Any) -> None:
    run = tiny.run("eval_strategy=epoch", "data.eval_split=x", "max_steps=50", eval_rows=tiny.rows(4))
    run.trainer.add_callback(At(step_2=lambda: send(run.layout, "stop")))
    run.train()
    assert run.written(EvalMetrics) == []


def test_save_evaluate_and_sample_now(tiny: Any) -> None:
    run = tiny.run(
        "max_steps=6",
        "data.eval_split=x",
        'sampling.prompts=["hello"]',
        "sampling.max_tokens=3",
        "sampling.temperature=0",
        eval_rows=tiny.rows(4),
    )
    commands = {2: "save", 3: "eval", 4: "sample"}
    actions = {f"step_{step}": lambda name=name: send(run.layout, name) for step, name in commands.items()}
    run.trainer.add_callback(At(**actions))
    run.train()
    assert [event.step for event in run.written(CheckpointSaved)] == [2]
    assert [event.step for event in run.written(EvalMetrics)] == [3]
    assert [event.step for event in run.written(Sample)] == [3, 4]


@pytest.mark.parametrize(("command", "word"), [("eval", "eval_split"), ("sample", "prompts")])
def test_a_run_without_questions_says_so(tiny: Any, command: str, word: str) -> None:
    run = tiny.run("max_steps=3")
    run.trainer.add_callback(At(step_1=lambda: send(run.layout, command)))
    run.train()
    assert word in run.written(ControlApplied)[0].error


def test_a_paused_run_logs_saves_and_waits(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tiny.run("max_steps=4", "lr_scheduler_type=constant")
    run.trainer.add_callback(At(step_2=lambda: send(run.layout, "pause")))
    waits: list[int] = []

    def wait(seconds: float) -> None:
        waits.append(len(run.written(StepMetrics)))
        if len(waits) == 3:
            send(run.layout, "save")
            send(run.layout, "set", {"learning_rate": 1e-5})
        if len(waits) == 5:
            assert [event.step for event in run.written(CheckpointSaved)] == [2]
            send(run.layout, "continue")

    monkeypatch.setattr(time, "sleep", wait)
    run.train()
    assert waits == [2] * 5
    assert rates(run) == pytest.approx([1e-3, 1e-3, 1e-5, 1e-5])
    assert [event.command for event in run.written(ControlApplied)] == ["pause", "save", "set", "continue"]
    assert [event.step for event in run.written(RunFinished)] == [4]


def test_a_paused_run_can_be_stopped(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tiny.run("max_steps=9")
    run.trainer.add_callback(At(step_2=lambda: send(run.layout, "pause")))
    monkeypatch.setattr(time, "sleep", lambda _: send(run.layout, "stop"))
    run.train()
    assert [event.step for event in run.written(RunStopped)] == [2]
    assert [event.step for event in run.written(CheckpointSaved)] == [2]


def test_a_signal_while_training_saves_at_the_next_boundary(tiny: Any) -> None:
    run = tiny.run("max_steps=50")
    before = signal.getsignal(signal.SIGTERM)
    run.termination.install()
    run.termination.is_training = True
    try:
        run.trainer.add_callback(At(step_3=lambda: os.kill(os.getpid(), signal.SIGTERM)))
        run.train()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert [event.step for event in run.written(CheckpointSaved)] == [3]
    assert [event.reason for event in run.written(RunStopped)] == ["asked to stop by SIGTERM"]


def test_a_signal_before_the_first_step_ends_at_once(tiny: Any) -> None:
    run = tiny.run()
    before = signal.getsignal(signal.SIGTERM)
    run.termination.install()
    try:
        with pytest.raises(CancelledError):
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_commands_for_an_earlier_start_are_refused(tiny: Any) -> None:
    options = ("save_strategy=steps", "save_steps=2", "max_steps=4")
    first = tiny.run(*options)
    first.trainer.add_callback(At(step_2=lambda: send(first.layout, "stop")))
    first.train()
    send(first.layout, "stop", by="an impatient user")
    second = tiny.run(*options)
    second.train()
    assert [event.step for event in second.written(RunFinished)] == [4]
    assert "started again" in second.written(ControlApplied)[-1].error


def test_what_cannot_be_removed_is_carried_out_once(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tiny.run("max_steps=5", "lr_scheduler_type=constant")
    monkeypatch.setattr("tui_trainer.engine.trainer.mailbox.remove", lambda *_: None)
    set_at(run, 2, learning_rate="x0.5")
    run.train()
    assert len(run.written(ControlApplied)) == 1
    assert rates(run) == pytest.approx([1e-3, 1e-3, 5e-4, 5e-4, 5e-4])


def test_after_fast_steps_slow_ones_are_looked_at_soon(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "TALK_SECONDS", 0.65)
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    run = tiny.run()

    class Two(Group):
        """Two ranks that say the same."""

        def sum(self, values: Any) -> list[float]:
            return list(values)

    box = mailbox.Mailbox(run.layout, Two(0, 2, torch.device("cpu")), run.termination)
    looks = []
    for step in range(5000, 5600):  # a resume begins far from 0; 1 ms a step, from 5200 on 2 s, from 5400 on 200 ms
        clock[0] += 0.001 if step < 5200 else 2.0 if step < 5400 else 0.2
        if box.receive(step, mailbox.Health()).health is not None:
            looks.append(step)
    gaps = [later - earlier for earlier, later in itertools.pairwise(looks)]
    assert looks[0] == 5000
    assert max(gaps) == 64
    middle, end = looks.index(next(step for step in looks if step >= 5300)), gaps[-50:]
    assert set(gaps[middle : middle + 90]) == {1}
    assert set(end) == {3}


@pytest.mark.parametrize("day", [-86_400, 86_400])
def test_what_is_outdated_does_not_depend_on_the_clock(tiny: Any, day: int, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tiny.run()
    old = send(run.layout, "save")
    outdated = frozenset(waiting(run.layout))
    now = time.time() + day
    monkeypatch.setattr(time, "time", lambda: now)
    monkeypatch.setattr(time, "time_ns", lambda: int(now * 1e9))
    new = send(run.layout, "save")
    box = mailbox.Mailbox(run.layout, Group(0, 1, torch.device("cpu")), run.termination, outdated)
    refused, taken = sorted(box.receive(1, mailbox.Health()).commands, key=lambda command: command.id == new.id)
    assert (refused.id, refused.error) == (old.id, "was sent before the run was started again")
    assert taken == new


def test_looking_into_the_mailbox_costs_little(tiny: Any) -> None:
    run = tiny.run()
    box = mailbox.Mailbox(run.layout, Group(0, 1, torch.device("cpu")), run.termination)
    started = time.process_time()
    for step in range(2000):
        box.receive(step, mailbox.Health())
    assert (time.process_time() - started) / 2000 < 0.005 * 0.2


def curve(run: Any, peak: float, max_steps: int, *moves: Any) -> list[float]:
    """The rates as the front end computes them."""
    course = Course.planned(max_steps)
    for at, end, how in moves:
        course = course.moved(at, end, how)
    training = run.config.training.model_copy(update={"learning_rate": peak})
    steps = range(int(course.knots[-1][0]))
    return [learning_rate_at(training, course.position(step), max_steps) for step in steps]


@pytest.mark.parametrize("shape", ["cosine", "linear", "polynomial", "warmup_stable_decay", "inverse_sqrt"])
@pytest.mark.parametrize(("end", "how"), [(12, "stretch"), (12, "keep"), (6, "stretch"), (6, "keep")])
def test_the_end_moves_and_the_schedule_with_it(tiny: Any, shape: str, end: int, how: str) -> None:
    kwargs = ["lr_scheduler_kwargs={num_decay_steps = 3}"] if shape == "warmup_stable_decay" else []
    run = tiny.run(f"lr_scheduler_type={shape}", *kwargs, "warmup_steps=2", "max_steps=8", "logging_steps=1")
    set_at(run, 4, max_steps=end, schedule=how)
    run.train()
    assert [event.step for event in run.written(RunFinished)] == [end]
    moves = [] if shape == "inverse_sqrt" else [(4, end, how)]
    expected = (
        curve(run, 1e-3, 8, *moves)
        if moves
        else [learning_rate_at(run.config.training, step, 8) for step in range(end)]
    )
    assert rates(run) == pytest.approx(expected, rel=1e-9, abs=1e-15)
    (applied,) = run.written(ControlApplied)
    assert applied.old == {"max_steps": 8}
    assert applied.new == {"max_steps": end} | ({} if shape == "inverse_sqrt" else {"schedule": how})


def test_epochs_can_be_added_and_taken_away(tiny: Any) -> None:
    more = tiny.run("max_steps=-1", "num_train_epochs=1", directory="more")
    set_at(more, 6, num_train_epochs=2)  # at the very last step
    more.train()
    assert [event.step for event in more.written(StepMetrics)] == list(range(1, 13))
    assert more.written(StepMetrics)[-1].epoch == 2.0
    less = tiny.run("max_steps=-1", "num_train_epochs=4", directory="less")
    set_at(less, 3, num_train_epochs=1.5)
    less.train()
    assert [event.step for event in less.written(RunFinished)] == [9]
    assert less.written(ControlApplied)[0].new == {"num_train_epochs": 1.5, "max_steps": 9, "schedule": "stretch"}


def test_a_moved_end_survives_a_resume(tiny: Any) -> None:
    options = ("save_strategy=steps", "save_steps=4", "max_steps=8", "lr_scheduler_type=cosine")
    whole = tiny.run(*options, directory="whole")
    set_at(whole, 3, max_steps=14, max_grad_norm=0.5)
    whole.train()
    first = tiny.run(*options, directory="parts")
    set_at(first, 3, max_steps=14, max_grad_norm=0.5)
    first.trainer.add_callback(At(step_6=lambda: send(first.layout, "stop")))
    first.train()
    second = tiny.run(*options, directory="parts")
    second.train()
    assert [event.step for event in second.written(RunFinished)] == [14]
    losses = [
        {event.step: (event.loss, event.learning_rate) for event in one.written(StepMetrics)} for one in (whole, second)
    ]
    assert losses[0] == losses[1]
    assert second.trainer.args.max_grad_norm == 0.5


def test_a_command_before_the_first_step_is_carried_out_before_it(tiny: Any) -> None:
    run = tiny.run("max_steps=3", "lr_scheduler_type=constant")
    send(run.layout, "set", {"learning_rate": 1e-5})
    run.train()
    assert rates(run) == [1e-5] * 3
    assert run.written(ControlApplied)[0].step == 0


def test_a_run_can_be_stopped_before_its_first_step(tiny: Any) -> None:
    run = tiny.run("max_steps=3")
    send(run.layout, "stop", by="you")
    with pytest.raises(CancelledError, match="asked to stop by you before its first step"):
        run.train()
    assert run.written(StepMetrics) == []


def test_offloading_makes_no_sense_without_a_gpu(tiny: Any) -> None:
    run = tiny.run("max_steps=3")
    run.trainer.add_callback(At(step_1=lambda: send(run.layout, "pause", {"offload": True})))
    run.train()
    assert "main memory already" in run.written(ControlApplied)[0].error
    assert len(run.written(StepMetrics)) == 3


def test_every_tensor_of_model_and_optimiser_can_be_put_elsewhere(tiny: Any) -> None:
    run = tiny.run("max_steps=2")
    run.train()
    weights, states = list(run.model.parameters()), list(run.trainer.optimizer.state.values())
    for put, tensor in movable_tensors(run.model, run.trainer.optimizer):
        put(torch.full_like(tensor, 7))
    assert list(map(id, run.model.parameters())) == list(map(id, weights))
    assert all((value == 7).all() for value in weights)
    assert len(states) == len(weights)
    assert all((value == 7).all() for state in states for value in state.values())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_parked_model_leaves_the_gpu_and_comes_back() -> None:
    model = torch.nn.Linear(1000, 1000).cuda()
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 1000, device="cuda")).sum().backward()
    optimizer.step()
    before = [value.clone() for value in model.parameters()]
    parked = ParkedModel(model, optimizer, torch.device("cpu"))
    assert {value.device.type for value in model.parameters()} == {"cpu"}
    parked.bring_back()
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("schedule", ["reduce_lr_on_plateau", "constant_with_warmup", "cosine_with_min_lr"])
def test_other_schedules_take_a_new_rate_too(tiny: Any, schedule: str) -> None:
    kwargs = ["lr_scheduler_kwargs={min_lr_rate = 0.5}"] if "min_lr" in schedule else []
    run = tiny.run(
        f"lr_scheduler_type={schedule}",
        *kwargs,
        "max_steps=4",
        "eval_strategy=steps",
        "data.eval_split=x",
        eval_rows=tiny.rows(4),
    )
    set_at(run, 2, learning_rate="x0.1")
    run.train()
    before, after = rates(run)[1], rates(run)[2]
    assert after == pytest.approx(before / 10, rel=0.6)
    assert run.written(ControlApplied)[0].error is None


def test_on_a_slow_disk_every_command_is_carried_out_once_and_in_order(
    tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny.run("max_steps=8", "lr_scheduler_type=constant")
    SlowDisk(run.layout.root, 0.02, monkeypatch)
    sent: list[str] = []

    def write() -> None:
        sent.extend(send(run.layout, "set", {"learning_rate": number * 1e-4}).id for number in range(1, 6))

    writer = threading.Thread(target=write)
    run.trainer.add_callback(At(step_1=writer.start, step_7=writer.join))
    run.train()
    applied = [event for event in run.written(ControlApplied) if event.command == "set"]
    assert [event.id for event in applied] == sent
    assert [event.error for event in applied] == [None] * 5
    assert rates(run)[-1] == pytest.approx(5e-4)


def test_the_norm_that_deepspeed_cuts_at_is_not_changed_in_name_only(tiny: Any) -> None:
    run = tiny.run()
    run.trainer.is_deepspeed_enabled = True
    with pytest.raises(Refused, match="DeepSpeed cuts gradients itself"):
        planned_change({"max_grad_norm": 0.5}, run.trainer)
    run.trainer.is_deepspeed_enabled = False
    planned_change({"max_grad_norm": 0.5}, run.trainer)()
    assert run.trainer.args.max_grad_norm == 0.5
