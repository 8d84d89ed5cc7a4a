"""What can be changed on a going run: present values, what may be typed, what it would do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tui.recorded import record_run
from tui_trainer.config.course import Course
from tui_trainer.config.training import TrainingConfig
from tui_trainer.runs.events import ControlApplied
from tui_trainer.runs.journal import JournalWriter
from tui_trainer.runs.snapshot import RunReader
from tui_trainer.tui.live_fields import (
    FIELDS,
    LiveRun,
    effects,
    help_of,
    live_run,
    parse_change,
    rate_curve,
    read_training,
)


def going(**changes: Any) -> LiveRun:
    """A run of 100 steps, 40 of them done."""
    training = TrainingConfig.model_validate({"learning_rate": 1e-3, "max_steps": 100} | changes)
    values = {name: getattr(training, name, "stretch") for name in FIELDS} | {"eval_steps": None}
    return LiveRun(training, values, Course.planned(100), 40, 100, 2.0, 0.8)


def test_values_and_course_follow_the_changes_made_so_far(tmp_path: Path) -> None:
    layout = record_run(tmp_path, "going", steps=400, max_steps=1000)
    with JournalWriter(layout.events) as journal:
        change = ControlApplied(
            step=350, command="set", old={"max_steps": 1000}, new={"max_steps": 1650, "schedule": "stretch"}
        )
        journal.write(change)
    reader = RunReader(layout)
    while reader.advance(1.0) or reader.has_more:
        pass
    run = live_run(read_training(layout), reader.view)
    assert run.values["learning_rate"] == 1e-4  # set at step 300
    assert run.values["max_steps"] == run.max_steps == 1650
    assert run.values["eval_steps"] is None
    assert "eval_strategy is no" in help_of("eval_steps", run)
    assert run.step == 400
    assert run.course.position(1000) == 675
    assert len(rate_curve(run)) > 100


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("learning_rate", "x0.5", "x0.5"),
        ("weight_decay", "0.1", 0.1),
        ("max_steps", "200", 200),
        ("num_train_epochs", "3", 3.0),
        ("save_steps", "50", 50),
        ("schedule", "keep", "keep"),
    ],
)
def test_what_may_be_typed(name: str, text: str, value: object) -> None:
    assert parse_change(name, text, going()) == value


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("learning_rate", "0", "above 0"),
        ("weight_decay", "-1", "at least 0"),
        ("max_steps", "40", "has done 40 steps"),
        ("num_train_epochs", "0.5", "has done 40 steps"),
        ("save_steps", "0.5", "whole number"),
        ("eval_steps", "5", "no effect"),
        ("schedule", "jump", "stretch or keep"),
    ],
)
def test_what_may_not(name: str, text: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        parse_change(name, text, going())


def test_what_it_would_do() -> None:
    run = going()
    assert list(effects(run, {"learning_rate": "x0.5"})) == ["next step 3e-4 instead of 6e-4"]
    told = list(effects(run, {"max_steps": 160}))
    assert told[0] == "ends at step 160 instead of 100, 4:00 from now"
    assert list(effects(run, {"max_steps": 160, "schedule": "keep"}))[1].startswith("nothing is learned after step 100")
    constant = going(lr_scheduler_type="constant")
    assert list(effects(constant, {"num_train_epochs": 4}))[1] == "the learning rate does not depend on the end"
    assert constant.changed({"num_train_epochs": 4}).max_steps == 200
    assert list(effects(run, {"save_steps": 30})) == ["next saved at step 60"]
