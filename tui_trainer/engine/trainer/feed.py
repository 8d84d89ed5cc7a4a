"""Which rows each rank trains on, batch by batch, from any position and for any number of ranks.

The rows of an epoch stand in one order that follows from a seed and the epoch's number. A batch of all ranks together
is the next piece of that order, of which each rank takes its share. So a position is the number of rows that are done:
a run goes on from it without touching what lies before, on as many ranks and in batches as large as it likes, and sees
each row once an epoch. Nothing here draws from the random numbers that the model uses.

Rows that are streamed have no order to compute; the stream itself tells and takes its position (`Stream`).

Used by `engine.trainer.resuming`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices

from tui_trainer.engine.data.example import IGNORED
from tui_trainer.runs.checkpoint_state import DataPosition
from tui_trainer.runs.row_order import RowOrder

Row = dict[str, Any]
Collate = Callable[[list[Row]], Any]


@runtime_checkable
class Stream(Protocol):
    """Rows that come one after the other, the same on every rank, and can go on from where they were.

    Every rank draws all rows and keeps its share of them, so that one state is the position of all ranks.
    """

    def __iter__(self) -> Iterator[Row]:
        """The rows from the present position to the end of the data; asked again, the rows of the next epoch."""

    def state_dict(self) -> dict[str, Any]:
        """The position behind the last row that was drawn, as JSON can hold it."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a position, without drawing the rows before it."""


@dataclass(frozen=True)
class Share:
    """The part of each batch that one rank computes.

    Attributes:
        rank: number of the rank.
        size: how many ranks share a batch.
        num_rows: rows of a batch for each of them.
        fills_masked: a rank for which no row is left at the end of an epoch computes one that counts for nothing,
            because all ranks have to take part in each step; if not, it computes one that counts.
    """

    rank: int
    size: int
    num_rows: int
    fills_masked: bool = True

    @property
    def total(self) -> int:
        """Rows of a batch of all ranks together."""
        return self.size * self.num_rows

    def of(self, rows: Sequence[int]) -> list[int]:
        """This rank's part of some row numbers; the complement `~row` stands for a row whose labels do not count."""
        if len(rows) == self.total:
            return list(rows[self.rank * self.num_rows : (self.rank + 1) * self.num_rows])
        mine = list(rows[self.rank :: self.size])
        return mine or [~rows[0] if self.fills_masked else rows[0]]


def epoch_order(position: DataPosition, epoch: int, lengths: Callable[[], Sequence[int]]) -> np.ndarray:
    """The row numbers of an epoch in their order, shape (num_rows,).

    The order of "random" is that of accelerate's `SeedableRandomSampler`, that of "group_by_length" the one of
    transformers' `LengthGroupedSampler` with a generator of its own.

    Args:
        position: what the order follows from: number of rows, strategy, seed, size of the groups.
        epoch: number of the epoch, from 0.
        lengths: tokens of each row; asked only where they matter.
    """
    if position.strategy == "sequential":
        return np.arange(position.num_rows)
    generator = torch.Generator().manual_seed(position.seed + epoch)
    if position.strategy == "group_by_length":
        grouped: Any = get_length_grouped_indices
        return np.array(grouped(lengths(), position.group_size, generator=generator))
    return torch.randperm(position.num_rows, generator=generator).numpy()


class RankBatches(Sampler[list[int]]):
    """The batches of one rank in the present epoch, as row numbers.

    Args:
        position: where the first epoch begins.
        share: this rank's part.
        drop_last: leave out the last batch of an epoch if it is not full.
        lengths: tokens of each row.
    """

    def __init__(
        self, position: DataPosition, share: Share, *, drop_last: bool, lengths: Callable[[], Sequence[int]]
    ) -> None:
        self._position = position
        self._share = share
        self._drop_last = drop_last
        self._lengths = lengths
        self._epoch, self._start = position.epoch, position.num_done

    def begin(self, epoch: int, start: int) -> None:
        """Go on with row `start` of an epoch's order."""
        self._epoch, self._start = epoch, start

    def count(self, start: int = 0) -> int:
        """Batches of an epoch from row `start` of its order on."""
        batches = (self._position.num_rows - start) / self._share.total
        return math.floor(batches) if self._drop_last else math.ceil(batches)

    def __len__(self) -> int:
        return self.count()

    def __iter__(self) -> Iterator[list[int]]:
        order = epoch_order(self._position, self._epoch, self._lengths)
        total = self._share.total
        for number in range(self.count(self._start)):
            first = self._start + number * total
            yield self._share.of(order[first : first + total].tolist())


