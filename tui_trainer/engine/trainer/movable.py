"""A trainer whose end can be moved while it trains: the steps to do, the epochs, the learning rate.

The library fixes all three when it starts: the number of epochs it loops over, the steps at which it stops, and a
schedule made for that many steps. Here the loop goes on for as long as there are steps to do, and the schedule is asked
for a position on the course of the run instead of for a step. Base of `engine.trainer.trainer.RunTrainer`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torch.utils.data import DataLoader
from transformers import TrainingArguments
from transformers.trainer_utils import has_length
from typing_extensions import override

from tui_trainer.config.course import ENDLESS, Course
from tui_trainer.engine.trainer.live import course_of, moved_end
from tui_trainer.engine.trainer.resuming import ResumableTrainer


class MovableTrainer(ResumableTrainer):
    """Trains to an end that may move.

    Args:
        positional: the arguments of `ResumableTrainer`.
        named: more of them.

    Attributes:
        course: how far the run has come on its schedule at each step.
        steps_per_epoch: steps of one pass over the data; None if nobody knows.
    """

    def __init__(self, *positional: Any, **named: Any) -> None:
        super().__init__(*positional, **named)
        self.course = Course.planned(1)
        self.steps_per_epoch: int | None = None
        self._planned_epochs = 0

    @override
    def set_initial_training_values(self, args: TrainingArguments, dataloader: DataLoader[Any]) -> Any:
        """What was planned; the epochs are as many as it takes, the loop ends at `state.max_steps`."""
        epochs, steps_per_epoch, *middle, max_steps = super().set_initial_training_values(args, dataloader)
        self.course = Course.planned(max_steps)
        self.steps_per_epoch = steps_per_epoch if has_length(dataloader) else None
        self._planned_epochs = epochs
        return (sys.maxsize, steps_per_epoch, *middle, max_steps)

    @override
    def _init_training_state(self, max_steps: int, *positional: Any) -> tuple[int, int]:
        """The state to begin with, of a run that ends where it was moved to before its checkpoint."""
        steps_per_epoch, _, *others = positional
        settings = self.resumption.settings() if self.resumption else {}
        moved = moved_end(settings, self.course)
        if moved is not None:
            # before the schedule is placed, which asks for a position on it
            self.course = course_of(settings)
        return super()._init_training_state(moved or max_steps, steps_per_epoch, self._planned_epochs, *others)

    @override
    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> LRScheduler:
        """The library's schedule for the planned number of steps, asked by position."""
        is_new = self.lr_scheduler is None
        scheduler = super().create_scheduler(num_training_steps, optimizer)
        if is_new and isinstance(scheduler, LambdaLR) and self.args.lr_scheduler_type not in ENDLESS:
            scheduler.lr_lambdas = [self._by_position(shape) for shape in scheduler.lr_lambdas]
        return scheduler

    def _by_position(self, shape: Callable[[Any], float]) -> Callable[[int], float]:
        # a plain function: the library would put the fields of any other object into the checkpoint
        def rate(step: int) -> float:
            return shape(self.course.position(step))

        return rate
