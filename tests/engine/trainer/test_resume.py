"""A run that goes on from a checkpoint computes what it would have computed, bit by bit."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from tui_trainer.engine.trainer.branches import go_back
from tui_trainer.errors import RefusedError
from tui_trainer.runs.checkpoint_state import CheckpointState
from tui_trainer.runs.control import send
from tui_trainer.runs.events import CheckpointSaved, RunFinished, RunResumed, StepMetrics
from tui_trainer.runs.files import read_json
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.resume_order import ResumeOrder
from tui_trainer.runs.store import find_checkpoint, list_checkpoints

SAVING = ("save_strategy=steps", "lr_scheduler_type=cosine", "warmup_steps=2", "train_sampling_strategy=random")
DROPOUT = (
    'model.from_scratch={model_type="llama", hidden_size=32, intermediate_size=64, num_hidden_layers=2, '
    "num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256, attention_dropout=0.2}"
)


class Killed(BaseException):
    """The process is no more."""


class DieBefore(TrainerCallback):
    """Ends the training without a word before a step is made."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step + 1 == self._step:
            raise Killed


class DieAtTheEnd(TrainerCallback):
    """Ends the training after its last checkpoint and before its last word."""

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        raise Killed


def killed(run: Any, before: int) -> None:
    run.trainer.add_callback(DieBefore(before))
    with pytest.raises(Killed):
        run.train()


def weights(run: Any, step: int) -> bytes:
    return bytes((run.layout.checkpoint(step) / "model.safetensors").read_bytes())


def rows(run: Any) -> dict[int, tuple[float, float, float, float, int]]:
    """The numbers of each step, of the last attempt to make it."""
    return {
        event.step: (event.loss, event.learning_rate, event.grad_norm, event.epoch, event.num_input_tokens)
        for event in run.written(StepMetrics)
    }


@pytest.mark.parametrize(
    "options",
    [
        pytest.param((DROPOUT, "logging_steps=3", "lr_scheduler_type=linear"), id="dropout"),
        pytest.param(("gradient_accumulation_steps=2", "per_device_train_batch_size=3", DROPOUT), id="accumulation"),
        pytest.param(("train_sampling_strategy=group_by_length", DROPOUT), id="grouped"),
        pytest.param(("data_seed=5", "dataloader_num_workers=1"), id="worker"),
        pytest.param(
            ("dataloader_num_workers=1", "dataloader_persistent_workers=true", DROPOUT), id="worker kept between epochs"
        ),
        pytest.param(("train_sampling_strategy=batch_rebalance",), id="the library's order"),
    ],
)
def test_a_killed_run_comes_to_the_same_bits(tiny: Any, options: tuple[str, ...]) -> None:
    # 22 rows make an epoch of 6 batches: both checkpoints lie inside an epoch, the second not in the first one
    data = tiny.rows(22)
    given = (*SAVING, "save_steps=4", "max_steps=15", *options)
    whole = tiny.run(*given, rows=data, directory="whole")
    whole.train()
    first = tiny.run(*given, rows=data, directory="parts")
    killed(first, before=7)
    second = tiny.run(*given, rows=data, directory="parts")
    assert second.resumption.state.step == 4
    killed(second, before=11)
    third = tiny.run(*given, rows=data, directory="parts")
    assert third.resumption.state.step == 8
    third.train()
    assert weights(third, 15) == weights(whole, 15)
    assert rows(third) == rows(whole)
    assert third.written(RunFinished)[0].loss == pytest.approx(whole.written(RunFinished)[0].loss, rel=1e-12)


def test_a_run_goes_on_at_the_border_of_an_epoch(tiny: Any) -> None:
    given = (*SAVING, "save_steps=6", "num_train_epochs=3", "max_steps=-1", DROPOUT)
    whole = tiny.run(*given, directory="whole")
    whole.train()
    first = tiny.run(*given, directory="parts")
    killed(first, before=9)
    second = tiny.run(*given, directory="parts")
    position = second.resumption.state.position
    assert (position.epoch, position.num_done) == (1, 0)
    second.train()
    assert weights(second, 18) == weights(whole, 18)
    assert rows(second) == rows(whole)


