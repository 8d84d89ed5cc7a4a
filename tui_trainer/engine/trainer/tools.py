"""What a trainer works with besides model and data, made by `engine.trainer.run`."""

from __future__ import annotations

from dataclasses import dataclass

from tui_trainer.engine.trainer.checkpoint import Checkpoints
from tui_trainer.engine.trainer.copies import CheckpointCopies
from tui_trainer.engine.trainer.group import Group
from tui_trainer.engine.trainer.journal import EventLog
from tui_trainer.engine.trainer.quiz import Quiz
from tui_trainer.engine.trainer.steering import Steering
from tui_trainer.engine.trainer.watch import LossWatch
from tui_trainer.runs.checkpoint_state import CheckpointState
from tui_trainer.runs.layout import RunLayout


@dataclass(frozen=True)
class RunTools:
    """What the trainer works with besides model and data.

    Attributes:
        layout: the run directory.
        events: where rank 0 writes what happens.
        group: the ranks.
        steering: what carries out commands.
        checkpoints: where checkpoints go.
        copies: takes them to a second place; None where nobody wants that, and on all ranks but the first.
        watch: looks at each step's loss.
        quiz: the questions asked at each evaluation.
        today: what the state in each checkpoint begins with: configuration, data, tokenizer.
    """

    layout: RunLayout
    events: EventLog
    group: Group
    steering: Steering
    checkpoints: Checkpoints
    copies: CheckpointCopies | None
    watch: LossWatch
    quiz: Quiz
    today: CheckpointState
