"""Each row once an epoch, in the same order, wherever the run goes on and however many ranks share the batches."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.data_loader import SeedableRandomSampler

from tui_trainer.engine.trainer.feed import Feed, Share, epoch_order
from tui_trainer.runs.checkpoint_state import DataPosition

ROWS = [{"input_ids": [number] * (1 + number % 7), "labels": [number] * (1 + number % 7)} for number in range(53)]
FRESH = DataPosition(num_rows=len(ROWS), seed=11, group_size=4)


def numbers(rows: list[dict[str, Any]]) -> list[int]:
    """Which rows a batch holds, those that count."""
    return [int(row["input_ids"][0]) for row in rows if row["labels"][0] != -100]


class Ranks:
    """The feeds of all ranks of one start of a run."""

    def __init__(
        self, position: DataPosition, size: int, num_rows: int, *, rows: Any = None, drop: bool = False
    ) -> None:
        streams = [rows() if rows else ROWS for _ in range(size)]
        self._feeds = [
            Feed(stream, position, Share(rank, size, num_rows), drop_last=drop) for rank, stream in enumerate(streams)
        ]
        self.epoch = self._feeds[0].first_epoch
        self._loaders: list[Iterator[Any]] = []
        self._begin()

    def _begin(self) -> None:
        for feed in self._feeds:
            feed.begin(self.epoch)
        self._loaders = [iter(feed.loader(numbers)) for feed in self._feeds]

    def train(self, num_batches: int) -> list[int]:
        """The rows that all ranks train on in some batches."""
        seen: list[int] = []
        for _ in range(num_batches):
            batches = [next(loader, None) for loader in self._loaders]
            if batches[0] is None:
                assert batches == [None] * len(batches)
                self.epoch += 1
                self._begin()
                batches = [next(loader) for loader in self._loaders]
            for feed, batch in zip(self._feeds, batches, strict=True):
                assert batch is not None
                feed.batch_done()
                seen += batch
        return seen

    @property
    def position(self) -> DataPosition:
        positions = [feed.position() for feed in self._feeds]
        assert all(position == positions[0] for position in positions)
        return positions[0]


@pytest.mark.parametrize("strategy", ["random", "sequential", "group_by_length"])
def test_every_row_comes_once_an_epoch_however_the_ranks_change(strategy: str) -> None:
    generator = random.Random(f"ranks {strategy}")
    for _ in range(20):
        position = replace(FRESH, strategy=strategy)
        seen: list[int] = []
        while position.epoch < 3:
            ranks = Ranks(position, generator.randint(1, 5), generator.randint(1, 6))
            # no further than the epoch, so that its border falls where it falls
            seen += ranks.train(generator.randint(1, 4))
            position = ranks.position
        expected = [epoch_order(position, epoch, lambda: [len(row["input_ids"]) for row in ROWS]) for epoch in range(4)]
        flat = np.concatenate(expected)
        for epoch in range(3):
            part = slice(epoch * len(ROWS), (epoch + 1) * len(ROWS))
            assert sorted(seen[part]) == sorted(flat[part]) == list(range(len(ROWS)))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_run_that_goes_on_sees_what_it_would_have_seen(size: int) -> None:
    whole = Ranks(FRESH, size, 4)
    expected = [whole.train(1) for _ in range(40)]
    for stop in (1, 4, 5, 13, 14, 27):
        first = Ranks(FRESH, size, 4)
        first.train(stop)
        second = Ranks(first.position, size, 4)
        assert [second.train(1) for _ in range(40 - stop)] == expected[stop:]


def test_one_rank_alone_has_the_order_of_accelerate() -> None:
    sampler = SeedableRandomSampler(ROWS, data_seed=11)
    expected = [list(sampler), list(sampler)]
    ranks = Ranks(FRESH, 1, 4)
    assert ranks.train(28) == expected[0] + expected[1]


def test_ranks_without_a_row_compute_one_that_counts_for_nothing() -> None:
    share = [Share(rank, 3, 2) for rank in range(3)]
    assert [one.of([7, 8]) for one in share] == [[7], [8], [~7]]
    assert Share(2, 3, 2, fills_masked=False).of([7, 8]) == [7]
    feed = Feed(ROWS[:4], replace(FRESH, num_rows=4, strategy="sequential"), share[2], drop_last=False)
    batch = next(islice(iter(feed.loader(list)), 0, 1))
    assert [int(row["input_ids"][0]) for row in batch] == [2]
    lone = Feed(ROWS[:1], replace(FRESH, num_rows=1), share[1], drop_last=False)
    (only,) = next(iter(lone.loader(list)))
    assert only["input_ids"] == ROWS[0]["input_ids"]
    assert set(only["labels"]) == {-100}


def test_the_last_batch_can_be_left_out() -> None:
    ranks = Ranks(FRESH, 2, 5, drop=True)
    assert len(ranks.train(5)) == 50
    assert (ranks.position.epoch, ranks.position.num_done) == (1, 0)
    # with larger batches nothing is left of this epoch: the next one begins
    rest = Ranks(replace(FRESH, num_done=45), 2, 5, drop=True)
    assert rest.epoch == 1


def test_epochs_are_counted_in_rows() -> None:
    feed = Feed(ROWS, replace(FRESH, epoch=2), Share(0, 1, 10), drop_last=False)
    feed.begin(2)
    found = []
    for _ in range(6):
        feed.batch_done()
        found.append(feed.epochs_done())
    assert found == [2 + done / 53 for done in (10, 20, 30, 40, 50)] + [3]


def test_the_place_is_found_without_touching_a_row() -> None:
    class Counted(list[dict[str, Any]]):
        asked = 0

        def __getitem__(self, index: Any) -> Any:
            self.asked += 1
            return super().__getitem__(index)

    rows = Counted(ROWS)
    feed = Feed(rows, replace(FRESH, num_done=40), Share(0, 1, 4), drop_last=False)
    feed.begin(0)
    next(iter(feed.loader(numbers)))
    assert rows.asked == 4


def test_loading_draws_no_random_number_of_the_model() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    Ranks(FRESH, 2, 4).train(20)
    assert torch.equal(torch.get_rng_state(), before)


class Numbers:
    """A stream of rows that can tell and take its position."""

    def __init__(self) -> None:
        self._at = 0
        self.drawn = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while self._at < len(ROWS):
            self._at += 1
            self.drawn += 1
            yield ROWS[self._at - 1]
        self._at = 0

    def state_dict(self) -> dict[str, Any]:
        return {"at": self._at}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._at = state["at"]


def test_a_stream_goes_on_where_it_was_on_any_number_of_ranks() -> None:
    streamed = DataPosition()
    first = Ranks(streamed, 2, 3, rows=Numbers)
    seen = first.train(4)
    assert first.position.stream == {"at": 24}
    second = Ranks(first.position, 3, 2, rows=Numbers)
    seen += second.train(3)
    third = Ranks(second.position, 1, 5, rows=Numbers)
    seen += third.train(3)
    assert sorted(seen) == list(range(53))
    assert seen[:24] == list(range(24))


def test_a_stream_that_goes_on_draws_only_what_comes_next() -> None:
    stream = Numbers()
    feed = Feed(stream, DataPosition(num_done=40, stream={"at": 40}), Share(0, 1, 4), drop_last=False)
    feed.begin(0)
    assert next(iter(feed.loader(numbers))) == [40, 41, 42, 43]
    assert stream.drawn == 4
