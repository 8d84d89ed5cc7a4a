"""Which rows a step trains on: where the order of the rows begins and how many of them a step takes.

Written into the event with which a start of a run begins, so that it can be counted for any step later, whatever the
configuration says by then. The order itself follows from `DataPosition` and is computed by `engine.trainer.feed`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tui_trainer.runs.checkpoint_state import DataPosition
from tui_trainer.runs.files import whole_number


@dataclass(frozen=True)
class RowOrder:
    """The way of one start through its rows.

    Attributes:
        position: where it begins.
        batch: rows of a batch of all ranks together.
        accumulation: batches of a step; the last step of an epoch may have fewer.
        drop_last: the last batch of an epoch is left out if it is not full.
    """

    position: DataPosition
    batch: int
    accumulation: int
    drop_last: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The order as it stands in the event."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: object) -> RowOrder | None:
        """The order in an event; None if there is none that could be counted by."""
        if not isinstance(data, Mapping) or not isinstance(data.get("position"), dict):
            return None
        position = DataPosition.from_dict(data["position"])
        batch, accumulation = whole_number(data.get("batch")) or 0, whole_number(data.get("accumulation")) or 0
        if position.num_rows < 1 or batch < 1 or accumulation < 1:
            return None
        return cls(position, batch, accumulation, data.get("drop_last") is True)

    def stretch(self, update: int) -> tuple[int, int, int] | None:
        """The part of an epoch's order that a step trains on.

        Args:
            update: number of the step among those of this start, from 0.

        Returns:
            The epoch, and the first row of its order and the one after the last; None if an epoch has no batch.
        """
        epoch, done = self.position.epoch, self.position.num_done
        if update >= (left := self._num_updates(done)):
            per_epoch = self._num_updates(0)
            if not per_epoch:
                return None
            whole, update = divmod(update - left, per_epoch)
            epoch, done = epoch + 1 + whole, 0
        first = done + update * self.batch * self.accumulation
        last = min(first + self.batch * self.accumulation, done + self._num_batches(done) * self.batch)
        return epoch, first, min(last, self.position.num_rows)

    def _num_batches(self, done: int) -> int:
        batches = (self.position.num_rows - done) / self.batch
        return math.floor(batches) if self.drop_last else math.ceil(batches)

    def _num_updates(self, done: int) -> int:
        return math.ceil(self._num_batches(done) / self.accumulation)
