"""Checkpoints in a second place: whole, and without holding up the training."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tui_trainer.engine.trainer.manifest import verify_checkpoint
from tui_trainer.runs.events import Alert, CheckpointCopied, CheckpointSaved, RunFinished

OPTIONS = ("save_strategy=steps", "save_steps=2", "max_steps=6", "save_total_limit=1")


def test_checkpoints_are_copied_and_stay_there(tiny: Any, tmp_path: Path) -> None:
    run = tiny.run(*OPTIONS, f"upkeep.copy_to={tmp_path / 'nas'}")
    run.train()
    copied = run.written(CheckpointCopied)
    assert copied[-1].step == 6
    assert Path(copied[-1].path) == tmp_path / "nas" / run.layout.id / "step-000006"
    for event in copied:
        assert verify_checkpoint(Path(event.path)) == []
    names = {path.name for path in (tmp_path / "nas" / run.layout.id).iterdir()}
    assert names == {Path(event.path).name for event in copied}
    assert not (run.layout.root / "copying").exists()


@pytest.mark.parametrize("how", ["no folder", "torn"])
def test_a_copy_that_fails_is_an_alert_and_nothing_more(
    tiny: Any, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "nas"
    if how == "no folder":
        place.write_text("a file")
    else:
        monkeypatch.setattr(shutil, "copy2", lambda source, target, **_: Path(target).write_bytes(b"torn"))
        monkeypatch.setattr(shutil.copytree, "__defaults__", (False, None, shutil.copy2, False, False))
    run = tiny.run(*OPTIONS, f"upkeep.copy_to={place}")
    run.train()
    alerts = run.written(Alert)
    assert {alert.kind for alert in alerts} == {"copy"}
    assert str(place) in alerts[0].message
    assert [event.step for event in run.written(CheckpointSaved)] == [2, 4, 6]
    assert len(run.written(RunFinished)) == 1
    assert run.written(CheckpointCopied) == []
