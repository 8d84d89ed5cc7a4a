"""What a command does to a running trainer: new values for its fields, save, evaluate, sample, pause, stop.

Every rank carries out the same commands after the same step; rank 0 acknowledges each with a `ControlApplied` event. A
command that makes no sense is refused with a reason and never ends a training. A run also pauses by itself: when the
disk is full, until there is space, and when its loss is no longer a number, if it was told to. A command that sets
fields is written to the command log before it takes effect, and carried out again at its own step when the run resumes
before that. Called by `engine.trainer.trainer`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from tui_trainer.config.upkeep import OnNan
from tui_trainer.engine.trainer.command_log import CommandLog
from tui_trainer.engine.trainer.failures import NotANumberError
from tui_trainer.engine.trainer.journal import EventLog
from tui_trainer.engine.trainer.live import Refused, Steerable, Values, planned_change, restore, settings_after
from tui_trainer.engine.trainer.mailbox import Health, Mailbox
from tui_trainer.engine.trainer.watch import LossWatch
from tui_trainer.errors import CancelledError
from tui_trainer.runs.control import Command
from tui_trainer.runs.events import Alert, ControlApplied, RunContinued, RunPaused

_HOPELESS_AFTER = 3
"""Steps in a row without a finite loss after which the run gives up."""

_NAN_REMEDY = "Lower the learning rate; look at the rows of this step. Checkpoints are not overwritten."


class Steering:
    """Carries out commands at step boundaries.

    Args:
        mailbox: where they come from.
        events: where they are acknowledged.
        log: where those that set fields are written down first.
        on_nan: what to do when the loss is no longer a number.

    Attributes:
        is_paused: whether the run waits.
        lacks_space: whether it waits for space on the disk, and goes on by itself.
        stop_reason: why the run was asked to stop; empty while it was not.
        settings: the fields that were set, with their present values: what a checkpoint has to hold of the commands.
    """

    def __init__(self, mailbox: Mailbox, events: EventLog, log: CommandLog, on_nan: OnNan = "stop") -> None:
        self._mailbox = mailbox
        self._events = events
        self._log = log
        self._on_nan = on_nan
        self._last_bad = -1
        self._is_parked = False
        self.is_paused = False
        self.lacks_space = False
        self.stop_reason = ""
        self.settings: Values = {}

    def begin(self, trainer: Steerable, settings: Mapping[str, Any], known: Collection[str]) -> None:
        """Make the run what the commands made it; called by all ranks before the first step.

        Args:
            trainer: the trainer, in the state of its checkpoint.
            settings: `settings` as the checkpoint holds them, without those that the configuration overrules now.
            known: ids of the commands carried out after the checkpoint's step whose effect it holds.
        """
        self.settings = restore(settings, trainer)
        self._log.begin(trainer.state.global_step, known)
        self._replay(trainer)

    def done_at(self, step: int) -> list[str]:
        """Ids of the logged commands carried out after `step`, for the checkpoint of that step."""
        return self._log.done_at(step)

    def before_first_step(self, trainer: Steerable) -> None:
        """Carry out what came in before the first step; called by all ranks.

        Raises:
            CancelledError: the run is to stop.
        """
        step = trainer.state.global_step
        for command in self._mailbox.receive(step, Health(), is_urgent=True).commands:
            self._carry_out(command, trainer)
        while self.is_paused:
            self.while_paused(trainer)
        if self.stop_reason:
            raise CancelledError(f"{self.stop_reason} before its first step")

    def after_step(self, trainer: Steerable, watch: LossWatch) -> None:
        """Carry out what came in; called by all ranks after each step, before it is logged, evaluated and saved.

        Raises:
            NotANumberError: on all ranks, when going on makes no sense.
        """
        self._replay(trainer)
        state = trainer.state
        health = Health(tuple(watch.bad_steps), watch.num_bad, self._events.is_mute)
        agreement = self._mailbox.receive(state.global_step, health, is_urgent=state.global_step >= state.max_steps)
        if agreement.health is not None:
            watch.was_told()
            self._judge(agreement.health, state.global_step)
        for command in agreement.commands:
            self._carry_out(command, trainer)

    def while_paused(self, trainer: Steerable) -> None:
        """Wait a moment for commands; called again and again by all ranks while the run is paused."""
        for command in self._mailbox.wait(trainer.state.global_step):
            self._carry_out(command, trainer)

    def wait_for_space(self, step: int, what: str) -> None:
        """Pause until there is space on the disk; called by all ranks."""
        if self.lacks_space:
            return
        self.is_paused = self.lacks_space = True
        self._events.write(
            RunPaused(
                step=step,
                reason="disk_full",
                message=what,
                remedy="Free space; the run then goes on by itself. `continue` goes on without this checkpoint.",
            ),
            durable=True,
        )

    def space_is_back(self, step: int) -> None:
        """Go on after a full disk; called by all ranks."""
        if self.lacks_space:
            self.is_paused = self.lacks_space = False
            self._events.write(
                RunContinued(step=step, reason="disk_full", message="there is space again"), durable=True
            )

    def _judge(self, health: Health, step: int) -> None:
        """What follows from how the ranks are."""
        if health.is_mute:
            self.wait_for_space(step, "the disk is full: the run cannot write down what happens")
        for bad in health.bad_steps:
            if bad != self._last_bad + 1:
                self._tell_bad(bad, step)
            self._last_bad = bad
        if self._on_nan == "stop" and health.num_bad >= _HOPELESS_AFTER:
            raise NotANumberError(
                "the loss is no longer a number; the weights cannot recover from that",
                remedy="Lower training.learning_rate or add warmup_steps, and start from the last checkpoint. In "
                "float16, try bfloat16.",
            )

    def _tell_bad(self, bad: int, step: int) -> None:
        """Tell that a row of steps without a finite loss begins at step `bad`, and pause if that is wanted."""
        message = f"the loss of step {bad} is not finite (NaN or infinity)"
        self._events.write(Alert(step=bad, kind="nan", message=message, remedy=_NAN_REMEDY), durable=True)
        if self._on_nan == "pause":
            self.is_paused = True
            self._events.write(
                RunPaused(step=step, reason="nan", message=message, remedy="`continue` goes on, `stop` ends it."),
                durable=True,
            )

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
                latency_seconds=None if is_replay or command.age is None else round(command.age, 3),
                error=error,
                replayed=is_replay or None,
            ),
            durable=True,
        )
        if command.id:
            self._mailbox.remove(command)

    def _set(self, command: Command, trainer: Steerable, *, is_replay: bool) -> tuple[Values, Values]:
        """Set one or more fields, all or none of them, once that is written down."""
        change = planned_change(command.arguments, trainer)
        step = trainer.state.global_step
        if not is_replay and not self._log.record(command, step):
            raise Refused("it could not be written down in commands.jsonl, without which it would not survive a resume")
        old, new = change()
        self._log.carried_out(command, step)
        self.settings = settings_after(self.settings, new, trainer)
        return old, new

    def _action(self, name: str) -> Callable[[Mapping[str, Any], Steerable, Command], tuple[Any, Any]]:
        actions = {
            "save": _save,
            "eval": self._evaluate,
            "sample": self._sample,
            "pause": self._pause,
            "continue": self._continue,
            "stop": self._stop,
        }
        if name not in actions:
            raise Refused(f"there is no command {name!r}")
        return actions[name]

    def _pause(self, arguments: Mapping[str, Any], trainer: Steerable, __: Command) -> tuple[bool, Any]:
        was_paused = self.is_paused
        if arguments.get("offload") is True and not self._is_parked:
            trainer.park()
            self._is_parked = True
        self.is_paused = True
        return was_paused, "offloaded" if self._is_parked else True

    def _continue(self, _: Mapping[str, Any], trainer: Steerable, __: Command) -> tuple[bool, bool]:
        was_paused, self.is_paused, self.lacks_space = self.is_paused, False, False
        self._unpark(trainer)
        return was_paused, False

    def _stop(self, _: Mapping[str, Any], trainer: Steerable, command: Command) -> tuple[None, None]:
        self._unpark(trainer)
        self.is_paused = self.lacks_space = False
        self.stop_reason = f"asked to stop by {command.by}" if command.by else "asked to stop"
        trainer.control.should_save = True
        trainer.control.should_training_stop = True
        return None, None

    def _unpark(self, trainer: Steerable) -> None:
        if self._is_parked:
            trainer.unpark()
            self._is_parked = False

    def _evaluate(self, _: Mapping[str, Any], trainer: Steerable, __: Command) -> tuple[None, None]:
        self._refuse_parked()
        if not trainer.can_evaluate:
            raise Refused("the run has neither evaluation data nor prompts: set data.eval_split or sampling.prompts")
        trainer.control.should_evaluate = True
        return None, None

    def _sample(self, _: Mapping[str, Any], trainer: Steerable, __: Command) -> tuple[None, None]:
        self._refuse_parked()
        if not trainer.can_sample:
            raise Refused("the run has no prompts: set sampling.prompts")
        trainer.write_samples()
        return None, None

    def _refuse_parked(self) -> None:
        if self._is_parked:
            raise Refused("the model is in main memory while the run is paused; continue first")


def _save(_: Mapping[str, Any], trainer: Steerable, __: Command) -> tuple[None, None]:
    trainer.control.should_save = True
    return None, None