def seen_by(run: Any) -> list[int]:
    """Collects which rows a run trains on, by their first token."""
    found: list[int] = []
    collate = run.trainer.data_collator

    def record(batch: list[dict[str, Any]]) -> Any:
        found.extend(int(row["input_ids"][0]) for row in batch)
        return collate(batch)

    run.trainer.data_collator = record
    return found


def test_other_batches_go_on_in_the_same_order(tiny: Any) -> None:
    data = [{"input_ids": [number, 1, 2, 3], "labels": [number, 1, 2, 3]} for number in range(40)]
    given = (*SAVING, "save_steps=3", "num_train_epochs=2", "max_steps=-1")
    first = tiny.run(*given, rows=data)
    before = seen_by(first)
    killed(first, before=4)
    second = tiny.run(
        *given, "per_device_train_batch_size=5", "gradient_accumulation_steps=2", rows=data, directory="run"
    )
    assert "training.per_device_train_batch_size" in second.resumption.changed
    after = seen_by(second)
    second.train()
    # 3 updates of 4 rows, then of 10: the 28 that are left of the epoch in 3 updates, the next epoch in 4
    assert [event.max_steps for event in second.written(RunResumed)] == [3 + 3 + 4]
    assert second.trainer.state.global_step == 10
    assert sorted(before[:12] + after[:28]) == list(range(40))
    assert sorted(after[28:]) == list(range(40))
    assert second.trainer.state.epoch == 2.0


def test_a_new_learning_rate_takes_effect(tiny: Any) -> None:
    given = (*SAVING, "save_steps=3", "max_steps=8")
    plain = tiny.run(*given, directory="plain")
    plain.train()
    first = tiny.run(*given)
    killed(first, before=5)
    second = tiny.run(*given, "learning_rate=1e-4")
    assert set(second.resumption.changed) == {"training.learning_rate"}
    second.train()
    old = {step: numbers[1] for step, numbers in rows(plain).items()}
    new = {event.step: event.learning_rate for event in second.written(StepMetrics) if event.attempt == 1}
    assert list(new) == [4, 5, 6, 7, 8]
    assert new == pytest.approx({step: old[step] / 10 for step in new}, rel=1e-9)


def test_a_rate_set_by_hand_outlives_a_longer_run_but_not_a_new_rate(tiny: Any) -> None:
    given = ("save_strategy=steps", "save_steps=3", "lr_scheduler_type=constant")

    def start(*more: str, directory: str) -> Any:
        run = tiny.run(*given, "max_steps=4", directory=directory)
        send(run.layout, "set", {"learning_rate": 5e-5})
        run.train()
        return tiny.run(*given, *more, directory=directory)

    longer = start("max_steps=6", "warmup_steps=1", directory="longer")
    longer.train()
    assert [event.learning_rate for event in longer.written(StepMetrics)][-2:] == pytest.approx([5e-5, 5e-5])
    other = start("max_steps=6", "learning_rate=2e-4", directory="other")
    other.train()
    assert [event.learning_rate for event in other.written(StepMetrics)][-2:] == pytest.approx([2e-4, 2e-4])


