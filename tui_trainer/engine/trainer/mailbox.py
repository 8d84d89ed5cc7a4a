"""Commands to a running trainer, received between steps by all ranks together.

Rank 0 looks into the mailbox a few times a second and hands what it finds to the others in the same collective in
which every rank says whether it was asked to terminate. So a command is carried out at the same step everywhere, and a
signal to any one rank makes all of them save at the same step. Called by `engine.trainer.steering`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed

from tui_trainer.engine.trainer.failures import NotANumberError
from tui_trainer.engine.trainer.termination import Termination
from tui_trainer.runs.control import Command, pending, remove
from tui_trainer.runs.layout import RunLayout

POLL_SECONDS = 0.3
"""How often the mailbox is looked into; one look costs about 20 microseconds."""

TERMINATE_BY = "SIGTERM"
"""The sender of the stop command that a signal stands for."""


@dataclass(frozen=True)
class Group:
    """The ranks that decide together.

    Attributes:
        rank: number of this process.
        size: how many there are.
        device: where tensors for a collective live.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """The sum over all ranks of each value; whole numbers up to 2**53 stay exact."""
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(tensor)
        return [float(value) for value in tensor.tolist()]

    def all_true(self, value: bool) -> bool:
        """Whether `value` is true on every rank."""
        return self.sum([int(value)])[0] == self.size

    def from_first(self, value: Any) -> Any:
        """The object that rank 0 gave."""
        if self.size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0, device=self.device)
        return box[0]


class Mailbox:
    """The commands to a run, the same on every rank at the same step.

    Args:
        layout: the run.
        group: its ranks.
        termination: what SIGTERM asked of this rank.
        ignore_before: Unix time; commands sent earlier were meant for an earlier start of the run and are refused.

    Attributes:
        is_hopeless: whether this rank finds that going on makes no sense; `receive` then raises on every rank.
    """

    def __init__(self, layout: RunLayout, group: Group, termination: Termination, ignore_before: float = 0.0) -> None:
        self._layout = layout
        self._group = group
        self._termination = termination
        self._ignore_before = ignore_before
        self._next_step = 0
        self._last_look = (0, time.monotonic())
        self.is_hopeless = False

    def receive(self, step: int) -> list[Command]:
        """The commands to carry out after `step`, oldest first; called by all ranks after each step.

        Raises:
            NotANumberError: on all ranks, when one of them is hopeless.
        """
        if step < self._next_step:
            return []
        return self._agree(self._look(), step)

    def wait(self, step: int) -> list[Command]:
        """Wait a moment and look, whatever the step; called in turn by all ranks of a paused run."""
        time.sleep(POLL_SECONDS)
        return self._agree(self._look(), step)

    def remove(self, command: Command) -> None:
        """Take a command that was carried out from the mailbox."""
        if self._group.is_first:
            remove(self._layout, command)

    def _look(self) -> list[Command]:
        """What lies in the mailbox; empty on all ranks but the first."""
        if not self._group.is_first:
            return []
        return [self._checked(command) for command in pending(self._layout)]

    def _checked(self, command: Command) -> Command:
        if command.error or command.sent >= self._ignore_before:
            return command
        return Command("refused", id=command.id, by=command.by, error="was sent before the run was started again")

    def _agree(self, found: list[Command], step: int) -> list[Command]:
        """One sum over the ranks: hopeless, signalled, number of commands, steps until the next look."""
        interval = self._steps_until_look(step) if self._group.is_first else 0
        flags = (self.is_hopeless, self._termination.is_requested)
        num_hopeless, num_terminated, num_commands, interval = map(int, self._group.sum([*flags, len(found), interval]))
        if num_hopeless:
            raise NotANumberError(
                "the loss is no longer a number; the weights cannot recover from that",
                remedy="Lower training.learning_rate or add warmup_steps, and start from the last checkpoint. In "
                "float16, try bfloat16.",
            )
        self._next_step = step + interval
        commands = list(self._group.from_first(found)) if num_commands else []
        if num_terminated:
            self._termination.is_requested = False
            commands.append(Command("stop", by=TERMINATE_BY, sent=time.time()))
        return commands

    def _steps_until_look(self, step: int) -> int:
        """How many steps fit between two looks, by the pace since the last one."""
        last_step, last_time = self._last_look
        self._last_look = step, time.monotonic()
        seconds_a_step = (time.monotonic() - last_time) / max(step - last_step, 1)
        return max(1, int(POLL_SECONDS / max(seconds_a_step, 1e-6)))
