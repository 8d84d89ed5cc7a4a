"""Uploads: what the strategy wants, only files of a published checkpoint, and no failure that ends a training."""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import Any

import pytest
from transformers.trainer_utils import HubStrategy

from tui_trainer.engine.trainer.hub import HubUploads
from tui_trainer.engine.trainer.journal import EventLog
from tui_trainer.errors import MachineError
from tui_trainer.runs.events import Alert, decode
from tui_trainer.runs.journal import read_lines
from tui_trainer.runs.layout import RunLayout

FILES = (
    "model.safetensors",
    "tokenizer.json",
    "optimizer.pt",
    "rng_state_0.pth",
    "trainer_state.json",
    "manifest.json",
)


class FakeHub:
    """Keeps what was uploaded."""

    def __init__(self) -> None:
        self.commits: list[tuple[str, set[str]]] = []

    def upload(self, *, folder_path: Path, path_in_repo: str = "", ignore_patterns: Any = (), **_: Any) -> None:
        names = {path.name for path in Path(folder_path).iterdir()}
        kept = {name for name in names if not any(fnmatch.fnmatch(name, pattern) for pattern in ignore_patterns)}
        self.commits.append((path_in_repo, kept))


def checkpoint(layout: RunLayout, step: int) -> Path:
    folder = layout.checkpoint(step)
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_text(name)
    return folder


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (HubStrategy.END, [""]),
        (HubStrategy.EVERY_SAVE, ["", ""]),
        (HubStrategy.CHECKPOINT, ["", "last-checkpoint", "", "last-checkpoint"]),
        (HubStrategy.ALL_CHECKPOINTS, ["", "step-000001", "", "step-000002"]),
    ],
)
def test_what_is_uploaded(tmp_path: Path, strategy: HubStrategy, expected: list[str]) -> None:
    layout, hub = RunLayout(tmp_path), FakeHub()
    uploads = HubUploads(
        layout, EventLog(layout, is_writer=True), "me/model", strategy, is_insistent=True, upload=hub.upload
    )
    for step in (1, 2):
        uploads.checkpoint_saved(checkpoint(layout, step), step, is_end=step == 2)
    uploads.finish()
    assert [place for place, _ in hub.commits] == expected
    for place, names in hub.commits:
        assert names == (set(FILES) if place else {"model.safetensors", "tokenizer.json"})
    assert not (tmp_path / "upload").exists()
    assert len(list(layout.checkpoint(2).iterdir())) == len(FILES)


def test_a_failed_upload_is_an_alert(tmp_path: Path) -> None:
    def upload(**_: Any) -> None:
        raise ConnectionError("no route")

    layout = RunLayout(tmp_path)
    uploads = HubUploads(layout, EventLog(layout, is_writer=True), "me/model", HubStrategy.EVERY_SAVE, upload=upload)
    uploads.checkpoint_saved(checkpoint(layout, 1), 1, is_end=False)
    uploads.finish()
    (alert,) = [decode(line) for line in read_lines(layout.events)]
    assert isinstance(alert, Alert)
    assert (alert.kind, alert.step) == ("hub", 1)
    assert "no route" in alert.message


def test_a_hub_that_cannot_be_reached_is_told_before_the_training(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(MachineError, match="cannot be made"):
        tiny.run("training.push_to_hub=true", "training.hub_model_id=me/model")
