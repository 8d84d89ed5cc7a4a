"""`train --resume` and `runs resume`: the plan before anything is started, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import CONFIG, Call, made_run
from tui_trainer.config.resolve import Layer, Values, resolve
from tui_trainer.config.toml import parse_document
from tui_trainer.engine.trainer.manifest import write_manifest
from tui_trainer.errors import ExitCode
from tui_trainer.procs.hardware import detect_gpus
from tui_trainer.runs.checkpoint_state import CheckpointState, DataPosition
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.resume_order import ResumeOrder
from tui_trainer.runs.status import State, read_status, write_status
from tui_trainer.runs.store import list_runs

ALONE = CONFIG + "[launch]\nnum_processes = 1\n"


@pytest.fixture
def run(store: Path) -> RunLayout:
    layout = made_run(store, "trial", State.STOPPED, config=ALONE, step=2500, max_steps=100000)
    config = resolve([Values(Layer.FILE, parse_document(ALONE, "a.toml"))]).config.model_dump(mode="json")
    for step in (1000, 2000):
        folder = layout.checkpoint(step)
        folder.mkdir()
        for name in ("model.safetensors", "scheduler.pt", "rng_state.pth"):
            (folder / name).write_text(name)
        CheckpointState(
            step=step,
            max_steps=100000,
            config=config,
            learning_rate=1e-4,
            position=DataPosition(num_done=8 * step, num_rows=10**6, seed=42),
        ).write(folder)
        write_manifest(folder, step)
    return layout


def test_the_plan_of_going_on_in_the_same_run(call: Call, run: RunLayout) -> None:
    printed = call("runs", "resume", f"{run.id}@1000", "--dry-run")
    assert printed.code == ExitCode.DONE
    assert "from step 1,000 of 100,000, in the same run" in printed.out
    assert "epoch 1, after row 8000 of 1000000" in printed.out
    assert "1500 later steps stay in the file, superseded" in printed.out
    assert ResumeOrder.read(run) is None
    document: dict[str, Any] = call("runs", "resume", "trial", "--dry-run", "--json", "--set", "max_steps=9000").json()
    assert (document["run"], document["step"], document["new_run"]) == (run.id, 2000, False)
    assert document["max_steps"] == {"before": 100000, "now": 9000}
    assert document["learning_rate"]["now"][-1][0] == 9000
    if not detect_gpus():
        assert [entry["key"] for entry in document["differences"]] == ["training.max_steps"]


def test_the_plan_of_a_new_run(call: Call, run: RunLayout, tmp_path: Path, store: Path) -> None:
    config = tmp_path / "trial.toml"
    config.write_text(ALONE.replace("1e-4", "3e-4"))
    printed = call("train", str(config), "--resume", run.id, "--dry-run")
    assert printed.code == ExitCode.DONE
    assert "as a new run" in printed.out
    assert "0.0001 → 0.0003" in printed.out
    assert "jumps from 9.8e-05 to 0.000294" in printed.out
    assert "accelerate launch" in printed.out
    assert call("train", str(config), "--resume", run.id, "--dry-run", "--json").json()["new_run"] is True
    assert len(list_runs(store)) == 1


def test_another_training_is_refused_with_the_way_to_mean_it(call: Call, run: RunLayout, store: Path) -> None:
    printed = call("runs", "resume", run.id, "--set", "data.max_length=77")
    assert printed.code == ExitCode.REFUSED
    assert "data.max_length differs (the rows are others" in printed.err
    assert "--force" in printed.err
    assert len(list_runs(store)) == 1


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nothing"], ExitCode.USAGE, "there is no run"),
        (["trial@7"], ExitCode.USAGE, "it has 1000, 2000"),
        (["trial", "--set", "training.max_stepz=2"], ExitCode.USAGE, "did you mean"),
    ],
)
def test_what_cannot_be_resumed(call: Call, run: RunLayout, words: list[str], code: ExitCode, message: str) -> None:
    printed = call("runs", "resume", *words)
    assert printed.code == code
    assert message in printed.err
    assert ResumeOrder.read(run) is None


def test_a_run_that_came_to_its_end_has_nothing_to_resume(call: Call, run: RunLayout) -> None:
    write_status(run, replace(read_status(run), state=State.FINISHED))
    printed = call("runs", "resume", "trial", "--set", "training.max_steps=2000")
    assert printed.code == ExitCode.REFUSED
    assert "all its 2000 steps" in printed.err
    assert ResumeOrder.read(run) is None
