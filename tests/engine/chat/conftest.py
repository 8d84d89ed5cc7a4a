"""A chat worker in this process, with tiny models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.engine.tiny import save_tiny
from tui_trainer.engine.servers.chat import ChatServer
from tui_trainer.wire.server import Cancellation

MESSAGES = [{"role": "user", "content": "Who are you?"}]
RENDERED = "<|im_start|>user\nWho are you?<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUI_TRAINER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TUI_TRAINER_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def other_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the same tokens that says something else."""
    return save_tiny(tmp_path_factory.mktemp("other"), initializer_range=0.2)


class Caller:
    """Calls methods of a worker in this process."""

    def __init__(self) -> None:
        self.server = ChatServer()

    def call(self, method: str, cancellation: Cancellation | None = None, **params: Any) -> tuple[list[Any], Any]:
        generator = self.server.methods[method](params, cancellation or Cancellation())
        items = []
        while True:
            try:
                items.append(next(generator))
            except StopIteration as end:
                return items, end.value

    def load(self, folder: Path | str, **params: Any) -> dict[str, Any]:
        loaded: dict[str, Any] = self.call("load", **{"model": str(folder), "device": "cpu", **params})[1]
        return loaded

    def stream(self, question: Any = MESSAGES, **params: Any) -> tuple[list[Any], Any]:
        """Asks; the items that came and the document at the end."""
        name = "prompt" if isinstance(question, str) else "messages"
        return self.call("generate", **{name: question}, params=params)

    def ask(self, question: Any = MESSAGES, **params: Any) -> dict[str, Any]:
        document: dict[str, Any] = self.stream(question, **params)[1]
        return document


@pytest.fixture
def worker(tiny_folder: Path) -> Caller:
    caller = Caller()
    caller.load(tiny_folder)
    return caller


@pytest.fixture
def pair(worker: Caller, other_folder: Path) -> Caller:
    worker.load(other_folder, slot="b")
    return worker
