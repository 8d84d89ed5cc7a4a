"""The fields of a run that can be changed while it goes on: which they are, what a new value has to be, what it does.

A change is the same on every rank and depends on nothing but the command and the state of the training, so that a
resume can repeat it. Used by `engine.trainer.steering`, which carries out the commands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from transformers import TrainerControl, TrainerState, TrainingArguments

from tui_trainer.config.course import ENDLESS, Course, How
from tui_trainer.runs.files import whole_number

_ENDS = ("max_steps", "num_train_epochs")
_SCHEDULE = "schedule"
_COURSE = "course"

Values = dict[str, Any]
Change = Callable[[], tuple[Values, Values]]
"""Makes a change; returns the old and the new values by field name."""


class Refused(Exception):  # noqa: N818 - an outcome, not an error
    """A command that cannot be carried out; the text says why."""


class Steerable(Protocol):
    """The parts of a `transformers.Trainer` that commands act on.

    Attributes:
        course: how far the run has come on its schedule at each step.
        steps_per_epoch: steps of one pass over the data; None if nobody knows.
        is_deepspeed_enabled: whether DeepSpeed makes the updates.
    """

    args: TrainingArguments
    state: TrainerState
    control: TrainerControl
    optimizer: torch.optim.Optimizer | None
    lr_scheduler: Any
    course: Course
    steps_per_epoch: int | None
    is_deepspeed_enabled: bool

    @property
    def stop_reason(self) -> str:
        """Why the run was asked to stop; empty while it was not."""

    @property
    def can_evaluate(self) -> bool:
        """Whether there is anything to evaluate on."""

    @property
    def can_sample(self) -> bool:
        """Whether there are fixed prompts."""

    def write_samples(self) -> None:
        """Answer the fixed prompts."""

    def park(self) -> None:
        """Move model and optimiser to main memory."""

    def unpark(self) -> None:
        """Move them back."""


def planned_change(arguments: Mapping[str, Any], trainer: Steerable) -> Change:
    """What setting some fields, all or none of them, would change; nothing is changed yet.

    Raises:
        Refused: a field cannot be changed, or not to this value.
    """
    how = _how(arguments)
    named = {name: value for name, value in arguments.items() if name != _SCHEDULE}
    if not named:
        raise Refused("names no field to set")
    changes: list[Change] = []
    for name, value in named.items():
        if name not in _FIELDS:
            raise Refused(f"{name} cannot be changed while the run goes on; {', '.join(_FIELDS)} can")
        changes.append(_FIELDS[name](name, value, trainer, how))

    def change() -> tuple[Values, Values]:
        old: Values = {}
        new: Values = {}
        for before, after in (change() for change in changes):
            old |= before
            new |= after
        return old, new

    return change


def settings_after(settings: Mapping[str, Any], new: Values, trainer: Steerable) -> Values:
    """What a checkpoint has to hold of the changes: the fields with their values, and the course if it was moved."""
    course = {"end": trainer.course.end, "knots": [list(knot) for knot in trainer.course.knots]}
    return {**settings, **new, **({_COURSE: course} if "max_steps" in new else {})}


def restore(settings: Mapping[str, Any], trainer: Steerable) -> Values:
    """Put back what had been changed, before the first step; returns the settings that hold now.

    The end of the run stands in the trainer already, see `moved_end`.
    """
    kept = dict(settings)
    if moved_end(settings, trainer.course) is None:
        kept = {name: value for name, value in settings.items() if name not in (*_ENDS, _SCHEDULE, _COURSE)}
    else:
        trainer.course = course_of(settings)
    for name, value in kept.items():
        if name in _FIELDS and name not in _ENDS:
            _FIELDS[name](name, value, trainer, "keep")()
    return kept


def moved_end(settings: Mapping[str, Any], planned: Course) -> int | None:
    """The step to which the end of a run was moved before its checkpoint; None if it was not.

    An end that was moved is forgotten when the configuration plans another number of steps than it did then.
    """
    course = settings.get(_COURSE)
    if not isinstance(course, dict) or course.get("end") != planned.end:
        return None
    return whole_number(settings.get("max_steps"))


def course_of(settings: Mapping[str, Any]) -> Course:
    """The course of a run whose end was moved."""
    return Course.restored(settings[_COURSE]["end"], settings[_COURSE]["knots"])


def _how(arguments: Mapping[str, Any]) -> How:
    how: Any = arguments.get(_SCHEDULE, "stretch")
    if how not in ("stretch", "keep"):
        raise Refused(f"schedule must be stretch or keep, not {_short(how)}")
    num_ends = sum(name in arguments for name in _ENDS)
    if num_ends > 1:
        raise Refused("max_steps and num_train_epochs both say where the run ends; set one of them")
    if _SCHEDULE in arguments and not num_ends:
        raise Refused("schedule says what a new max_steps or num_train_epochs does; set one of them with it")
    checked: How = how
    return checked


def _number(name: str, value: Any, low: float, high: float) -> float:
    try:
        found = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        found = math.nan
    if not low <= found <= high:
        raise Refused(f"{name} must be a number from {low:g} to {high:g}, not {_short(value)}")
    return found


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:60]}…"


def _whole(name: str, value: Any, low: int) -> int:
    found = _number(name, value, low, 1e9)
    if found != int(found):
        raise Refused(f"{name} must be a whole number of steps, not {_short(value)}")
    return int(found)


def peak_learning_rate(trainer: Steerable) -> float:
    """The learning rate at the schedule's peak."""
    base = getattr(trainer.lr_scheduler, "base_lrs", None)
    assert trainer.optimizer is not None
    return float(base[0] if base else trainer.optimizer.param_groups[0]["lr"])