class _WithFillers(Dataset[Row]):
    """A dataset in which the index `~row` is that row with no label that counts."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        return self.rows[index] if index >= 0 else _masked(self.rows[~index])


class _StreamBatches(IterableDataset[Any]):
    """The batches of one rank, from a stream."""

    def __init__(self, stream: Stream, share: Share, collate: Collate) -> None:
        self._stream = stream
        self._share = share
        self._collate = collate

    def __iter__(self) -> Iterator[Any]:
        rows = iter(self._stream)
        while batch := list(islice(rows, self._share.total)):
            chosen = self._share.of(range(len(batch)))
            yield self._collate([batch[at] if at >= 0 else _masked(batch[~at]) for at in chosen])


def _masked(row: Row) -> Row:
    return {**row, "labels": np.full(len(row["labels"]), IGNORED, dtype=np.int64)}


class Feed:
    """The rows of a run for one rank, and the position in them.

    Args:
        rows: a dataset with a length, or a stream.
        position: where to begin.
        share: this rank's part of each batch.
        drop_last: leave out the last batch of an epoch if it is not full.

    Attributes:
        first_epoch: the epoch in which the run begins or goes on.
    """

    def __init__(self, rows: Any, position: DataPosition, share: Share, *, drop_last: bool) -> None:
        self._rows = rows
        self._share = share
        self._drop_last = drop_last
        self._num_batches = 0
        self._batches: RankBatches | None = None
        if not isinstance(rows, Stream):
            self._batches = RankBatches(position, share, drop_last=drop_last, lengths=self._lengths)
            if not self._batches.count(position.num_done):
                position = replace(position, epoch=position.epoch + 1, num_done=0)
        elif position.stream is not None:
            rows.load_state_dict(position.stream)
        self._begun = position
        self.first_epoch = position.epoch

    def _lengths(self) -> list[int]:
        lengths = getattr(self._rows, "lengths", None)
        if lengths is None:
            lengths = [len(self._rows[index]["input_ids"]) for index in range(len(self._rows))]
        return [int(length) for length in lengths]

    def loader(self, collate: Collate, **options: Any) -> DataLoader[Any]:
        """A loader of this rank's batches; it has a random generator of its own.

        Args:
            collate: makes a batch of rows.
            options: of `torch.utils.data.DataLoader`; for a stream those of workers are left out, because a worker
                would be ahead of the position.
        """
        if self._batches is None:
            return DataLoader(_StreamBatches(self._rows, self._share, collate), batch_size=None)
        generator = torch.Generator().manual_seed(self._begun.seed)
        rows = _WithFillers(self._rows)
        return DataLoader(rows, batch_sampler=self._batches, collate_fn=collate, generator=generator, **options)

    def begin(self, epoch: int) -> None:
        """Begin an epoch; the first one where the position is."""
        if epoch != self._begun.epoch:
            self._begun = replace(self._begun, epoch=epoch, num_done=0)
        self._num_batches = 0
        if self._batches is not None:
            self._batches.begin(epoch, self._begun.num_done)

    def batch_done(self) -> None:
        """Count a batch as trained on."""
        self._num_batches += 1

    @property
    def num_batches_left(self) -> int | None:
        """Batches of the present epoch from where it began or went on; None for a stream."""
        return None if self._batches is None else self._batches.count(self._begun.num_done)

    def position(self) -> DataPosition:
        """Where the run goes on after the batches counted so far."""
        done = self._begun.num_done + self._num_batches * self._share.total
        if self._batches is None:
            return replace(self._begun, num_done=done, stream=self._rows.state_dict())
        if self._num_batches >= self._batches.count(self._begun.num_done):
            return replace(self._begun, epoch=self._begun.epoch + 1, num_done=0)
        return replace(self._begun, num_done=done)

    def order(self, accumulation: int) -> RowOrder | None:
        """The way through the rows from where this began; None for a stream.

        Args:
            accumulation: batches of a step.
        """
        if self._batches is None:
            return None
        return RowOrder(self._begun, self._share.total, accumulation, self._drop_last)

    def epochs_done(self) -> float | None:
        """Epochs trained on, in whole and parts; None for a stream, whose length nobody knows."""
        if self._batches is None:
            return None
        at = self.position()
        return at.epoch + at.num_done / max(at.num_rows, 1)
