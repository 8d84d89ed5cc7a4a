"""The short form of the fault injection in `tests/bench/kills.py`, which has the long one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = Path(__file__).parents[1] / "bench" / "kills.py"

pytestmark = pytest.mark.e2e


def test_killed_trainings_come_to_the_weights_of_one_that_was_not() -> None:
    command = [sys.executable, str(KILLS), "short", "--count", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    summary = json.loads(done.stdout.strip().splitlines()[-1] if done.returncode == 0 else "{}")
    assert summary.get("failures") == 0, done.stdout + done.stderr
    assert summary["kills"] >= 3
