"""How far a run has come on its schedule at each step, after its end was moved while it went on.

A schedule is a function of its position, 0 at the first step and `max_steps` at the end that was planned. Without a
change the position is the step. Used by the trainer to set the learning rate, and by the Train screen to show what a
new end would do to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

How = Literal["stretch", "keep"]
"""What a new end does to the rest of the schedule: stretch (or squeeze) it to the new end, or keep its pace."""

ENDLESS = frozenset({"constant", "constant_with_warmup", "inverse_sqrt", "reduce_lr_on_plateau", "greedy"})
"""Shapes that know no end: a new one leaves their rate as it is."""


@dataclass(frozen=True)
class Course:
    """Position on the schedule by step, piecewise linear.

    Attributes:
        end: the position at which the schedule ends, its planned number of steps.
        knots: (step, position) pairs, both growing; after the last one the position stays.
    """

    end: float
    knots: tuple[tuple[float, float], ...]

    @classmethod
    def planned(cls, max_steps: int) -> Course:
        """The course of a run whose end nobody moved."""
        return cls(max_steps, ((0, 0), (max_steps, max_steps)))

    @classmethod
    def restored(cls, end: float, knots: Sequence[Sequence[float]]) -> Course:
        """A course from the numbers in a file.

        Raises:
            ValueError: they are no course.
        """
        pairs = tuple((float(step), float(position)) for step, position in knots)
        if not pairs or list(pairs) != sorted(pairs):
            raise ValueError("the knots of a course have to grow")
        return cls(float(end), pairs)

    def position(self, step: float) -> float:
        """Where on the schedule the run stands after `step` steps."""
        before = self.knots[0]
        for knot in self.knots:
            if step <= knot[0]:
                width = knot[0] - before[0]
                share = (step - before[0]) / width if width else 1.0
                # a step that was not touched has to give the very number it gave before
                return step if before[0] == before[1] and knot[0] == knot[1] else _between(before[1], knot[1], share)
            before = knot
        return before[1]

    def moved(self, at: float, max_steps: float, how: How) -> Course:
        """The course after the end was moved to `max_steps` while the run stood at step `at`."""
        here = (at, self.position(at))
        behind = [knot for knot in self.knots if knot[0] < at]
        if how == "stretch":
            return Course(self.end, (*behind, here, (max_steps, self.end)))
        ahead = [knot for knot in self.knots if at < knot[0] < max_steps]
        return Course(self.end, (*behind, here, *ahead, (max_steps, self.position(max_steps))))


def _between(low: float, high: float, share: float) -> float:
    return low + (high - low) * share
