"""Events survive the way through the file, and nothing that may stand in a damaged file breaks a reader."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from tui_trainer.runs.events import (
    Alert,
    CheckpointSaved,
    ControlApplied,
    EvalMetrics,
    Event,
    Progress,
    RunFailed,
    RunFinished,
    RunResumed,
    RunStarted,
    RunStopped,
    Sample,
    StepMetrics,
    UnknownEvent,
    decode,
)
from tui_trainer.runs.files import dump_line

STARTED: dict[str, Any] = {
    "max_steps": 10,
    "num_epochs": 1.0,
    "num_rows": 80,
    "num_trainable_parameters": 5,
    "num_parameters": 50,
    "world_size": 1,
    "device": "cpu",
}

EVENTS: list[Event] = [
    RunStarted(**STARTED, fingerprint="9f3c"),
    RunResumed(**STARTED, step=5, attempt=1),
    Progress(task="tokenising", done=3, total=9),
    StepMetrics(step=3, loss=1.25, learning_rate=1e-4, epoch=0.5, num_input_tokens=99, memory_bytes=1 << 40),
    EvalMetrics(step=3, epoch=0.5, extra={"eval_loss": 2.0, "eval_exact_match": 0.5}),
    Sample(step=3, prompt="a\u2028b", text="é", knobs={"temperature": 0}, finish_reason="stop"),
    CheckpointSaved(step=3, path="checkpoints/step-000003", bytes=12, seconds=0.1, is_best=True),
    ControlApplied(step=3, command="set", id="1", old={"learning_rate": 1e-3}, new={"learning_rate": 1e-4}, by="me"),
    Alert(step=3, kind="nan", message="m", remedy="r"),
    RunFinished(step=10, loss=0.5, seconds=3.0),
    RunStopped(step=4, reason="requested"),
    RunFailed(step=4, reason="data", message="m", remedy="r"),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.type)
def test_there_and_back(event: Event) -> None:
    line = dump_line(event.to_dict())
    assert line.count(b"\n") == 1
    assert json.loads(line)["v"] == 1
    assert decode(line) == event


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_text_in_the_file_and_numbers_again(value: float) -> None:
    line = dump_line(StepMetrics(step=1, loss=value, grad_norm=value).to_dict())
    assert json.loads(line)["loss"] in ("NaN", "Infinity", "-Infinity")
    event = decode(line)
    assert isinstance(event, StepMetrics)
    assert event.loss is not None
    assert math.isnan(event.loss) if math.isnan(value) else event.loss == value
    finished = decode(dump_line(RunFinished(loss=value).to_dict()))
    assert isinstance(finished, RunFinished)
    assert isinstance(finished.loss, float)


def test_metrics_of_an_evaluation_are_its_numbers() -> None:
    event = decode(b'{"type":"EvalMetrics","step":1,"eval_loss":"NaN","eval_accuracy":0.5,"eval_note":"text","v":1}')
    assert isinstance(event, EvalMetrics)
    assert math.isnan(event.metrics["eval_loss"])
    assert event.metrics["eval_accuracy"] == 0.5
    assert "eval_note" not in event.metrics
    assert "v" not in event.metrics


def test_what_a_newer_version_wrote_is_kept_apart() -> None:
    event = decode(b'{"v":2,"seq":3,"t":1.5,"type":"Aurora","step":7,"colour":"green"}')
    assert isinstance(event, UnknownEvent)
    assert (event.name, event.step, event.seq, event.extra) == ("Aurora", 7, 3, {"colour": "green"})
    newer = decode(b'{"type":"StepMetrics","step":7,"loss":1,"flavour":"sour"}')
    assert isinstance(newer, StepMetrics)
    assert newer.loss == 1.0


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\x00\xff\xfe",
        b"{",
        b"[1,2]",
        b'"text"',
        b"null",
        b"7",
        b"[" * 100_000,
        b'{"type":"RunStarted","step":1}',
        b'{"type":"StepMetrics","step":"three"}',
        b'{"type":"StepMetrics","step":1.5}',
        b'{"type":"StepMetrics","step":true}',
        b'{"type":"StepMetrics","step":1,"loss":"low"}',
        b'{"type":"StepMetrics","step":1,"loss":[1]}',
        b'{"type":"StepMetrics","step":1,"num_input_tokens":1.5}',
        b'{"type":"StepMetrics","step":1e999}',
        b'{"type":"Sample","step":1,"prompt":3,"text":null}',
        b'{"type":"Sample","prompt":"a","text":"b","knobs":[]}',
        b'{"type":"CheckpointSaved","path":"a","bytes":"many","seconds":1}',
        b'{"type":"CheckpointSaved","path":"a","bytes":1,"seconds":null}',
        b'{"type":"ControlApplied","command":{}}',
        dump_line({"type": "RunStarted", **STARTED, "max_steps": "many"}),
        dump_line({"type": "RunStarted", **STARTED, "num_epochs": None}),
        b'{"type":"RunFailed","reason":7}',
        b'{"type":"Nothing","step":[]}',
    ],
)
def test_damaged_lines_are_no_events(line: bytes) -> None:
    assert decode(line) is None
