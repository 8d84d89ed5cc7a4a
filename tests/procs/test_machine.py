"""Readings of the machine, from recorded answers of nvidia-smi where there is no GPU."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest

from tui_trainer.procs.hardware import (
    Gpu,
    detect_gpus,
    gpu_memory_by_process,
    parse_gpu,
    read_disk_free,
    read_memory,
    visible_gpus,
)
from tui_trainer.procs.machine import MachineSampler

GIB = 1 << 30

RECORDED = """\
0, GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77, 8.0, NVIDIA A100-SXM4-80GB, 81920, 61440, 98
1, GPU-0e1b3c44-7c1e-4b7c-8f0a-0d6e7a1b2c3d, 8.0, NVIDIA A100-SXM4-80GB, 81920, 4, 0
2, GPU-9f8e7d6c-5b4a-3928-1706-f5e4d3c2b1a0, [N/A], NVIDIA A100-SXM4-80GB MIG 1g.10gb, [N/A], [N/A], [N/A]
3, GPU-11112222-3333-4444-5555-666677778888, 3.5, Tesla K40m, Rev. B, 11441, [Unknown Error], [Not Supported]
"""


def install_nvidia_smi(directory: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a program of that name first on the path."""
    program = directory / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_recorded_lines() -> None:
    gpus = [gpu for line in RECORDED.splitlines() if (gpu := parse_gpu(line))]
    assert gpus[0] == Gpu(
        0, "NVIDIA A100-SXM4-80GB", 80 * GIB, 60 * GIB, 98.0, "GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77", 8.0
    )
    assert [gpu.has_bf16 for gpu in gpus] == [True, True, None, False]
    assert (gpus[2].memory_total, gpus[2].memory_used, gpus[2].utilization) == (None, None, None)
    assert gpus[3].name == "Tesla K40m, Rev. B"
    assert (gpus[3].memory_total, gpus[3].memory_used, gpus[3].utilization) == (11441 << 20, None, None)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "No devices were found",
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",
        "Unable to determine the device handle for GPU0000:41:00.0: Unknown Error",
        "1, 2, 3",
    ],
)
def test_lines_that_are_no_gpu(line: str) -> None:
    assert parse_gpu(line) is None


@pytest.mark.parametrize(
    ("variable", "indices"),
    [
        (None, [0, 1, 2, 3]),
        ("", []),
        ("1", [1]),
        ("2,0", [2, 0]),
        ("0,7,1", [0]),
        ("-1", []),
        ("1,1", [1]),
        ("GPU-0e1b3c44", [1]),
        ("GPU-", []),
        (" 3 , 2 ", [3, 2]),
        ("nonsense", []),
    ],
)
def test_visible_gpus_are_those_cuda_would_see(variable: str | None, indices: list[int]) -> None:
    gpus = [gpu for line in RECORDED.splitlines() if (gpu := parse_gpu(line))]
    assert [gpu.index for gpu in visible_gpus(gpus, variable)] == indices


def test_a_part_of_a_divided_gpu_is_one_gpu() -> None:
    gpus = [gpu for line in RECORDED.splitlines()[:2] if (gpu := parse_gpu(line))]
    (part,) = visible_gpus(gpus, "MIG-GPU-5d5ba0d6/7/0,MIG-c0ffee")
    assert (part.uuid, part.memory_total, part.has_bf16) == ("MIG-GPU-5d5ba0d6/7/0", None, True)
    assert visible_gpus([], "MIG-c0ffee") == []


def test_gpus_of_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_nvidia_smi(tmp_path, f"cat <<'EOF'\n{RECORDED}EOF", monkeypatch)
    assert [gpu.index for gpu in detect_gpus()] == [0, 1, 2, 3]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert [gpu.index for gpu in detect_gpus()] == [3]


@pytest.mark.parametrize("script", ["echo 'NVIDIA-SMI has failed'; exit 9", "exit 0", "kill -9 $$"])
def test_a_broken_driver_means_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    install_nvidia_smi(tmp_path, script, monkeypatch)
    assert detect_gpus() == []
    assert gpu_memory_by_process() == {}


def test_a_driver_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_nvidia_smi(tmp_path, "exec sleep 600", monkeypatch)
    monkeypatch.setattr("tui_trainer.procs.hardware._TIMEOUT_SECONDS", 0.2)
    assert detect_gpus() == []


def test_without_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert detect_gpus() == []
    assert gpu_memory_by_process() == {}


def test_memory_that_processes_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_nvidia_smi(tmp_path, "printf '4242, 1024\\n4242, 512\\n77, [N/A]\\nnonsense\\n'", monkeypatch)
    assert gpu_memory_by_process() == {4242: 1536 << 20, 77: 0}


def test_memory_and_disk_of_this_machine(tmp_path: Path) -> None:
    total, available = read_memory()
    assert total is not None
    assert available is not None
    assert 0 < available <= total
    free = read_disk_free(tmp_path / "not" / "there" / "yet")
    assert free is not None
    assert free > 0


async def test_sampler_reads_again_and_again_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f"echo $$ > {tmp_path}/pid\nwhile true; do cat <<'EOF'\n{RECORDED}EOF\nsleep 0.05; done"
    install_nvidia_smi(tmp_path, script, monkeypatch)
    sampler = MachineSampler(tmp_path, seconds=0.05)
    await sampler.start()
    await sampler.start()
    async with asyncio.timeout(20):
        while sampler.reading is None or len(sampler.reading.gpus) < 4 or sampler.reading.cpu_percent is None:
            await asyncio.sleep(0.01)
    assert 0 <= sampler.reading.cpu_percent <= 100
    pid = int((tmp_path / "pid").read_text())
    await sampler.close()
    assert not Path(f"/proc/{pid}").exists()


async def test_sampler_forgets_gpus_of_a_driver_that_went_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_nvidia_smi(tmp_path, f"cat <<'EOF'\n{RECORDED}EOF\nsleep 0.3", monkeypatch)
    sampler = MachineSampler(tmp_path, seconds=0.02)
    await sampler.start()
    async with asyncio.timeout(20):
        while sampler.reading is None or not sampler.reading.gpus:
            await asyncio.sleep(0.01)
        while sampler.reading.gpus:
            await asyncio.sleep(0.01)
    await sampler.close()


async def test_sampler_without_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    sampler = MachineSampler(tmp_path, seconds=0.01)
    await sampler.start()
    async with asyncio.timeout(20):
        while sampler.reading is None:
            await asyncio.sleep(0.01)
    assert sampler.reading.gpus == ()
    assert sampler.reading.memory_total
    await sampler.close()
