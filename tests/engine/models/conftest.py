"""Tiny models on the disk, and a home of their own for everything the code keeps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.engine.tiny import save_tiny
from tui_trainer.engine.models import hub
from tui_trainer.engine.models.locate import locate_model


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """State, run store and hub cache below the test's own directory; no network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUI_TRAINER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TUI_TRAINER_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.is_online.cache_clear()
    yield tmp_path
    hub.is_online.cache_clear()


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole tiny model; not to be written into."""
    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def smollm2_folder() -> Path:
    """The demo model, fetched and converted once on this machine."""
    return locate_model("demo:smollm2").path
