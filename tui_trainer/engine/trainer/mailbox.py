"""Commands to a running trainer, received between steps by all ranks together.

Rank 0 looks into the mailbox about twice a second and hands what it finds to the others in the same collective in
which every rank tells how it is: asked to terminate, loss no longer a number, and in how many steps they talk again; in
between no rank waits for another. So a command is carried out at the same step everywhere, and a signal to any one rank
makes all of them save at the same step. Called by `engine.trainer.steering`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from tui_trainer.engine.trainer.group import Group
from tui_trainer.engine.trainer.termination import Termination
from tui_trainer.runs.control import Command, pending, remove
from tui_trainer.runs.layout import RunLayout

POLL_SECONDS = 0.3
"""How often one rank, and a paused run, look into the mailbox; one look costs about 20 microseconds."""

TALK_SECONDS = 0.65
"""How often several ranks talk. Each waits there for the slowest, a millisecond and more on a busy machine: at every
step of 200 ms that is close to a hundredth of it, at every third far less, and a command still acts within a second."""

_MAX_STEPS_BETWEEN = 64
"""Steps after which several ranks talk at the latest: their pace may change at any moment."""

TERMINATE_BY = "SIGTERM"
"""The sender of the stop command that a signal stands for."""


@dataclass(frozen=True)
class Health:
    """How a rank is, or the worst of what all ranks say.

    Attributes:
        bad_steps: steps whose loss was not finite, in order, of which the others may not know yet.
        num_bad: how many such steps there were in a row until now.
        is_mute: whether rank 0 can no longer write down what happens.
    """

    bad_steps: tuple[int, ...] = ()
    num_bad: int = 0
    is_mute: bool = False

    @property
    def is_good(self) -> bool:
        """Whether there is nothing to tell."""
        return not self.bad_steps and not self.is_mute


@dataclass(frozen=True)
class Agreement:
    """What all ranks know after they talked.

    Attributes:
        commands: what is to be carried out, oldest first.
        health: the worst that any of them said; None if they did not talk.
    """

    commands: list[Command] = field(default_factory=list)
    health: Health | None = None


class Mailbox:
    """The commands to a run, the same on every rank at the same step.

    Args:
        layout: the run.
        group: its ranks.
        termination: what SIGTERM asked of this rank.
        outdated: ids of the commands that lay there when this start of the run began; they were meant for an earlier
            one and are refused. Told by id, not by time, because clocks are set back.
    """

    def __init__(
        self, layout: RunLayout, group: Group, termination: Termination, outdated: frozenset[str] = frozenset()
    ) -> None:
        self._layout = layout
        self._group = group
        self._termination = termination
        self._outdated = outdated
        self._done: set[str] = set()
        self._interval = 1
        self._last_step = -1
        self._last_time = float("-inf")

    def receive(self, step: int, health: Health, *, is_urgent: bool = False) -> Agreement:
        """What is to be done after `step`; called by all ranks after each step.

        Args:
            step: steps done, the same on all ranks.
            health: how this rank is.
            is_urgent: talk in any case, as at the last step; the same on all ranks.
        """
        if self._group.size == 1:
            is_due = time.monotonic() - self._last_time >= POLL_SECONDS or not health.is_good
            is_due = is_due or self._termination.is_requested
        else:
            is_due = step >= self._last_step + self._interval
        return self._agree(step, health) if is_due or is_urgent else Agreement()

    def wait(self, step: int) -> list[Command]:
        """Wait a moment and look, whatever the step; called in turn by all ranks of a paused run."""
        time.sleep(POLL_SECONDS)
        return self._agree(step, Health()).commands

    def remove(self, command: Command) -> None:
        """Take a command that was carried out from the mailbox; one that cannot be removed is not seen again."""
        if self._group.is_first:
            self._done.add(command.id)
            remove(self._layout, command)

    def _look(self) -> list[Command]:
        """What lies in the mailbox; empty on all ranks but the first."""
        if not self._group.is_first:
            return []
        return [self._checked(command) for command in pending(self._layout) if command.id not in self._done]

    def _checked(self, command: Command) -> Command:
        if command.error or command.id not in self._outdated:
            return command
        return Command("refused", id=command.id, by=command.by, error="was sent before the run was started again")

    def _agree(self, step: int, health: Health) -> Agreement:
        """One sum over the ranks: signals, number of commands, steps until they talk again, and how each of them is."""
        found = self._look()
        interval = self._steps_until_look(step) if self._group.is_first else 0
        own = [int(self._termination.is_requested), len(found), interval, int(health.is_mute)]
        slots = [0] * (2 * self._group.size)
        slots[2 * self._group.rank : 2 * self._group.rank + 2] = [len(health.bad_steps), health.num_bad]
        num_signalled, num_commands, self._interval, num_mute, *slots = map(int, self._group.sum([*own, *slots]))
        self._last_step, self._last_time = step, time.monotonic()
        commands = list(self._group.from_first(found)) if num_commands else []
        if num_signalled:
            self._termination.is_requested = False
            commands.append(Command("stop", by=TERMINATE_BY))
        bad_steps = set().union(*self._group.from_all(health.bad_steps)) if any(slots[::2]) else set()
        return Agreement(commands, Health(tuple(sorted(bad_steps)), max(slots[1::2]), num_mute > 0))

    def _steps_until_look(self, step: int) -> int:
        """How many steps fit between two looks at the pace since the last one; grows slowly, for the pace may fall."""
        num_steps = step - self._last_step
        seconds_a_step = (time.monotonic() - self._last_time) / max(num_steps, 1)
        most = min(2 * self._interval, _MAX_STEPS_BETWEEN)
        return min(max(int(TALK_SECONDS / max(seconds_a_step, 1e-6)), 1), most)
