"""The README tells the truth: its tables are those of the code, its pictures exist, its commands run."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tui_trainer.tui.readme import with_tables

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")

ELSEWHERE = {
    "pip install . && tui-trainer demo": "`.ci/run` installs; the screen is opened below",
    "pip install '.[test]' && pytest": "`.ci/run`",
    "tui-trainer demo --headless": "tests/e2e/test_demo.py",
    "tui-trainer demo identity --json": "tests/e2e/test_demo.py",
}
"""Commands that are not run here, and where they are."""


def _commands() -> Iterator[str]:
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL):
        yield from block.strip().splitlines()


COMMANDS = [command for command in _commands() if command not in ELSEWHERE]


def test_the_tables_are_those_of_the_code() -> None:
    assert with_tables(README) == README, "run `python -m tui_trainer.tui.readme`"


def test_every_picture_is_there() -> None:
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", README)
    assert len(pictures) >= 5
    assert [picture for picture in pictures if not (ROOT / picture).is_file()] == []


def test_every_command_is_run_somewhere() -> None:
    assert set(ELSEWHERE) <= set(_commands())
    assert len(COMMANDS) >= 14


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the commands run one after the other, as the reader types them."""
    return tmp_path_factory.mktemp("readme")


def _environment(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TUI_TRAINER_RUNS": str(folder / "runs"),
        "OMP_NUM_THREADS": "1",
    }


@pytest.mark.e2e
@pytest.mark.model
@pytest.mark.timeout(900)
def test_the_commands_run_in_the_order_they_stand(shell: Path) -> None:
    short = " --set training.max_steps=10 --set training.eval_on_start=false"
    for command in COMMANDS:
        words = shlex.split(command + (short if "--detach" in command else ""))
        done = subprocess.run(words, cwd=shell, env=_environment(shell), capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        assert done.stdout + done.stderr


@pytest.mark.e2e
@pytest.mark.parametrize("words", [["demo"], []])
def test_the_workbench_opens_in_a_terminal(shell: Path, words: list[str]) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(_environment(shell) | {"TERM": "xterm-256color"})
        os.execv(sys.executable, [sys.executable, "-m", "tui_trainer", *words])
    seen, end = b"", time.monotonic() + 60
    while b"Runs" not in seen and time.monotonic() < end:
        if select.select([terminal], [], [], 0.2)[0]:
            seen += os.read(terminal, 1 << 16)
    os.write(terminal, b"\x11")
    while time.monotonic() < end:
        try:
            if select.select([terminal], [], [], 0.2)[0]:
                seen += os.read(terminal, 1 << 16)
        except OSError:
            break
    assert b"Runs" in seen
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, seen[-3000:].decode("utf-8", "replace")