def test_a_moved_end_and_a_new_rate_go_together(tiny: Any) -> None:
    given = (*SAVING, "save_steps=4", "max_steps=8", "lr_scheduler_type=linear", "warmup_steps=0")

    class Stretch(TrainerCallback):
        def __init__(self, run: Any) -> None:
            self._run = run

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 1:
                send(self._run.layout, "set", {"max_steps": 14, "schedule": "stretch"})

    first = tiny.run(*given)
    first.trainer.add_callback(Stretch(first))
    killed(first, before=6)
    second = tiny.run(*given, "learning_rate=5e-4")
    second.train()
    rates = {event.step: event.learning_rate for event in second.written(StepMetrics) if event.attempt == 1}
    assert list(rates) == list(range(5, 15))
    # from position 2 at step 2 to 8 at step 14: half a position a step
    expected = {step: 5e-4 * (1 - (2 + (step - 1 - 2) / 2) / 8) for step in rates}
    assert rates == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("lr_scheduler_type=linear", [1e-3 * (10 - step) / 8 for step in range(4, 10)]),
        ("lr_scheduler_type=constant", [1e-3] * 6),
        ("warmup_steps=8", [1e-3 * step / 8 for step in range(4, 9)]),
    ],
)
def test_a_new_shape_is_placed_where_the_run_is(tiny: Any, schedule: str, expected: list[float]) -> None:
    given = (*SAVING, "save_steps=4", "max_steps=10")
    killed(tiny.run(*given), before=6)
    run = tiny.run(*given, schedule)
    run.train()
    rates = [event.learning_rate for event in run.written(StepMetrics) if event.attempt == 1]
    assert rates[: len(expected)] == pytest.approx(expected, rel=1e-9)


def test_the_options_of_the_optimiser_follow_the_configuration(tiny: Any) -> None:
    given = (*SAVING, "save_steps=2", "max_steps=4", "weight_decay=0.1")
    killed(tiny.run(*given), before=4)
    run = tiny.run(*given, "weight_decay=0.3", "adam_beta2=0.9", "logging_steps=2", "max_grad_norm=0.5")
    run.train()
    groups = run.trainer.optimizer.param_groups
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0]
    assert {group["betas"] for group in groups} == {(0.9, 0.9)}
    assert [event.step for event in run.written(StepMetrics) if event.attempt] == [4]


def test_a_finished_run_goes_on_when_it_is_given_more_steps(tiny: Any) -> None:
    given = (*SAVING, "save_steps=3")
    tiny.run(*given, "max_steps=3").train()
    with pytest.raises(RefusedError, match="all its 3 steps"):
        tiny.run(*given, "max_steps=3").train()
    longer = tiny.run(*given, "max_steps=5")
    longer.train()
    assert [event.step for event in longer.written(StepMetrics)] == [1, 2, 3, 4, 5]
    assert [event.step for event in longer.written(RunFinished)] == [3, 5]


@pytest.mark.parametrize(
    ("option", "word"),
    [
        ("data.max_length=32", "data.max_length"),
        ("model.dtype=bfloat16", "model.dtype"),
        ("training.seed=7", "order of the rows"),
        ("optim=sgd", "afresh"),
        ("lora.r=4", "lora"),
    ],
)
def test_another_training_is_refused_unless_forced(tiny: Any, option: str, word: str) -> None:
    given = (*SAVING, "save_steps=2", "max_steps=4")
    killed(tiny.run(*given), before=4)
    with pytest.raises(RefusedError, match=word):
        tiny.run(*given, option)


def test_other_rows_are_refused_and_forced_begin_anew(tiny: Any) -> None:
    given = (*SAVING, "save_steps=2", "max_steps=8", "train_sampling_strategy=sequential")
    data = [{"input_ids": [number, 1, 2, 3], "labels": [number, 1, 2, 3]} for number in range(20)]
    first = tiny.run(*given, rows=data)
    killed(first, before=4)
    others = [{"input_ids": [100 + number, 1, 2], "labels": [100, 1, 2]} for number in range(30)]
    with pytest.raises(RefusedError, match="begun from the first one"):
        tiny.run(*given, rows=others, fingerprint="others")
    ResumeOrder(step=2, is_forced=True).write(first.layout)
    forced = tiny.run(*given, rows=others, fingerprint="others")
    seen = seen_by(forced)
    forced.train()
    assert seen[:24] == list(range(100, 124))
    assert forced.trainer.state.global_step == 8


