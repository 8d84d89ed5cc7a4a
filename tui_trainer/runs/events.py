"""The events of a run: what rank 0 writes to `events.jsonl` and every reader understands.

A line is `{"v": 1, "seq": n, "t": unix_seconds, "type": "StepMetrics", "step": n, …}`. The format only grows: a reader
ignores fields and types it does not know.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from tui_trainer.runs.files import number

VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Event:
    """Base of all events.

    Attributes:
        step: optimiser steps done when it happened.
        seq: running number in the file, set by the writer.
        t: Unix time in seconds, set by the writer.
        attempt: 0 for the first start of the run, one more for each resume.
    """

    step: int = 0
    seq: int = -1
    t: float = 0.0
    attempt: int = 0

    @property
    def type(self) -> str:
        """The name under which the event stands in the file."""
        return type(self).__name__

    def to_dict(self) -> dict[str, Any]:
        """The event as a JSON object; fields that are None are left out."""
        fields = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        extra = fields.pop("extra", {})
        head = {"v": VERSION, "seq": fields.pop("seq"), "t": round(fields.pop("t"), 3), "type": self.type}
        body = {name: value for name, value in fields.items() if value is not None}
        return head | body | dict(extra)


@dataclass(frozen=True, kw_only=True)
class RunStarted(Event):
    """The trainer is about to make its first step.

    Attributes:
        num_rows: rows of an epoch; None where they are streamed.
        row_order: where the order of the rows begins, as `runs.row_order` has it; None where nobody can count by it.
    """

    max_steps: int
    num_epochs: float
    num_rows: int | None = None
    num_trainable_parameters: int
    num_parameters: int
    world_size: int
    device: str
    fingerprint: str | None = None
    row_order: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class RunResumed(RunStarted):
    """As `RunStarted`, going on from the checkpoint at `step`: what earlier attempts tell of later steps is superseded.

    Attributes:
        superseded_steps: how many steps had been made after the checkpoint.
    """

    superseded_steps: int | None = None


@dataclass(frozen=True, kw_only=True)
class Progress(Event):
    """What the trainer does before or between steps: loading, tokenising, saving."""

    task: str
    done: int | None = None
    total: int | None = None


@dataclass(frozen=True, kw_only=True)
class StepMetrics(Event):
    """What was measured since the last such event.

    Attributes:
        loss: mean over the trained tokens since the last event.
        step_seconds: mean seconds a step.
        memory_bytes: peak memory of rank 0, of the GPU where there is one.
        data_seconds: mean seconds a step that rank 0 waited for its rows.
        num_left_out: rows of a stream that were of no use so far, counted each time the data came round.
    """

    loss: float | None = None
    learning_rate: float | None = None
    grad_norm: float | None = None
    epoch: float | None = None
    num_input_tokens: int | None = None
    tokens_per_second: float | None = None
    step_seconds: float | None = None
    memory_bytes: int | None = None
    data_seconds: float | None = None
    num_left_out: int | None = None


@dataclass(frozen=True, kw_only=True)
class EvalMetrics(Event):
    """The result of an evaluation; `extra` holds eval_loss and whatever else was measured."""

    epoch: float | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, float]:
        """All numbers by name."""
        found = {name: number(value) for name, value in self.extra.items()}
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Sample(Event):
    """An answer to one of the fixed prompts."""

    prompt: str
    text: str
    knobs: dict[str, Any] = field(default_factory=dict)
    finish_reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class CheckpointSaved(Event):
    """A checkpoint was published."""

    path: str
    bytes: int
    seconds: float
    is_best: bool = False


@dataclass(frozen=True, kw_only=True)
class CheckpointCopied(Event):
    """A checkpoint was copied to a second place."""

    path: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class ControlApplied(Event):
    """A command from the mailbox was carried out, or refused (`error` says why).

    Attributes:
        replayed: it was carried out before and is now again, at its own step, because the run resumed before that step.
    """

    command: str
    id: str = ""
    old: Any = None
    new: Any = None
    by: str = ""
    latency_seconds: float | None = None
    error: str | None = None
    replayed: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Alert(Event):
    """Something the user should know: kind is a short code, as "nan" or "disk"."""

    kind: str
    message: str
    remedy: str = ""


@dataclass(frozen=True, kw_only=True)
class RunPaused(Event):
    """The run waits, not because somebody asked for it: reason is a short code, as "disk_full" or "nan"."""

    reason: str
    message: str = ""
    remedy: str = ""


@dataclass(frozen=True, kw_only=True)
class RunContinued(Event):
    """A run that paused by itself goes on by itself."""

    reason: str = ""
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class RunFinished(Event):
    """The run did all its steps."""

    loss: float | None = None
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class RunStopped(Event):
    """The run ended early because it was asked to."""

    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class RunFailed(Event):
    """The run ended by an error."""

    reason: str = ""
    message: str = ""
    remedy: str = ""


@dataclass(frozen=True, kw_only=True)
class UnknownEvent(Event):
    """An event of a newer version."""

    name: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


FINAL_EVENTS = (RunFinished, RunStopped, RunFailed)

_TYPES: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (
        RunStarted,
        RunResumed,
        Progress,
        StepMetrics,
        EvalMetrics,
        Sample,
        CheckpointSaved,
        CheckpointCopied,
        ControlApplied,
        Alert,
        RunPaused,
        RunContinued,
        RunFinished,
        RunStopped,
        RunFailed,
    )
}
_HEAD = ("v", "type")
_PLAIN = {"int": int, "str": str, "bool": bool, "dict[str, Any]": dict}


def _types_of(kind: type[Event]) -> dict[str, tuple[str, bool]]:
    """Each field of an event with the name of its type and whether it may be None."""
    annotations = {item.name: str(item.type) for item in dataclasses.fields(kind)}
    return {
        name: (annotation.removesuffix(" | None"), annotation.endswith(" | None"))
        for name, annotation in annotations.items()
    }


_FIELDS = {kind: _types_of(kind) for kind in (*_TYPES.values(), UnknownEvent)}


def _accept(value: Any, type_name: str, is_optional: bool) -> Any:
    """A value from the file if it fits its field; numbers that were written as text become numbers again.

    Raises:
        ValueError: it does not fit.
    """
    if type_name == "Any" or (value is None and is_optional):
        return value
    if type_name == "float":
        value = number(value)
        if value is None:
            raise ValueError
        return value
    # exact types, because True would pass for a number
    if type(value) is not _PLAIN[type_name]:
        raise ValueError
    return value


def decode(line: bytes) -> Event | None:
    """The event on one line; None if the line is torn or is no event, as anything may stand in a damaged file."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict):
        return None
    kind = _TYPES.get(str(data.get("type")), UnknownEvent)
    fields = _FIELDS[kind]
    try:
        known = {name: _accept(value, *fields[name]) for name, value in data.items() if name in fields}
    except ValueError:
        return None
    if kind is EvalMetrics or kind is UnknownEvent:
        known["extra"] = {name: value for name, value in data.items() if name not in fields and name not in _HEAD}
    if kind is UnknownEvent:
        known["name"] = str(data.get("type"))
    try:
        return kind(**known)
    except TypeError:
        return None
