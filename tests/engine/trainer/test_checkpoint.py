"""Checkpoints are whole or not there, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from tui_trainer.engine.trainer.checkpoint import Checkpoints, Score, newest_whole
from tui_trainer.engine.trainer.group import Group
from tui_trainer.engine.trainer.journal import EventLog
from tui_trainer.engine.trainer.manifest import verify_checkpoint, write_manifest
from tui_trainer.errors import RefusedError
from tui_trainer.runs.control import send
from tui_trainer.runs.events import Alert, CheckpointSaved, RunFinished, RunResumed, RunStopped, StepMetrics, decode
from tui_trainer.runs.files import read_json
from tui_trainer.runs.journal import read_lines
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.store import list_checkpoints


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    layout = RunLayout(tmp_path / "run")
    layout.checkpoints.mkdir(parents=True)
    return layout


def make(layout: RunLayout, **named: Any) -> Checkpoints:
    group = Group(0, 1, torch.device("cpu"))
    return Checkpoints(layout, group, EventLog(layout, is_writer=True), **named)


def writer(checkpoints: Checkpoints, step: int, text: str = "weights") -> Callable[[], None]:
    def write() -> None:
        folder = checkpoints.folder(step)
        folder.mkdir()
        (folder / "model.safetensors").write_text(text)

    return write


def save(checkpoints: Checkpoints, step: int, value: float | None = None) -> bool:
    score = None if value is None else Score("eval_loss", value, greater_is_better=False)
    return checkpoints.save(step, writer(checkpoints, step), score)


def alerts(layout: RunLayout) -> list[Alert]:
    events = (decode(line) for line in read_lines(layout.events))
    return [event for event in events if isinstance(event, Alert)]


def test_a_checkpoint_is_published_whole_with_its_digests(layout: RunLayout) -> None:
    assert save(make(layout), 120)
    path = layout.checkpoint(120)
    assert verify_checkpoint(path) == []
    assert layout.latest.readlink() == Path("step-000120")
    assert layout.latest.resolve() == path
    assert not layout.staging.exists()


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda file: file.write_text("weightX"), "changed"),
        (lambda file: file.write_text("weigh"), "bytes"),
        (lambda file: file.unlink(), "cannot be read"),
        (lambda file: (file.parent / "manifest.json").write_text("{"), "manifest"),
        (lambda file: (file.parent / "manifest.json").write_text('{"files": {"a": 1, "b": {}}}'), "cannot be read"),
    ],
)
def test_damage_is_found_and_the_checkpoint_before_is_taken(
    layout: RunLayout, damage: Callable[[Path], object], word: str
) -> None:
    checkpoints = make(layout)
    assert save(checkpoints, 1)
    assert save(checkpoints, 2)
    damage(layout.checkpoint(2) / "model.safetensors")
    assert word in " ".join(verify_checkpoint(layout.checkpoint(2)))
    path, skipped = newest_whole(layout)
    assert path == layout.checkpoint(1)
    assert len(skipped) == 1
    assert "checkpoint 2" in skipped[0]


def test_a_damaged_size_is_found_without_reading_the_file(layout: RunLayout) -> None:
    save(make(layout), 1)
    file = layout.checkpoint(1) / "model.safetensors"
    file.write_text("weightX")
    assert verify_checkpoint(layout.checkpoint(1), deep=False) == []
    file.write_text("w")
    assert verify_checkpoint(layout.checkpoint(1), deep=False)


def test_a_full_disk_costs_one_checkpoint_and_an_alert(layout: RunLayout) -> None:
    checkpoints = make(layout)
    assert save(checkpoints, 1)

    def write() -> None:
        writer(checkpoints, 2)()
        raise OSError(errno.ENOSPC, "No space left on device")

    assert not checkpoints.save(2, write)
    assert [(alert.kind, alert.step) for alert in alerts(layout)] == [("disk", 2)]
    assert not layout.staging.exists()
    assert [checkpoint.step for checkpoint in list_checkpoints(layout)] == [1]
    assert save(checkpoints, 3)
    assert checkpoints.last_error is None


def test_nothing_is_written_where_there_is_no_room(layout: RunLayout) -> None:
    checkpoints = make(layout, expected_bytes=10**18)
    assert not checkpoints.save(1, lambda: pytest.fail("written all the same"))
    assert "needs about 954969.4 TiB" in alerts(layout)[0].message


def test_any_other_error_of_a_library_is_an_alert_too(layout: RunLayout) -> None:
    checkpoints = make(layout)

    def write() -> None:
        raise RuntimeError("PytorchStreamWriter failed")

    assert not checkpoints.save(1, write)
    assert alerts(layout)[0].kind == "checkpoint"
    assert "PytorchStreamWriter" in alerts(layout)[0].message


def die(*_: Any) -> None:
    os._exit(9)


@pytest.mark.parametrize("moment", ["writing", "manifest", "rename"])
def test_a_kill_at_any_moment_leaves_the_published_ones(
    layout: RunLayout, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = make(layout)
    assert save(checkpoints, 1)
    child = os.fork()
    if child == 0:
        if moment == "writing":
            checkpoints.save(2, die)
        if moment == "manifest":
            monkeypatch.setattr("tui_trainer.engine.trainer.checkpoint.write_manifest", die)
        monkeypatch.setattr(Path, "rename", die)
        save(checkpoints, 2)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert [checkpoint.step for checkpoint in list_checkpoints(layout)] == [1]
    assert newest_whole(layout) == (layout.checkpoint(1), [])
    again = make(layout)
    assert save(again, 2)
    assert verify_checkpoint(layout.checkpoint(2)) == []
    assert not layout.staging.exists()


def test_rotation_keeps_the_newest_and_the_best(layout: RunLayout) -> None:
    checkpoints = make(layout, keep=2)
    for step, loss in ((1, 0.5), (2, 0.2), (3, 0.4), (4, 0.3)):
        assert save(checkpoints, step, loss)
    assert [checkpoint.step for checkpoint in list_checkpoints(layout)] == [2, 4]
    best = {"step": 2, "metric": "eval_loss", "value": 0.2, "greater_is_better": False}
    assert read_json(layout.checkpoints / "best.json") == best
    saved = [event for line in read_lines(layout.events) if isinstance(event := decode(line), CheckpointSaved)]
    assert [event.is_best for event in saved] == [True, True, False, False]


def test_every_so_many_steps_one_is_kept_for_good(layout: RunLayout) -> None:
    checkpoints = make(layout, keep=2, keep_every=3)
    for step in range(1, 9):
        assert save(checkpoints, step)
    assert [checkpoint.step for checkpoint in list_checkpoints(layout)] == [3, 6, 7, 8]


def test_rotation_without_a_score_keeps_the_newest(layout: RunLayout) -> None:
    checkpoints = make(layout, keep=2)
    for step in (1, 2, 3, 4):
        save(checkpoints, step)
    assert [checkpoint.step for checkpoint in list_checkpoints(layout)] == [3, 4]


def test_a_score_that_is_no_number_is_never_the_best() -> None:
    assert not Score("eval_loss", float("nan"), greater_is_better=False).beats(None)
    assert not Score("eval_loss", float("nan"), greater_is_better=True).beats(0.1)
    assert Score("eval_exact_match", 0.2, greater_is_better=True).beats(0.1)
    assert not Score("eval_loss", 0.2, greater_is_better=False).beats(0.1)


def test_a_step_reached_again_replaces_its_checkpoint(layout: RunLayout) -> None:
    assert save(make(layout), 5)
    checkpoints = make(layout)
    assert checkpoints.save(5, writer(checkpoints, 5, "other weights"))
    assert (layout.checkpoint(5) / "model.safetensors").read_text() == "other weights"
    assert verify_checkpoint(layout.checkpoint(5)) == []


def test_manifest_covers_files_in_folders(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "part.bin").write_bytes(b"12345")
    assert write_manifest(tmp_path, 3) == 5
    (tmp_path / "a" / "b" / "part.bin").write_bytes(b"12346")
    assert verify_checkpoint(tmp_path) == ["a/b/part.bin was changed or damaged"]


def test_a_run_saves_what_chat_and_vllm_need(tiny: Any) -> None:
    run = tiny.run("save_strategy=steps", "save_steps=4")
    run.train()
    assert [event.step for event in run.written(CheckpointSaved)] == [4, 6]
    folder = run.layout.checkpoint(6)
    names = {path.name for path in folder.iterdir()}
    assert {"model.safetensors", "chat_template.jinja", "generation_config.json", "manifest.json"} <= names
    assert "training_args.bin" not in names
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert tokenizer.eos_token_id in model.generation_config.eos_token_id
    assert model.config.use_cache is True
    assert model.config._attn_implementation == "sdpa"
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), run.model.parameters(), strict=True))
    assert tokenizer.chat_template == run.tokenizer.chat_template
    for path in folder.iterdir():
        assert b"split_sdpa" not in path.read_bytes()


@pytest.mark.parametrize("strategy", ["steps", "epoch", "best"])
def test_the_end_is_always_saved(tiny: Any, strategy: str) -> None:
    run = tiny.run(
        f"save_strategy={strategy}",
        "save_steps=100",
        "max_steps=4",
        "data.eval_split=x",
        "eval_strategy=steps",
        "eval_steps=100",
        "eval_delay=50",
        eval_rows=tiny.rows(4),
    )
    run.train()
    assert [event.step for event in run.written(CheckpointSaved)] == [4]
    assert len(run.written(RunFinished)) == 1


def test_nothing_is_saved_where_nobody_wants_it(tiny: Any) -> None:
    run = tiny.run("save_strategy=no")
    run.train()
    assert list_checkpoints(run.layout) == []


def test_a_run_goes_on_from_its_last_whole_checkpoint_bit_by_bit(tiny: Any) -> None:
    options = ("save_strategy=steps", "save_steps=2", "max_steps=6", "lr_scheduler_type=cosine", "warmup_steps=2")
    whole = tiny.run(*options, directory="whole")
    whole.train()
    first = tiny.run(*options, directory="parts")
    first.trainer.add_callback(_StopAfter(first.layout, 4))
    first.train()
    assert [event.step for event in first.written(RunStopped)] == [4]
    (first.layout.checkpoint(4) / "model.safetensors").write_bytes(b"broken")
    second = tiny.run(*options, directory="parts")
    assert second.checkpoint == str(first.layout.checkpoint(2))
    second.train()
    assert [alert.kind for alert in second.written(Alert)] == ["checkpoint"]
    assert [(event.step, event.attempt) for event in second.written(RunResumed)] == [(2, 1)]
    steps = {event.step: event for event in second.written(StepMetrics)}
    expected = {event.step: event for event in whole.written(StepMetrics)}
    assert [steps[step].loss for step in range(1, 7)] == [expected[step].loss for step in range(1, 7)]
    assert steps[6].num_input_tokens == expected[6].num_input_tokens
    assert (second.layout.checkpoint(6) / "model.safetensors").read_bytes() == (
        whole.layout.checkpoint(6) / "model.safetensors"
    ).read_bytes()
    with pytest.raises(RefusedError, match="all its 6 steps"):
        tiny.run(*options, directory="parts").train()


def _StopAfter(layout: RunLayout, step: int) -> Any:  # noqa: N802
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == step - 1:
                send(layout, "stop", by="a test")

    return Stop()


def test_the_best_checkpoint_can_be_the_end(tiny: Any) -> None:
    run = tiny.run(
        "save_strategy=steps",
        "save_steps=2",
        "eval_strategy=steps",
        "eval_steps=2",
        "load_best_model_at_end=true",
        "data.eval_split=x",
        "learning_rate=5",
        "warmup_steps=6",
        "max_steps=6",
        "save_total_limit=1",
        eval_rows=tiny.rows(6, seed=3),
    )
    run.train()
    best = read_json(run.layout.checkpoints / "best.json")
    assert best is not None
    assert best["step"] < 6
    saved = AutoModelForCausalLM.from_pretrained(run.layout.checkpoint(best["step"]))
    pairs = zip(saved.parameters(), run.model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert [checkpoint.step for checkpoint in list_checkpoints(run.layout)] == [best["step"], 6]


def test_a_damaged_best_checkpoint_is_not_the_end(tiny: Any) -> None:
    run = tiny.run(
        "save_strategy=steps",
        "save_steps=2",
        "eval_strategy=steps",
        "eval_steps=2",
        "load_best_model_at_end=true",
        "data.eval_split=x",
        "learning_rate=5",
        "max_steps=4",
        eval_rows=tiny.rows(6, seed=3),
    )

    class Damage(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 3:
                (run.layout.checkpoint(2) / "model.safetensors").write_bytes(b"damaged")

    run.trainer.add_callback(Damage())
    run.train()
    assert (read_json(run.layout.checkpoints / "best.json") or {})["step"] == 2
    (alert,) = [alert for alert in run.written(Alert) if alert.kind == "checkpoint"]
    assert "step-000002" in alert.message
    last = AutoModelForCausalLM.from_pretrained(run.layout.checkpoint(4))
    assert all(torch.equal(one, other) for one, other in zip(last.parameters(), run.model.parameters(), strict=True))
