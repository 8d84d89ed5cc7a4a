"""A run that was killed goes on exactly, through the whole chain: command line, supervisor, accelerate, ranks."""

from __future__ import annotations

import os
import signal

import pytest

from tests.e2e.conftest import RealRun, Runs, config_of
from tui_trainer.cli.app import run as command_line
from tui_trainer.procs.resume import find_target, resume_as_new_run
from tui_trainer.runs.events import CheckpointSaved, RunResumed, StepMetrics
from tui_trainer.runs.files import read_json
from tui_trainer.runs.status import State
from tui_trainer.runs.store import list_runs

pytestmark = pytest.mark.e2e

OPTIONS = (
    "training.max_steps=12",
    "training.save_steps=3",
    "training.train_sampling_strategy=random",
    "data.max_samples=30",
    "launch.num_cpu_threads_per_process=1",
)


def weights(run: RealRun, step: int = 12) -> bytes:
    return (run.layout.checkpoint(step) / "model.safetensors").read_bytes()


def losses(run: RealRun) -> dict[int, float | None]:
    return {event.step: event.loss for event in run.events(StepMetrics)}


def test_a_killed_run_and_its_branch_come_to_the_same_weights(runs: Runs) -> None:
    whole = runs.start(*OPTIONS, "launch.num_processes=2")
    assert whole.wait().state is State.FINISHED, whole.log()
    killed = runs.start(*OPTIONS, "launch.num_processes=2", "name=killed")
    killed.wait_until(lambda: killed.events(CheckpointSaved))
    rank = read_json(killed.layout.rank(1))
    assert rank is not None
    os.kill(int(rank["pid"]), signal.SIGKILL)
    assert killed.wait().state is State.FAILED
    assert command_line(["runs", "resume", "killed", "--json"]) == 0
    assert killed.events(RunResumed)[-1].superseded_steps is not None
    assert weights(killed) == weights(whole)
    assert losses(killed) == losses(whole)
    # as a run of its own, on one rank with batches as large as two had: the same rows, summed up in another order
    one = resume_as_new_run(
        find_target(f"{whole.layout.id}@6", runs.root),
        config_of(*OPTIONS, "training.per_device_train_batch_size=8", "name=alone"),
        argv=["a test"],
        root=runs.root,
    )
    alone = RealRun(one)
    runs.started.append(alone)
    assert alone.wait().state is State.FINISHED, alone.log()
    assert list(losses(alone)) == [7, 8, 9, 10, 11, 12]
    assert losses(alone) == pytest.approx({step: losses(whole)[step] for step in losses(alone)}, abs=1e-4)
    assert {record.info.get("parent") for record in list_runs(runs.root)} == {None, whole.layout.id}
