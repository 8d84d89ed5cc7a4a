"""The short form of `tests.bench.bench_disk`: one disk on which nothing fits, one on which all of it does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e


def test_a_training_waits_on_a_full_disk_and_loses_nothing(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs a small file system of its own, which only root may mount")
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)], capture_output=True)
    if mount.returncode:
        pytest.skip("no file system can be mounted here")
    subprocess.run(["umount", str(tmp_path)], check=True)
    command = [sys.executable, "-m", "tests.bench.bench_disk", "--sizes", "2"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "how='paused'" in done.stdout
    assert "how='finished'" in done.stdout
