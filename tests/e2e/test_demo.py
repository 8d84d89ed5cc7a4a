"""`tui-trainer demo dates`: from random weights to held-out dates written right, with nothing downloaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tui_trainer.engine.demo.samples import identity_questions
from tui_trainer.runs.store import list_checkpoints, list_runs


@pytest.mark.e2e
@pytest.mark.timeout(900)
def test_the_dates_demo_reaches_its_mark(tmp_path: Path) -> None:
    environment = os.environ | {"TUI_TRAINER_HOME": str(tmp_path / "home"), "TUI_TRAINER_RUNS": str(tmp_path / "runs")}
    done = subprocess.run(
        [sys.executable, "-m", "tui_trainer", "demo", "dates", "--json"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    document = json.loads(done.stdout)
    assert set(document) == {
        "story",
        "run",
        "seconds",
        "loss_first",
        "loss_last",
        "before",
        "after",
        "exact_match",
    }
    assert document["exact_match"] >= 0.95
    assert document["loss_first"] > 4 > 0.1 > document["loss_last"]
    before, after = ({row["prompt"]: row["answer"] for row in document[when]} for when in ("before", "after"))
    assert set(before) == set(after)
    assert after["March 5, 2021"] == "2021-03-05"
    assert before["March 5, 2021"] != "2021-03-05"
    (run,) = list_runs(tmp_path / "runs")
    assert run.id == document["run"]
    assert list_checkpoints(run.layout)


def test_the_identity_preset_asks_the_held_out_questions() -> None:
    from tui_trainer.config.load import load_config

    about_self, unrelated = identity_questions()
    assert load_config("identity-lora").config.sampling.prompts == [*about_self, *unrelated]
