"""A canary over a whole run: tokens in the environment reach the trainer, and no file, log or command line."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tui_trainer.runs.events import RunFinished

from .conftest import Runs

pytestmark = pytest.mark.e2e

CANARY = "canary0123456789abcdefCANARY"
TOKENS = {
    "HF_TOKEN": f"hf_{CANARY}",
    "HUGGING_FACE_HUB_TOKEN": f"hf_{CANARY}",
    "WANDB_API_KEY": CANARY,
    "OPENAI_API_KEY": f"sk-{CANARY}",
    "AWS_SECRET_ACCESS_KEY": CANARY,
    "MY_PASSWORD": CANARY,
}


@contextlib.contextmanager
def watched_command_lines() -> Iterator[list[str]]:
    """Command lines that hold the canary, seen while it is the context."""
    seen: list[str] = []
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(0.05):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    if CANARY.encode() in (line := path.read_bytes()):
                        seen.append(line.decode("utf-8", "replace"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        is_over.set()
        watcher.join()


def test_no_token_is_left_anywhere(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "user"
    home.mkdir()
    for name, path in {"HOME": "", "TUI_TRAINER_HOME": "state", "HF_HOME": "hub", "XDG_CACHE_HOME": "cache"}.items():
        monkeypatch.setenv(name, str(home / path))
    for name, token in TOKENS.items():
        monkeypatch.setenv(name, token)
    mask = os.umask(0o022)
    try:
        with watched_command_lines() as seen:
            run = runs.start("training.max_steps=4", "training.save_steps=2")
            run.wait()
    finally:
        os.umask(mask)
    assert len(run.events(RunFinished)) == 1, run.log()
    assert seen == []
    places = [run.layout.root, home]
    files = [path for place in places for path in place.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(files) > 10
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []
    opened = [path for path in run.layout.root.rglob("*") if not path.is_symlink() and _others(path)]
    assert opened == [], "readable by others"
    assert not _others(run.layout.root)


def _others(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode) & 0o077
