"""A run on a stream: it never ends by itself, and goes on after a stop with the rows it would have had."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback

from tests.engine.data.helpers import said
from tests.engine.trainer.conftest import BASE, events_of
from tui_trainer.config.resolve import Layer, Values, resolve, typed_values
from tui_trainer.config.toml import parse_document
from tui_trainer.engine.data.prepare import PreparedData, prepare_data
from tui_trainer.engine.models.tokenizer import load_tokenizer
from tui_trainer.engine.trainer.journal import EventLog
from tui_trainer.engine.trainer.left_out import LeftOutRows
from tui_trainer.engine.trainer.run import keep_left_out, tell_doubts
from tui_trainer.runs.control import send
from tui_trainer.runs.events import Alert, RunResumed, RunStarted, StepMetrics
from tui_trainer.runs.files import read_json
from tui_trainer.runs.layout import RunLayout

SETTINGS = ("save_strategy=steps", "save_steps=3", "max_steps=9", "data.streaming=true", "data.max_length=128")


class _StopAt(TrainerCallback):
    def __init__(self, layout: RunLayout, step: int) -> None:
        self._layout, self._step = layout, step

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self._step - 1:
            send(self._layout, "stop", by="a test")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUI_TRAINER_HOME", str(tmp_path / "home"))
    rows = [{"messages": said(f"question {n}", f"answer {n * n}")} for n in range(20)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def stream(path: Path, *assignments: str) -> PreparedData:
    """The data of a run, opened anew as by a new process."""
    values = Values(Layer.FILE, parse_document(BASE, "tiny.toml"))
    config = resolve([values, typed_values((f"data.path={path}", *assignments))]).config
    return prepare_data(config, load_tokenizer(config.model))


@pytest.mark.parametrize("packing", ["false", "true"])
def test_a_stopped_stream_goes_on_bit_by_bit(tiny: Any, path: Path, packing: str) -> None:
    path.write_text(path.read_text() + "{broken\n")
    options = (*SETTINGS, f"data.packing={packing}")
    whole = tiny.run(*options, data=stream(path, *options), directory="whole")
    whole.train()
    first = tiny.run(*options, data=stream(path, *options), directory="parts")
    first.trainer.add_callback(_StopAt(first.layout, 5))
    first.train()
    second = tiny.run(*options, data=stream(path, *options), directory="parts")
    second.train()
    assert [event.step for event in second.written(RunResumed)] == [5]
    (started,) = whole.written(RunStarted)
    assert (started.num_rows, started.max_steps) == (None, 9)
    losses = {event.step: event.loss for event in whole.written(StepMetrics)}
    assert len(set(losses.values())) == 9
    assert {event.step: event.loss for event in second.written(StepMetrics)} == losses
    assert all(event.epoch is None for event in whole.written(StepMetrics))
    # a window of 256 rows, or of 1024 if they are packed, meets the broken one of 21 rows 12 or 49 times
    count = 49 if packing == "true" else 12
    assert {event.num_left_out for event in (*whole.written(StepMetrics), *second.written(StepMetrics))} == {count}
    (alert,) = whole.written(Alert)
    assert (alert.step, alert.message.split(" of the stream")[0]) == (1, f"data: {count} rows")
    weights = [run.layout.checkpoint(9) / "model.safetensors" for run in (whole, second)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_what_is_lost_is_told_when_a_run_begins(tmp_path: Path, path: Path) -> None:
    rows = path.read_text() + json.dumps({"messages": said("q", "a long answer " * 20)}) + "\n"
    path.write_text(rows + json.dumps({"messages": said("question 0", "answer 0")}) + "\n")
    layout = RunLayout(tmp_path)
    tell_doubts(stream(path, "data.max_length=128").summary["verdict"], EventLog(layout, is_writer=True))
    (alert,) = (event for event in events_of(layout) if isinstance(event, Alert))
    assert alert.kind == "data"
    assert "1 row: part of the answer is lost to data.max_length" in alert.message
    assert f"{path}:21" in alert.message
    assert "data.max_length" in alert.remedy


def test_rows_that_a_stream_left_out_are_told_at_its_end(tmp_path: Path, path: Path) -> None:
    path.write_text(path.read_text() + "{broken\n")
    data = stream(path, *SETTINGS)
    layout = RunLayout(tmp_path)
    events = EventLog(layout, is_writer=True)
    rows = LeftOutRows(data, events)
    rows.tell(0, "so far")
    assert isinstance(data.train[0], dict)
    data.train[20]
    rows.tell(1, "so far")
    rows.tell(2, "in all")
    (alert,) = (event for event in events_of(layout) if isinstance(event, Alert))
    # a window of 256 rows meets the broken one of 21 rows 12 times
    assert alert.message.startswith("data: 12 rows of the stream were of no use and left out so far, counted each time")
    keep_left_out(data, layout)
    assert read_json(layout.data) == {**data.summary, "num_left_out": 12}