def test_a_forced_optimiser_starts_afresh_and_keeps_the_rate(tiny: Any) -> None:
    given = (*SAVING, "save_steps=2", "max_steps=6")
    plain = tiny.run(*given, directory="plain")
    plain.train()
    first = tiny.run(*given)
    killed(first, before=4)
    ResumeOrder(step=2, is_forced=True).write(first.layout)
    forced = tiny.run(*given, "optim=sgd")
    assert type(forced.trainer.create_optimizer()).__name__ == "SGD"
    forced.train()
    assert [numbers[1] for numbers in rows(forced).values()] == pytest.approx(
        [numbers[1] for numbers in rows(plain).values()]
    )


def test_going_back_keeps_the_other_branch_and_forgets_its_commands(tiny: Any) -> None:
    given = (*SAVING, "save_steps=2", "max_steps=8", "lr_scheduler_type=constant", "warmup_steps=0")
    plain = tiny.run(*given, directory="plain")
    plain.train()
    first = tiny.run(*given)

    class Spoil(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 4:
                send(first.layout, "set", {"learning_rate": 0.5})

    first.trainer.add_callback(Spoil())
    killed(first, before=8)
    ResumeOrder(step=4).write(first.layout)
    second = tiny.run(*given)
    layout = second.layout
    assert second.resumption.state.step == 4
    assert [found.step for found in list_checkpoints(layout)] == [2, 4]
    assert find_checkpoint(layout).step == 4
    assert layout.latest.resolve() == layout.checkpoint(4)
    assert (layout.superseded / "1" / "step-000006" / "model.safetensors").is_file()
    order = ResumeOrder.read(layout)
    assert order is not None
    assert order.is_done
    killed(second, before=8)
    third = tiny.run(*given)
    assert third.resumption.state.step == 6
    third.train()
    assert weights(third, 8) == weights(plain, 8)
    resumed = [(event.step, event.attempt, event.superseded_steps) for event in third.written(RunResumed)]
    assert resumed == [(4, 1, 3), (6, 2, 1)]
    assert (layout.superseded / "1" / "step-000006").is_dir()


def test_a_branch_that_was_left_goes_on_in_a_run_of_its_own_as_it_would_have(tiny: Any) -> None:
    given = (*SAVING, "save_steps=2", "max_steps=8")
    plain = tiny.run(*given)
    plain.train()
    left = tiny.run(*given, directory="left")
    killed(left, before=7)
    root = left.layout.root.parent
    ResumeOrder(step=4).write(left.layout)
    tiny.run(*given, directory="left")
    other = RunLayout(root / "other")
    shutil.copytree(left.layout.superseded / "1" / "step-000006", other.checkpoint(6))
    ResumeOrder(6, is_done=True, parent=left.layout.id).write(other)
    new = tiny.run(*given, directory="other")
    assert new.resumption.state.step == 6
    new.train()
    assert weights(new, 8) == weights(plain, 8)


def test_going_back_finds_the_best_of_what_is_left(tiny: Any) -> None:
    run = tiny.run(
        *SAVING,
        "save_steps=2",
        "max_steps=6",
        "eval_strategy=steps",
        "eval_steps=2",
        "data.eval_split=x",
        eval_rows=tiny.rows(6, seed=3),
    )
    run.train()
    layout = run.layout
    scores = {
        found.step: (read_json(found.path / "manifest.json") or {})["eval_loss"] for found in list_checkpoints(layout)
    }
    assert (read_json(layout.checkpoints / "best.json") or {})["step"] == min(scores, key=lambda step: scores[step])
    go_back(layout, 4)
    best = read_json(layout.checkpoints / "best.json") or {}
    assert best["step"] == min((2, 4), key=lambda step: scores[step])
    assert find_checkpoint(layout, "best").step == best["step"]


def test_going_back_to_what_is_not_there_is_refused(tiny: Any) -> None:
    given = (*SAVING, "save_steps=2", "max_steps=4")
    first = tiny.run(*given)
    first.train()
    for step in (3, 2):
        (first.layout.checkpoint(2) / "optimizer.pt").write_bytes(b"broken")
        ResumeOrder(step=step).write(first.layout)
        with pytest.raises(RefusedError, match="gone back to"):
            tiny.run(*given)
    assert [found.step for found in list_checkpoints(first.layout)] == [2, 4]


def test_a_broken_checkpoint_is_out_of_the_way_after_the_resume(tiny: Any) -> None:
    given = (*SAVING, "save_steps=2", "max_steps=6")
    first = tiny.run(*given)
    killed(first, before=6)
    (first.layout.checkpoint(4) / "model.safetensors").write_bytes(b"broken")
    second = tiny.run(*given)
    assert second.resumption.state.step == 2
    assert find_checkpoint(second.layout).step == 2
    assert (second.layout.superseded / "1" / "step-000004").is_dir()


def test_a_checkpoint_without_its_state_or_optimiser_says_so(tiny: Any) -> None:
    given = (*SAVING, "save_steps=2", "max_steps=4")
    first = tiny.run(*given, "save_only_model=true")
    killed(first, before=4)
    with pytest.raises(RefusedError, match="weights only"):
        tiny.run(*given, "save_only_model=true")
    assert first.written(CheckpointSaved)
    (first.layout.checkpoint(2) / "run_state.json").unlink()
    manifest = first.layout.checkpoint(2) / "manifest.json"
    manifest.write_text(manifest.read_text().replace("run_state.json", "trainer_state.json"))
    # the manifest would not let it pass, so it is told to
    assert CheckpointState.read(first.layout.checkpoint(2)) is None


def test_a_rank_that_was_not_there_gets_its_own_random_numbers(tiny: Any) -> None:
    given = (*SAVING, "save_steps=2", "max_steps=4", DROPOUT)
    killed(tiny.run(*given), before=4)
    states = []
    for directory in ("a", "b"):
        shutil.copytree(tiny.run(*given).layout.root, tiny.run(*given).layout.root.parent / directory)
        run = tiny.run(*given, directory=directory)
        (run.layout.checkpoint(2) / "rng_state.pth").unlink()
        run.trainer._load_rng_state(str(run.layout.checkpoint(2)))
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_a_run_killed_before_its_last_word_says_it_at_the_next_start(tiny: Any, tmp_path: Path) -> None:
    data = tiny.rows(22)
    given = (*SAVING, "save_steps=4", "max_steps=6", f"upkeep.copy_to={tmp_path / 'nas'}")
    whole = tiny.run(*given, rows=data, directory="whole")
    whole.train()
    first = tiny.run(*given, rows=data, directory="parts")
    first.trainer.add_callback(DieAtTheEnd())
    with pytest.raises(Killed):
        first.train()
    assert first.written(RunFinished) == []
    first.trainer._tools.copies.finish()
    shutil.rmtree(tmp_path / "nas" / first.layout.id)
    second = tiny.run(*given, rows=data, directory="parts")
    second.train()
    [finished] = second.written(RunFinished)
    assert (finished.step, finished.loss) == (6, whole.written(RunFinished)[0].loss)
    assert [event.step for event in second.written(CheckpointSaved)] == [4, 6]
    assert (tmp_path / "nas" / second.layout.id / "step-000006").is_dir()
    assert rows(second) == rows(whole)


@pytest.mark.parametrize(("name", "file"), [("FSDP", "pytorch_model_fsdp.bin"), ("DeepSpeed", "global_step2")])
def test_a_checkpoint_that_only_fsdp_or_deepspeed_reads_says_so(tiny: Any, name: str, file: str) -> None:
    given = (*SAVING, "save_steps=2", "max_steps=4")
    first = tiny.run(*given)
    killed(first, before=4)
    (first.layout.checkpoint(2) / file).touch()
    with pytest.raises(RefusedError, match=f"was written with {name}"):
        tiny.run(*given)