def _learning_rate(name: str, value: Any, trainer: Steerable, _: How) -> Change:
    """The peak of the schedule, absolute or as a factor, "x0.5"; its shape stays.

    The scheduler computes each step's rate from `base_lrs`, the optimiser uses that of its groups, the log shows
    `_last_lr`, and a resume starts from `initial_lr`: all four have to change together.
    """
    is_factor = isinstance(value, str) and value[:1] in ("x", "*")
    old = peak_learning_rate(trainer)
    new = _number("learning_rate", value[1:], 0, 1e6) * old if is_factor else _number("learning_rate", value, 0, 10)
    if new > 10:
        raise Refused(f"learning_rate must be a number from 0 to 10, not {new:g}")

    def change() -> tuple[Values, Values]:
        assert trainer.optimizer is not None
        if new == old:
            return {name: old}, {name: new}
        scheduler, groups = trainer.lr_scheduler, trainer.optimizer.param_groups
        bases = getattr(scheduler, "base_lrs", None) or [group["lr"] for group in groups]
        for index, (group, base) in enumerate(zip(groups, bases, strict=True)):
            share = base / old if old else 1.0
            factors = getattr(scheduler, "lr_lambdas", None)
            shape = factors[index](scheduler.last_epoch) if factors else (group["lr"] / base if base else 1.0)
            group["initial_lr"] = new * share
            group["lr"] = new * share * shape
        if getattr(scheduler, "base_lrs", None):
            scheduler.base_lrs = [group["initial_lr"] for group in groups]
        scheduler._last_lr = [group["lr"] for group in groups]
        trainer.args.learning_rate = new
        return {name: old}, {name: new}

    return change


def _weight_decay(name: str, value: Any, trainer: Steerable, _: How) -> Change:
    new = _number(name, value, 0, 10)

    def change() -> tuple[Values, Values]:
        old, trainer.args.weight_decay = trainer.args.weight_decay, new
        assert trainer.optimizer is not None
        for group in trainer.optimizer.param_groups[:1]:  # the second group holds biases and norms, never decayed
            group["weight_decay"] = new
        return {name: old}, {name: new}

    return change


def _max_grad_norm(name: str, value: Any, trainer: Steerable, _: How) -> Change:
    new = _number(name, value, 0, 1e9)
    if trainer.is_deepspeed_enabled:
        raise Refused("DeepSpeed cuts gradients itself, by the norm it was started with; stop, set it and resume")

    def change() -> tuple[Values, Values]:
        old, trainer.args.max_grad_norm = trainer.args.max_grad_norm, new
        return {name: old}, {name: new}

    return change


def _interval(name: str, value: Any, trainer: Steerable, _: How) -> Change:
    new = _whole(name, value, 1)
    strategy = name.replace("_steps", "_strategy")
    chosen = getattr(trainer.args, strategy)
    if chosen != "steps":
        raise Refused(f"{name} has no effect: training.{strategy} is {chosen.value!r}")

    def change() -> tuple[Values, Values]:
        old = getattr(trainer.state, name)
        for holder in (trainer.state, trainer.args):
            setattr(holder, name, new)
        return {name: old}, {name: new}

    return change


def _end(name: str, value: Any, trainer: Steerable, how: How) -> Change:
    """Where the run ends; the rest of the schedule is stretched to it, or keeps its pace."""
    new = _whole(name, value, 1) if name == "max_steps" else _steps_of(_number(name, value, 0, 1e6), trainer)
    here = trainer.state.global_step
    if new <= here:
        raise Refused(f"the run has done {here} steps; it can end at step {here + 1} or later, or be stopped now")

    def change() -> tuple[Values, Values]:
        old = trainer.state.max_steps
        trainer.state.max_steps = new
        follows = trainer.args.lr_scheduler_type not in ENDLESS
        trainer.course = trainer.course.moved(trainer.lr_scheduler.last_epoch, new, how) if follows else trainer.course
        if not trainer.stop_reason:  # the step in hand was the last one, and is no more
            trainer.control.should_training_stop = False
        told = {name: value} if name != "max_steps" else {}
        return {"max_steps": old}, {**told, "max_steps": new, **({_SCHEDULE: how} if follows else {})}

    return change


def _steps_of(num_epochs: float, trainer: Steerable) -> int:
    if trainer.steps_per_epoch is None:
        raise Refused("nobody knows how long an epoch of this data is; set max_steps instead")
    return math.ceil(num_epochs * trainer.steps_per_epoch)


_FIELDS: dict[str, Callable[[str, Any, Steerable, How], Change]] = {
    "learning_rate": _learning_rate,
    "weight_decay": _weight_decay,
    "max_grad_norm": _max_grad_norm,
    "logging_steps": _interval,
    "save_steps": _interval,
    "eval_steps": _interval,
    "max_steps": _end,
    "num_train_epochs": _end,
}
"""The fields that can be set while a run goes on; each checks its new value and returns the change to make."""
