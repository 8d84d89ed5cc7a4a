"""The fields of a run that can be changed while it goes on: their present values, what may be typed, what it would do.

Pure functions over the run's configuration and what its events tell, but for the one that reads it; shown by
`tui.screens.live_settings`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tui_trainer.config.catalogue import catalogue, parse_text
from tui_trainer.config.course import ENDLESS, Course
from tui_trainer.config.resolve import Layer, Values, resolve
from tui_trainer.config.schedule import learning_rate_at, schedule_problem
from tui_trainer.config.toml import read_document
from tui_trainer.config.training import TrainingConfig
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.series import Series
from tui_trainer.runs.snapshot import RunView
from tui_trainer.tui import format as fmt

FIELDS = (
    "learning_rate",
    "weight_decay",
    "max_grad_norm",
    "max_steps",
    "num_train_epochs",
    "schedule",
    "logging_steps",
    "eval_steps",
    "save_steps",
)
_INTERVALS = ("logging_steps", "eval_steps", "save_steps")
_CURVE_POINTS = 240
_SCHEDULE_HELP = (
    "What a new end does to the rest of the schedule: stretch it, so that it ends there too, or keep its pace, so that "
    "it is cut off or stays at its last rate."
)


@dataclass(frozen=True)
class LiveRun:
    """What a run does at present.

    Attributes:
        training: the section of its configuration.
        values: each field's present value; None where it has none.
        course: how far it comes on its schedule at each step.
        step: steps done.
        max_steps: where it ends.
        step_seconds: how long a step takes; None while it is not known.
        epoch: epochs done.
    """

    training: TrainingConfig
    values: Mapping[str, Any]
    course: Course
    step: int
    max_steps: int
    step_seconds: float | None = None
    epoch: float | None = None

    def rate_at(self, step: float) -> float:
        """The learning rate of the step after `step` steps."""
        planned = int(self.course.end)
        position = step if self.training.lr_scheduler_type in ENDLESS else self.course.position(step)
        peak = float(self.values["learning_rate"])
        return peak / self.training.learning_rate * learning_rate_at(self.training, position, planned)

    def steps_of(self, num_epochs: float) -> int | None:
        """Steps of so many epochs, by the pace of those done; None while that is not known."""
        return math.ceil(num_epochs * self.step / self.epoch) if self.epoch else None

    def changed(self, changes: Mapping[str, Any]) -> LiveRun:
        """The run after some changes, as the trainer would make them."""
        values = {**self.values, **changes}
        if isinstance(rate := changes.get("learning_rate"), str):
            values["learning_rate"] = float(rate[1:]) * float(self.values["learning_rate"])
        end, epochs = changes.get("max_steps"), changes.get("num_train_epochs")
        end = self.steps_of(epochs) if end is None and epochs is not None else end
        if end is None:
            return LiveRun(self.training, values, self.course, self.step, self.max_steps, self.step_seconds, self.epoch)
        course = self.course.moved(self.step, end, "keep" if values.get("schedule") == "keep" else "stretch")
        return LiveRun(self.training, values, course, self.step, end, self.step_seconds, self.epoch)


def read_training(layout: RunLayout) -> TrainingConfig:
    """The section of the run's configuration as it began.

    Raises:
        ConfigurationError: the configuration cannot be read.
    """
    return resolve([Values(Layer.FILE, read_document(layout.config))]).config.training


def live_run(training: TrainingConfig, view: RunView) -> LiveRun:
    """The run as its configuration and its events tell."""
    names = [name for name in FIELDS if name != "schedule"]
    values: dict[str, Any] = {name: getattr(training, name) for name in names}
    values |= {"schedule": "stretch", "max_steps": view.max_steps}
    moves = [change for change in view.changes if "max_steps" in change.new]
    planned = moves[0].old.get("max_steps") if moves and isinstance(moves[0].old, dict) else view.max_steps
    course = Course.planned(int(planned or 1))
    for change in view.changes:
        values |= {name: value for name, value in change.new.items() if name in names}
        how = change.new.get("schedule")
        if how in ("stretch", "keep"):
            course = course.moved(change.step, change.new["max_steps"], how)
    for name in _INTERVALS:
        if getattr(training, name.replace("_steps", "_strategy")) != "steps":
            values[name] = None
    last = view.last
    return LiveRun(
        training,
        values,
        course,
        last.step if last else view.status.step,
        view.max_steps or 1,
        last.step_seconds if last else None,
        last.epoch if last else None,
    )


def help_of(name: str, run: LiveRun) -> str:
    """What a field does, or why it cannot be changed."""
    if run.values.get(name) is None and name in _INTERVALS:
        strategy = name.replace("_steps", "_strategy")
        return f"It has no effect in this run: {strategy} is {getattr(run.training, strategy)}."
    if name == "schedule":
        return _SCHEDULE_HELP
    more = " A factor as x0.5 is possible." if name == "learning_rate" else ""
    return catalogue()[f"training.{name}"].help + more


def parse_change(name: str, text: str, run: LiveRun) -> Any:
    """A typed value as it goes into the mailbox.

    Raises:
        ValueError: it will not do; the message says why.
    """
    if name != "schedule" and run.values.get(name) is None and name in _INTERVALS:
        raise ValueError(help_of(name, run))
    value = parse_value(name, text)
    end = value if name == "max_steps" else run.steps_of(value) if name == "num_train_epochs" else None
    if end is not None and end <= run.step:
        raise ValueError(f"the run has done {run.step} steps already; it can only end later, or be stopped")
    return value


def parse_value(name: str, text: str) -> Any:
    """A typed value as it goes into the mailbox of any run, whatever that one makes of it.

    Raises:
        ValueError: it will not do for any; the message says why.
    """
    if name not in FIELDS:
        raise ValueError(f"cannot be changed while a run goes on; {', '.join(FIELDS)} can")
    if name == "learning_rate":
        return parse_rate(text)
    if name == "schedule":
        if text not in ("stretch", "keep"):
            raise ValueError("stretch or keep")
        return text
    value = parse_text(catalogue()[f"training.{name}"], text)
    if name in _INTERVALS and (value < 1 or value != int(value)):
        raise ValueError("a whole number of steps, at least 1")
    return int(value) if name in (*_INTERVALS, "max_steps") else value


def parse_rate(text: str) -> float | str:
    """A learning rate or a factor ("x0.5") as it goes into the mailbox.

    Raises:
        ValueError: it is neither, or out of range.
    """
    is_factor = text[:1] in ("x", "×", "*")
    try:
        value = float(text[1:] if is_factor else text)
    except ValueError:
        raise ValueError("a number as 1e-4, or a factor as x0.5") from None
    if not 0 < value <= (100 if is_factor else 10):
        raise ValueError("above 0 and at most 100 for a factor" if is_factor else "above 0 and at most 10")
    return f"x{value:g}" if is_factor else value


def rate_curve(run: LiveRun) -> Series:
    """The learning rate from the first step to the end."""
    series = Series()
    if not schedule_problem(run.training, int(run.course.end)):
        for step in range(0, run.max_steps + 1, max(run.max_steps // _CURVE_POINTS, 1)):
            series.append(step, run.rate_at(step))
    return series


def effects(run: LiveRun, changes: Mapping[str, Any]) -> Iterator[str]:
    """What some changes would do, a line each."""
    after = run.changed(changes)
    if "learning_rate" in changes:
        yield f"next step {fmt.metric(after.rate_at(run.step))} instead of {fmt.metric(run.rate_at(run.step))}"
    if after.max_steps != run.max_steps:
        seconds = run.step_seconds
        left = f", {fmt.duration((after.max_steps - run.step) * seconds)} from now" if seconds else ""
        yield f"ends at step {fmt.count(after.max_steps)} instead of {fmt.count(run.max_steps)}{left}"
        last = after.rate_at(after.max_steps - 1)
        if run.training.lr_scheduler_type in ENDLESS:
            yield "the learning rate does not depend on the end"
        elif last == 0 and after.rate_at(run.max_steps) == 0 and after.max_steps > run.max_steps + 1:
            yield f"nothing is learned after step {fmt.count(run.max_steps)}: the rate stays 0 (schedule: keep)"
        else:
            yield f"the last step has the rate {fmt.metric(last)}"
    for name in _INTERVALS:
        if name in changes:
            interval = int(changes[name])
            verb = {"logging_steps": "logged", "eval_steps": "evaluated", "save_steps": "saved"}[name]
            yield f"next {verb} at step {fmt.count((run.step // interval + 1) * interval)}"
