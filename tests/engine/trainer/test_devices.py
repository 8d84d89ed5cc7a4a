"""What a rank finds of GPUs, against what it was started for."""

from __future__ import annotations

import pytest
import torch

from tui_trainer.config.schema import RunConfig
from tui_trainer.engine.trainer.devices import check_devices
from tui_trainer.errors import MachineError

CONFIG = RunConfig.model_validate({})


@pytest.fixture(autouse=True)
def launched(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `accelerate launch` starts a rank on a GPU."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    for name in ("ACCELERATE_USE_CPU", "LOCAL_WORLD_SIZE", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


def sees(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.parametrize(
    ("cuda", "hidden", "words"),
    [
        (None, None, "build without GPU support"),
        ("13.0", None, "too old for CUDA 13.0"),
        ("13.0", "9", "CUDA_VISIBLE_DEVICES is '9'"),
    ],
)
def test_a_run_for_gpus_is_not_computed_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch, cuda: str | None, hidden: str | None, words: str
) -> None:
    sees(monkeypatch, 0)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    with pytest.raises(MachineError, match=words):
        check_devices(CONFIG)


def test_two_ranks_do_not_share_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    sees(monkeypatch, 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    check_devices(CONFIG)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(MachineError, match="3 processes were started on this machine, and torch finds 2 GPUs"):
        check_devices(CONFIG)


@pytest.mark.parametrize("variable", [("ACCELERATE_USE_CPU", "True"), ("ACCELERATE_MIXED_PRECISION", None)])
def test_a_run_for_the_cpu_needs_no_gpu(monkeypatch: pytest.MonkeyPatch, variable: tuple[str, str | None]) -> None:
    sees(monkeypatch, 0)
    name, value = variable
    monkeypatch.delenv(name, raising=False)
    if value is not None:
        monkeypatch.setenv(name, value)
    check_devices(CONFIG)
    check_devices(RunConfig.model_validate({"training": {"use_cpu": True}}))
