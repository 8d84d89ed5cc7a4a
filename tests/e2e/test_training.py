"""Training from end to end: what the trainer leaves behind, alone, on two ranks, with an adapter, and when stopped."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.e2e.conftest import RealRun, Runs
from tui_trainer.cli.follow import tell_end
from tui_trainer.engine.trainer.manifest import verify_checkpoint
from tui_trainer.errors import RefusedError
from tui_trainer.procs.start import start_existing
from tui_trainer.procs.worker import Worker
from tui_trainer.runs.control import send
from tui_trainer.runs.data_consent import DataConsent
from tui_trainer.runs.events import (
    Alert,
    CheckpointSaved,
    ControlApplied,
    EvalMetrics,
    RunFailed,
    RunFinished,
    RunResumed,
    RunStarted,
    RunStopped,
    Sample,
    StepMetrics,
)
from tui_trainer.runs.files import read_json
from tui_trainer.runs.status import State, rank_processes

pytestmark = pytest.mark.e2e


def losses(run: RealRun) -> list[float | None]:
    return [event.loss for event in run.events(StepMetrics)]


def test_a_run_from_scratch_leaves_all_it_promises(runs: Runs) -> None:
    run = runs.start(
        "data.eval_split=test",
        "training.eval_strategy=steps",
        "training.eval_steps=3",
        "training.eval_on_start=true",
        "training.save_steps=4",
        "data.max_samples=200",
        'sampling.prompts=["March 5, 2021"]',
        "sampling.max_tokens=8",
        "sampling.num_exact_match=10",
    )
    status = run.wait()
    assert (status.state, status.step, status.exit_code) == (State.FINISHED, 6, 0), run.log()
    (started,) = run.events(RunStarted)
    assert (started.max_steps, started.num_rows) == (6, 200)
    assert [event.step for event in run.events(StepMetrics)] == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in run.events(EvalMetrics)] == [0, 3, 6]
    assert [event.step for event in run.events(Sample)] == [0, 3, 6]
    assert {"eval_loss", "eval_exact_match"} <= set(run.events(EvalMetrics)[0].metrics)
    assert [event.step for event in run.events(CheckpointSaved)] == [4, 6]
    assert len(run.events(RunFinished)) == 1
    for step in (4, 6):
        assert verify_checkpoint(run.layout.checkpoint(step)) == []
    assert (run.layout.root.stat().st_mode & 0o077) == 0
    assert all((path.stat().st_mode & 0o077) == 0 for path in run.layout.checkpoint(6).iterdir())
    data = read_json(run.layout.data)
    assert data is not None
    assert data["fingerprint"] == started.fingerprint


def test_two_ranks_learn_what_one_learns_from_the_double_batch(runs: Runs) -> None:
    options = (
        "data.eval_split=test",
        "training.eval_on_start=true",
        "data.max_samples=100",
        "training.weight_decay=0.1",
    )
    pair = runs.start("launch.num_processes=2", *options)
    assert pair.wait().state is State.FINISHED, pair.log()
    single = runs.start("training.per_device_train_batch_size=8", *options)
    assert single.wait().state is State.FINISHED, single.log()
    assert losses(pair) == pytest.approx(losses(single), abs=1e-5)
    assert [event.num_input_tokens for event in pair.events(StepMetrics)] == [
        event.num_input_tokens for event in single.events(StepMetrics)
    ]
    evals = [run.events(EvalMetrics)[0].metrics["eval_loss"] for run in (pair, single)]
    assert evals[0] == pytest.approx(evals[1], abs=1e-6)
    assert pair.events(RunStarted)[0].world_size == 2
    ranks = [read_json(pair.layout.rank(rank)) for rank in (0, 1)]
    assert len({rank["pid"] for rank in ranks if rank}) == 2
    names = {path.name for path in pair.layout.checkpoint(6).iterdir()}
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= names
    assert verify_checkpoint(pair.layout.checkpoint(6)) == []


def test_two_ranks_share_a_stream(runs: Runs) -> None:
    options = ("data.streaming=true", "data.packing=true", "data.shuffle_buffer=100", "training.max_steps=3")
    pair = runs.start("launch.num_processes=2", "training.dataloader_num_workers=1", *options)
    assert pair.wait().state is State.FINISHED, pair.log()
    single = runs.start("training.per_device_train_batch_size=8", *options)
    assert single.wait().state is State.FINISHED, single.log()
    assert losses(pair) == pytest.approx(losses(single), abs=1e-5)
    assert single.events(RunStarted)[0].num_rows is None


def test_an_adapter_is_trained_and_found_again(runs: Runs) -> None:
    base = runs.start("training.max_steps=2")
    assert base.wait().state is State.FINISHED, base.log()
    folder = base.layout.checkpoint(2)
    run = runs.start(
        "model.from_scratch=none",
        f"model.name_or_path={folder}",
        "model.tokenizer_name_or_path=none",
        "lora.r=4",
        "lora.alpha=8",
        "training.max_steps=3",
        "data.packing=true",
    )
    assert run.wait().state is State.FINISHED, run.log()
    started = run.events(RunStarted)[0]
    assert 0 < started.num_trainable_parameters < started.num_parameters / 2
    names = {path.name for path in run.layout.checkpoint(3).iterdir()}
    assert {
        "adapter_model.safetensors",
        "adapter_config.json",
        "chat_template.jinja",
        "generation_config.json",
    } <= names
    assert "model.safetensors" not in names
    from tests.engine.tiny import chat_model

    loaded = chat_model(str(run.layout.root))
    assert loaded.source.step == 3
    assert loaded.has_template


def test_a_stopped_run_of_two_ranks_goes_on_where_it_was(runs: Runs) -> None:
    options = ("launch.num_processes=2", "training.max_steps=400", "training.save_strategy=no")
    run = runs.start(*options)
    run.wait_until(lambda: run.events(StepMetrics))
    send(run.layout, "set", {"learning_rate": "x0.1"}, by="a test")
    run.wait_until(lambda: run.events(ControlApplied))
    send(run.layout, "stop", by="a test")
    status = run.wait()
    # an exit code other than 0 would mean that a rank aborted on its way out
    assert (status.state, status.exit_code) == (State.STOPPED, 0), run.log()
    (stopped,) = run.events(RunStopped)
    assert "a test" in stopped.reason
    saved = run.events(CheckpointSaved)[-1]
    assert saved.step == stopped.step < 400
    assert verify_checkpoint(run.layout.checkpoint(saved.step)) == []
    applied = run.events(ControlApplied)[0]
    rates = {event.step: event.learning_rate or 0.0 for event in run.events(StepMetrics)}
    assert rates[applied.step + 1] == pytest.approx(rates[applied.step] / 10, rel=0.01)
    start_existing(run.layout)
    run.wait_until(lambda: run.events(RunResumed))
    assert run.events(RunResumed)[0].step == saved.step
    send(run.layout, "stop", by="a test")
    assert run.wait().state is State.STOPPED, run.log()
    attempts = {event.attempt for event in run.events(StepMetrics)}
    assert attempts == {0, 1}


def test_commands_to_two_ranks_are_carried_out_once_each_and_the_end_moves(runs: Runs) -> None:
    run = runs.start("launch.num_processes=2", "training.max_steps=2000", "training.save_strategy=no")
    run.wait_until(lambda: run.events(StepMetrics))
    sent = [send(run.layout, "set", {"learning_rate": (number + 1) * 1e-5}).id for number in range(20)]
    (run.layout.control / "0.json").write_text("garbage")
    run.wait_until(lambda: len(run.events(ControlApplied)) > len(sent))
    end = run.events(StepMetrics)[-1].step + 200
    send(run.layout, "set", {"max_steps": end, "schedule": "keep"})
    run.wait_until(lambda: run.status.max_steps == end)
    assert run.wait().state is State.FINISHED, run.log()
    answers = run.events(ControlApplied)
    assert [answer.id for answer in answers if answer.id in sent] == sent
    assert [answer.command for answer in answers if answer.error] == ["refused"]
    assert run.status.step == end
    assert run.events(RunFinished)[0].step == end


def test_a_signal_to_one_of_two_ranks_saves_on_both(runs: Runs) -> None:
    run = runs.start("launch.num_processes=2", "training.max_steps=2000", "training.logging_steps=5")
    run.wait_until(lambda: run.events(StepMetrics))
    rank = read_json(run.layout.rank(1))
    assert rank is not None
    os.kill(int(rank["pid"]), signal.SIGTERM)
    status = run.wait()
    assert status.state is State.STOPPED, run.log()
    (stopped,) = run.events(RunStopped)
    assert stopped.reason == "asked to stop by SIGTERM"
    folder = run.layout.checkpoint(stopped.step)
    assert verify_checkpoint(folder) == []
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= {path.name for path in folder.iterdir()}


def test_a_run_that_cannot_begin_says_why(runs: Runs, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"input": "a", "output": "b"}\n' * 20)
    run = runs.start(
        f"data.path={tmp_path / 'rows.jsonl'}", 'data.columns={prompt = "question", completion = "output"}'
    )
    status = run.wait()
    assert status.state is State.FAILED
    assert status.reason == "configuration", run.log()
    (failed,) = run.events(RunFailed)
    assert "question" in failed.message


def test_lost_answers_need_a_yes_that_travels_with_the_run(runs: Runs, tmp_path: Path) -> None:
    answers = ["short"] * 3 + ["long answer " * 20] + ["short"] * 4
    rows = [{"prompt": f"question {number}", "completion": answer} for number, answer in enumerate(answers)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = runs.start(f"data.path={tmp_path / 'rows.jsonl'}", "data.max_length=100", "training.max_steps=2")
    status = run.wait()
    assert (status.state, status.reason, status.step) == (State.FAILED, "refused", 0), run.log()
    assert f"{tmp_path / 'rows.jsonl'}:4" in status.message
    assert "--force" in status.remedy
    with pytest.raises(RefusedError, match="part of the answer is lost"):
        tell_end(run.layout)
    DataConsent(frozenset({"double_bos"})).write(run.layout)
    assert DataConsent.read(run.layout).missing(["answer_cut", "double_bos"]) == ["answer_cut"]
    DataConsent(frozenset({"answer_cut"}), by="a test").write(run.layout)
    start_existing(run.layout)
    assert run.wait().state is State.FINISHED, run.log()


async def test_what_the_preview_shows_is_what_the_first_batch_holds(tmp_path: Path) -> None:
    from tests.e2e.conftest import config_of
    from tui_trainer.engine.data.prepare import prepare_data
    from tui_trainer.engine.models.tokenizer import load_tokenizer
    from tui_trainer.engine.trainer.flat import FlatCollator
    from tui_trainer.tui.widgets.sample import Sample

    config = config_of("data.max_samples=50").config
    data = prepare_data(config, load_tokenizer(config.model))
    rows = [data.train[index] for index in range(4)]
    flat = FlatCollator()(rows)
    padded = data.collator(rows)
    worker = Worker("data")
    try:
        shown = [
            await worker.call("sample", {"config": config.model_dump(mode="json"), "split": "train", "row": row})
            for row in range(4)
        ]
    finally:
        await worker.close()
    on_screen = [Sample.of(row) for row in shown]
    ids_of = [[sample.id_of(token) for token in range(sample.num_tokens)] for sample in on_screen]
    labels_of = [[sample.label_of(token) for token in range(sample.num_tokens)] for sample in on_screen]
    assert flat["input_ids"][0].tolist() == [token for ids in ids_of for token in ids]
    assert flat["labels"][0].tolist() == [label for labels in labels_of for label in labels]
    for number, (ids, labels) in enumerate(zip(ids_of, labels_of, strict=True)):
        length = len(ids)
        assert padded["input_ids"][number].tolist()[:length] == ids
        assert padded["labels"][number].tolist()[:length] == labels
        assert set(padded["labels"][number].tolist()[length:]) <= {-100}


def test_a_lost_rank_of_two_starts_the_run_again_from_its_last_checkpoint(runs: Runs) -> None:
    run = runs.start(
        "launch.num_processes=2",
        "launch.max_restarts=2",
        "launch.restart_delay=0",
        "training.max_steps=30",
        "training.save_steps=5",
        "training.per_device_train_batch_size=1",
    )
    run.wait_until(lambda: len(run.events(CheckpointSaved)) >= 2)
    os.kill(rank_processes(run.layout)[-1].pid, signal.SIGKILL)
    status = run.wait()
    assert (status.state, status.step, status.restarts) == (State.FINISHED, 30, 1), run.log()
    (resumed,) = run.events(RunResumed)
    assert resumed.step >= 10
    assert resumed.step % 5 == 0
    (alert,) = [event for event in run.events(Alert) if event.kind == "restart"]
    assert "starts again" in alert.message
    assert {event.step for event in run.events(StepMetrics)} == set(range(1, 31))
