"""SIGTERM to a rank: remembered while training, not doubled by the launcher's echo."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys

import pytest

RANK = """
import sys
from tui_trainer.engine.trainer import termination
termination.ECHO_SECONDS = float(sys.argv[1])
rank = termination.Termination()
rank.install()
rank.is_training = True
print("ready", flush=True)
for _ in range(2):
    sys.stdin.readline()
    print(rank.is_requested, flush=True)
"""


@pytest.mark.parametrize(("echo_seconds", "survives"), [(60.0, True), (0.0, False)])
def test_second_signal(echo_seconds: float, survives: bool) -> None:
    rank = subprocess.Popen(
        [sys.executable, "-c", RANK, str(echo_seconds)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert rank.stdin is not None
    assert rank.stdout is not None
    assert rank.stdout.readline() == "ready\n"
    for _ in range(2):
        rank.send_signal(signal.SIGTERM)
        try:
            rank.stdin.write("\n")
            rank.stdin.flush()
        except BrokenPipeError:
            break
        if rank.stdout.readline() != "True\n":
            break
    with contextlib.suppress(BrokenPipeError):
        rank.stdin.close()
    rank.stdout.close()
    assert rank.wait(20) == (0 if survives else -signal.SIGTERM)
