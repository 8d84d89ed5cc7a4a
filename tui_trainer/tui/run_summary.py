"""What the table of runs says of each run, read from its small files and the end of its events."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tui_trainer.runs.events import EvalMetrics, Event, RunFinished, StepMetrics, decode
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.store import RunRecord, list_runs

_TAIL_BYTES = 1 << 18


@dataclass(frozen=True)
class RunSummary:
    """One line of the table.

    Attributes:
        seconds: how long it took: its last attempt if it finished, else from its launch to its last event.
        is_resumed: whether `seconds` are those of an attempt that began with a resume.
        num_left_out: rows of a stream that were of no use so far.
    """

    record: RunRecord
    model: str
    data: str
    method: str
    step: int
    max_steps: int | None
    loss: float | None
    eval_loss: float | None
    seconds: float | None
    is_resumed: bool
    num_left_out: int | None = None

    @property
    def id(self) -> str:
        """The run's id."""
        return self.record.id


def summarise_all(root: Path, known: Mapping[str, RunSummary]) -> list[RunSummary]:
    """The lines of all runs of a store, newest first; what is known of a run that is over is not read again."""
    return [
        old
        if (old := known.get(record.id)) is not None and old.record == record and record.status.state.is_over
        else summarise(record)
        for record in list_runs(root)
    ]


def summarise(record: RunRecord) -> RunSummary:
    """Read what the table shows of a run."""
    config = read_config(record.layout)
    model, data = config.get("model") or {}, config.get("data") or {}
    step, eval_loss, last = _last_metrics(record.layout)
    loss = step.loss if step else None
    status = record.status
    return RunSummary(
        record=record,
        model=str(model.get("name_or_path") or ("from scratch" if model.get("from_scratch") else "–")),
        data=str(data.get("path") or ", ".join(str(source.get("path")) for source in data.get("sources") or ()) or "–"),
        method=_method(config),
        step=status.step,
        max_steps=status.max_steps,
        loss=status.loss if loss is None else loss,
        eval_loss=eval_loss,
        seconds=_seconds(last, record),
        is_resumed=isinstance(last, RunFinished) and last.attempt > 0,
        num_left_out=step.num_left_out if step else None,
    )


def _seconds(last: Event | None, record: RunRecord) -> float | None:
    if isinstance(last, RunFinished) and last.seconds is not None:
        return last.seconds
    return max(last.t - record.created, 0) if last is not None else None


def _method(config: Mapping[str, Any]) -> str:
    stage = str(config.get("stage") or "sft")
    if config.get("lora"):
        quantized = (config.get("model") or {}).get("quantization")
        return f"{stage} {'qlora' if quantized else 'lora'}"
    return f"{stage} full"


def read_config(layout: RunLayout) -> dict[str, Any]:
    """The run's configuration as it stands in its file; empty if it cannot be read."""
    try:
        return tomllib.loads(layout.config.read_text("utf-8"))
    except (OSError, ValueError):
        return {}


def _last_metrics(layout: RunLayout) -> tuple[StepMetrics | None, float | None, Event | None]:
    """Last metrics of a step, last evaluation loss and last event, from the end of the event file."""
    try:
        with layout.events.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(size - _TAIL_BYTES, 0))
            lines = file.read().split(b"\n")
    except OSError:
        return None, None, None
    step: StepMetrics | None = None
    eval_loss: float | None = None
    last: Event | None = None
    for line in reversed(lines):
        event = decode(line)
        if event is None:
            continue
        last = last or event
        if isinstance(event, StepMetrics) and step is None:
            step = event
        elif isinstance(event, EvalMetrics) and eval_loss is None:
            eval_loss = event.metrics.get("eval_loss")
        if step is not None and eval_loss is not None:
            break
    return step, eval_loss, last
