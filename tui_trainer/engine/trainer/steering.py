"""What a command does to a running trainer: new values for its fields, save, evaluate, sample, pause, stop.

Every rank carries out the same commands after the same step; rank 0 acknowledges each with a `ControlApplied` event. A
command that makes no sense is refused with a reason and never ends a training. A command that sets fields is written
to the command log before it takes effect, and carried out again at its own step when the run resumes before that.
Called by `engine.trainer.trainer`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

import torch
from transformers import TrainerControl, TrainerState, TrainingArguments

from tui_trainer.engine.trainer.command_log import CommandLog
from tui_trainer.engine.trainer.journal import EventLog
from tui_trainer.engine.trainer.mailbox import Mailbox
from tui_trainer.runs.control import Command
from tui_trainer.runs.events import ControlApplied


class Steerable(Protocol):
    """The parts of a `transformers.Trainer` that commands act on."""

    args: TrainingArguments
    state: TrainerState
    control: TrainerControl
    optimizer: torch.optim.Optimizer | None
    lr_scheduler: Any

    @property
    def can_evaluate(self) -> bool:
        """Whether there is anything to evaluate on."""

    @property
    def can_sample(self) -> bool:
        """Whether there are fixed prompts."""

    def write_samples(self) -> None:
        """Answer the fixed prompts."""


class Refused(Exception):  # noqa: N818 - an outcome, not an error
    """A command that cannot be carried out; the text says why."""


class Steering:
    """Carries out commands at step boundaries.

    Args:
        mailbox: where they come from.
        events: where they are acknowledged.
        log: where those that set fields are written down first.

    Attributes:
        is_paused: whether the run waits for `continue`.
        stop_reason: why the run was asked to stop; empty while it was not.
        settings: the fields that were set, with their present values: what a checkpoint has to hold of the commands.
    """

    def __init__(self, mailbox: Mailbox, events: EventLog, log: CommandLog) -> None:
        self._mailbox = mailbox
        self._events = events
        self._log = log
        self.is_paused = False
        self.stop_reason = ""
        self.settings: dict[str, Any] = {}

    def begin(self, trainer: Steerable, settings: Mapping[str, Any], known: Collection[str]) -> None:
        """Make the run what the commands made it; called by all ranks before the first step.

        Args:
            trainer: the trainer, in the state of its checkpoint.
            settings: `settings` as the checkpoint holds them, without those that the configuration overrules now.
            known: ids of the commands carried out after the checkpoint's step whose effect it holds.
        """
        self.settings = dict(settings)
        for name, value in settings.items():
            if name in _FIELDS:
                _FIELDS[name](value, trainer)(trainer)
        self._log.begin(trainer.state.global_step, known)
        self._replay(trainer)

    def after_step(self, trainer: Steerable) -> None:
        """Carry out what came in; called by all ranks after each step, before it is logged, evaluated and saved."""
        self._replay(trainer)
        for command in self._mailbox.receive(trainer.state.global_step):
            self._carry_out(command, trainer)

    def done_at(self, step: int) -> list[str]:
        """Ids of the logged commands carried out after `step`, for the checkpoint of that step."""
        return self._log.done_at(step)

    def while_paused(self, trainer: Steerable) -> None:
        """Wait a moment for commands; called again and again by all ranks while the run is paused."""
        for command in self._mailbox.wait(trainer.state.global_step):
            self._carry_out(command, trainer)

    def _replay(self, trainer: Steerable) -> None:
        for command in self._log.due(trainer.state.global_step):
            self._carry_out(command, trainer, is_replay=True)

    def _carry_out(self, command: Command, trainer: Steerable, *, is_replay: bool = False) -> None:
        """The one place where a command changes a run: carry it out, acknowledge it, take it from the mailbox."""
        old: Any = None
        new: Any = None
        error = command.error or None
        if not error:
            try:
                if command.name == "set":
                    old, new = self._set(command, trainer, is_replay=is_replay)
                else:
                    old, new = self._action(command.name)(command.arguments, trainer, command)
            except Refused as reason:
                error = str(reason)
        self._events.write(
            ControlApplied(
                step=trainer.state.global_step,
                command=command.name,
                id=command.id,
                old=old,
                new=new,
                by=command.by,
                latency_seconds=_latency(command) if command.sent and not is_replay else None,
                error=error,
                replayed=is_replay or None,
            ),
            durable=True,
        )
        if command.id:
            self._mailbox.remove(command)

    def _set(self, command: Command, trainer: Steerable, *, is_replay: bool) -> tuple[dict[str, Any], dict[str, Any]]:
        """Set one or more fields, all or none of them, once that is written down."""
        changes = _changes(command.arguments, trainer)
        step = trainer.state.global_step
        if not is_replay and not self._log.record(command, step):
            raise Refused("it could not be written down in commands.jsonl, without which it would not survive a resume")
        done = {name: change(trainer) for name, change in changes.items()}
        self._log.carried_out(command, step)
        new = {name: value for name, (_, value) in done.items()}
        self.settings |= new
        return {name: value for name, (value, _) in done.items()}, new

    def _action(self, name: str) -> Callable[[Mapping[str, Any], Steerable, Command], tuple[Any, Any]]:
        actions = {
            "save": _save,
            "eval": _evaluate,
            "sample": _sample,
            "pause": self._pause,
            "continue": self._continue,
            "stop": self._stop,
        }
        if name not in actions:
            raise Refused(f"there is no command {name!r}")
        return actions[name]

    def _pause(self, _: Mapping[str, Any], __: Steerable, ___: Command) -> tuple[bool, bool]:
        was_paused, self.is_paused = self.is_paused, True
        return was_paused, True

    def _continue(self, _: Mapping[str, Any], __: Steerable, ___: Command) -> tuple[bool, bool]:
        was_paused, self.is_paused = self.is_paused, False
        return was_paused, False

    def _stop(self, _: Mapping[str, Any], trainer: Steerable, command: Command) -> tuple[None, None]:
        self.is_paused = False
        self.stop_reason = f"asked to stop by {command.by}" if command.by else "asked to stop"
        trainer.control.should_save = True
        trainer.control.should_training_stop = True
        return None, None


def _save(_: Mapping[str, Any], trainer: Steerable, __: Command) -> tuple[None, None]:
    trainer.control.should_save = True
    return None, None


def _evaluate(_: Mapping[str, Any], trainer: Steerable, __: Command) -> tuple[None, None]:
    if not trainer.can_evaluate:
        raise Refused("the run has neither evaluation data nor prompts: set data.eval_split or sampling.prompts")
    trainer.control.should_evaluate = True
    return None, None


def _sample(_: Mapping[str, Any], trainer: Steerable, __: Command) -> tuple[None, None]:
    if not trainer.can_sample:
        raise Refused("the run has no prompts: set sampling.prompts")
    trainer.write_samples()
    return None, None


def _latency(command: Command) -> float:
    """Seconds since a command was sent."""
    return round(max(time.time() - command.sent, 0.0), 3)


Change = Callable[[Steerable], tuple[Any, Any]]


def _changes(arguments: Mapping[str, Any], trainer: Steerable) -> dict[str, Change]:
    """What setting some fields would change; nothing is changed yet.

    Raises:
        Refused: a field cannot be set, or not to that value.
    """
    if not arguments:
        raise Refused("names no field to set")
    changes: dict[str, Change] = {}
    for name, value in arguments.items():
        if name not in _FIELDS:
            raise Refused(f"{name} cannot be changed while the run goes on; {', '.join(_FIELDS)} can")
        changes[name] = _FIELDS[name](value, trainer)
    return changes


def _number(name: str, value: Any, low: float, high: float) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not low <= number <= high:
        raise Refused(f"{name} must be a number from {low:g} to {high:g}, not {value!r}")
    return number


def peak_learning_rate(trainer: Steerable) -> float:
    """The highest rate of the schedule as it is now, commands included."""
    base = getattr(trainer.lr_scheduler, "base_lrs", None)
    assert trainer.optimizer is not None
    return float(base[0] if base else trainer.optimizer.param_groups[0]["lr"])


def _learning_rate(value: Any, trainer: Steerable) -> Change:
    """The peak of the schedule, absolute or as a factor, "x0.5"; its shape stays.

    The scheduler computes each step's rate from `base_lrs`, the optimiser uses that of its groups, the log shows
    `_last_lr`, and a resume starts from `initial_lr`: all four have to change together.
    """
    is_factor = isinstance(value, str) and value[:1] in ("x", "*")
    old = peak_learning_rate(trainer)
    new = _number("learning_rate", value[1:], 0, 1e6) * old if is_factor else _number("learning_rate", value, 0, 10)
    if new > 10:
        raise Refused(f"learning_rate must be a number from 0 to 10, not {new:g}")

    def change(trainer: Steerable) -> tuple[float, float]:
        assert trainer.optimizer is not None
        if new == old:
            return old, new
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
        return old, new

    return change


def _weight_decay(value: Any, _: Steerable) -> Change:
    new = _number("weight_decay", value, 0, 10)

    def change(trainer: Steerable) -> tuple[float, float]:
        old, trainer.args.weight_decay = trainer.args.weight_decay, new
        assert trainer.optimizer is not None
        for group in trainer.optimizer.param_groups[:1]:  # the second group holds biases and norms, never decayed
            group["weight_decay"] = new
        return old, new

    return change


def _max_grad_norm(value: Any, _: Steerable) -> Change:
    new = _number("max_grad_norm", value, 0, 1e9)

    def change(trainer: Steerable) -> tuple[float, float]:
        old, trainer.args.max_grad_norm = trainer.args.max_grad_norm, new
        return old, new

    return change


def _interval(name: str) -> Callable[[Any, Steerable], Change]:
    def field(value: Any, trainer: Steerable) -> Change:
        new = _number(name, value, 1, 1e9)
        if new != int(new):
            raise Refused(f"{name} must be a whole number of steps, not {value!r}")
        strategy = name.replace("_steps", "_strategy")
        chosen = getattr(trainer.args, strategy)
        if chosen != "steps":
            raise Refused(f"{name} has no effect: training.{strategy} is {chosen.value!r}")

        def change(trainer: Steerable) -> tuple[float, float]:
            old = getattr(trainer.state, name)
            for holder in (trainer.state, trainer.args):
                setattr(holder, name, int(new))
            return old, int(new)

        return change

    return field


_FIELDS: dict[str, Callable[[Any, Steerable], Change]] = {
    "learning_rate": _learning_rate,
    "weight_decay": _weight_decay,
    "max_grad_norm": _max_grad_norm,
    "logging_steps": _interval("logging_steps"),
    "save_steps": _interval("save_steps"),
    "eval_steps": _interval("eval_steps"),
}
"""The fields that can be set while a run goes on; each checks its new value and returns the change to make."""
