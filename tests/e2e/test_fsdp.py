"""Two ranks over which the weights are spread (FSDP): training, evaluation, samples, checkpoints and going on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.e2e.conftest import PATIENCE, RealRun, Runs, config_of
from tests.engine.tiny import chat_model
from tui_trainer.engine.trainer.manifest import verify_checkpoint
from tui_trainer.procs.start import create_run
from tui_trainer.runs.events import CheckpointSaved, EvalMetrics, RunFinished, RunResumed, Sample, StepMetrics

pytestmark = pytest.mark.e2e

OPTIONS = (
    "training.fsdp=true",
    "training.fsdp_config={version = 2, activation_checkpointing = true}",
    "training.bf16=true",
    "training.weight_decay=0.1",
    "training.save_steps=3",
    "training.eval_strategy=steps",
    "training.eval_steps=3",
    "data.eval_split=test",
    "data.max_samples=60",
    "data.packing=true",
    'sampling.prompts=["March 5, 2021"]',
    "sampling.max_tokens=4",
    "launch.num_processes=2",
)


def test_spread_weights_are_saved_whole_and_trained_on_bit_by_bit(runs: Runs, tmp_path: Path) -> None:
    both = [RealRun(create_run(config_of(*OPTIONS), argv=["a test"], root=runs.root)) for _ in range(2)]
    directories = [str(run.layout.root) for run in both]
    command = [sys.executable, "-m", "tests.e2e.fsdp_ranks", str(tmp_path / "store"), *directories]
    base = {**os.environ, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            command,
            env={**base, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [rank.communicate(timeout=PATIENCE)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], said[0][-3000:]

    whole, resumed = both
    losses = [event.loss for event in whole.events(StepMetrics)]
    assert len(losses) == 6
    assert [event.step for event in whole.events(CheckpointSaved)] == [3, 6]
    assert [event.step for event in whole.events(Sample)] == [3, 6]
    assert [event.step for event in resumed.events(RunResumed)] == [3]
    assert len(resumed.events(RunFinished)) == 1
    assert [event.loss for event in resumed.events(StepMetrics)] == losses[3:]
    measured = [run.events(EvalMetrics)[-1].metrics["eval_loss"] for run in both]
    assert measured[0] == measured[1]
    # from 4 to 8 bfloat16 knows every 32nd, and the mean over two ranks every 64th
    assert all(loss is not None and 4 < loss < 8 for loss in losses)
    assert any(loss * 64 % 1 for loss in losses if loss is not None), "losses are rounded to 16 bits"

    last = [run.layout.checkpoint(6) for run in both]
    assert verify_checkpoint(last[0]) == []
    weights = [load_file(folder / "model.safetensors") for folder in last]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert chat_model(str(whole.layout.root)).num_parameters == sum(w.numel() for w in weights[0].values())
