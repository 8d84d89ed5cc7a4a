"""What happens around each step of a run: the state of a resume, the watch over the loss, the commands that came in."""

from __future__ import annotations

from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from typing_extensions import override

from tui_trainer.engine.trainer.tools import RunTools
from tui_trainer.engine.trainer.trainer import RunTrainer
from tui_trainer.engine.trainer.watch import OverflowWatch


class AfterStep(TrainerCallback):
    """Looks at the step just done and carries out the commands that came in.

    Args:
        trainer: the trainer of the run.
        tools: its parts.
    """

    def __init__(self, trainer: RunTrainer, tools: RunTools) -> None:
        self._trainer = trainer
        self._tools = tools
        self._overflow = OverflowWatch(tools.events)
        self._is_begun = False

    @override
    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Restore what the library does not."""
        resumption = self._trainer.resumption
        self._trainer.restore_losses()
        settings, known = (resumption.settings(), resumption.state.commands) if resumption else ({}, ())
        self._tools.steering.begin(self._trainer, settings, known)
        self._trainer.window.restart_clock()

    @override
    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Carry out what came in before the first step, once everybody knows that the run has started."""
        if not self._is_begun:
            self._is_begun = True
            self._tools.steering.before_first_step(self._trainer)
            self._trainer.window.restart_clock()

    @override
    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Look at the loss and into the mailbox."""
        self._trainer.window.end_step()
        self._tools.watch.end_step(state.global_step, is_last=state.global_step >= state.max_steps)
        is_skipped = bool(self._trainer.accelerator.optimizer_step_was_skipped)
        self._overflow.end_step(state.global_step, is_skipped=is_skipped)
        self._tools.steering.after_step(self._trainer, self._tools.watch)
