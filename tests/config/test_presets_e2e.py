"""The presets for two cores really train: ten steps of each through the command line."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

SMALL = {
    "dates-from-scratch": (),
    "pretrain-from-scratch": ("training.per_device_train_batch_size=2", "data.max_length=256"),
}
NEED_SMOLLM2 = {
    "identity-lora": ("training.per_device_train_batch_size=2",),
    "sft-lora": ("training.num_train_epochs=4", "data.max_length=128"),
    "sft-full": (
        "training.save_only_model=true",
        "training.gradient_accumulation_steps=1",
        "data.max_length=64",
        "training.per_device_train_batch_size=1",
    ),
    "pretrain-continued": (
        "training.save_only_model=true",
        "data.max_length=64",
        "training.per_device_train_batch_size=1",
    ),
}
SHORT = (
    "training.max_steps=10",
    "training.eval_strategy=no",
    "training.eval_on_start=false",
    "training.load_best_model_at_end=false",
    "data.max_samples=400",
    "launch.num_processes=1",
)


@pytest.mark.parametrize("name", SMALL)
def test_ten_steps_without_any_download(name: str, tmp_path: Path) -> None:
    _train_ten_steps(name, SMALL[name], tmp_path, {"TUI_TRAINER_HOME": str(tmp_path / "home")})


@pytest.mark.model
@pytest.mark.parametrize("name", NEED_SMOLLM2)
def test_ten_steps_of_the_demo_model(name: str, tmp_path: Path) -> None:
    _train_ten_steps(name, NEED_SMOLLM2[name], tmp_path, {})


def _train_ten_steps(name: str, changes: tuple[str, ...], folder: Path, env: dict[str, str]) -> None:
    command = [sys.executable, "-m", "tui_trainer", "train", name, "--json", "--force"]  # the short rows cut answers
    for assignment in (*SHORT, *changes):
        command += ["--set", assignment]
    environment = {**os.environ, "TUI_TRAINER_RUNS": str(folder / "runs"), **env}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=290, check=False)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    losses = [event["loss"] for event in events if event["type"] == "StepMetrics"]
    assert len(losses) == 10
    assert all(math.isfinite(loss) and loss > 0 for loss in losses)
    assert events[-1]["type"] == "RunFinished"
