"""What a cutoff costs: padding, packing, cut rows."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from tui_trainer.engine.data.packing import pack
from tui_trainer.tui.lengths import Lengths, expected_padded, num_bins


def test_expected_padding_of_random_batches() -> None:
    assert expected_padded([(5, 4)], 2) == pytest.approx(20)
    assert expected_padded([(0, 1), (10, 1)], 2) == pytest.approx(15)


@pytest.mark.parametrize(("seed", "capacity"), [(0, 1024), (1, 64), (2, 4000), (3, 333)])
def test_packing_is_counted_as_it_is_done(seed: int, capacity: int) -> None:
    generator = random.Random(seed)
    lengths = [min(max(int(generator.lognormvariate(5, 1)), 1), capacity) for _ in range(3000)]
    counts = sorted(Counter(lengths).items())
    assert num_bins(counts, capacity) == len(pack(lengths, capacity, 0))


def test_packing_of_very_many_lengths_is_nearly_exact() -> None:
    generator = random.Random(0)
    lengths = [generator.randint(1, 100_000) for _ in range(20_000)]
    exact, counted = len(pack(lengths, 100_000, 0)), num_bins(sorted(Counter(lengths).items()), 100_000)
    assert exact <= counted <= exact * 1.02


def test_costs_of_a_cutoff() -> None:
    lengths = Lengths([(0, 5), (10, 2), (100, 1), (30, 1)])
    assert (lengths.num_rows, lengths.longest) == (4, 100)
    costs = lengths.costs(30, 1)
    assert (costs.num_cut, costs.num_packed) == (1, 3)
    assert costs.share_lost == pytest.approx(70 / 150)
    assert costs.padding == pytest.approx(0)
    assert costs.packing == pytest.approx(80 / 90)
    assert lengths.costs(1000, 1).num_cut == 0
    assert sum(lengths.histogram(7, 100)) == 4
    assert [lengths.quantile(share) for share in (0, 0.5, 1)] == [10, 30, 100]


def test_the_padding_of_real_batches_is_what_is_expected() -> None:
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, 500, size=4000)
    counts = sorted(Counter(lengths.tolist()).items())
    padded = []
    for _ in range(20):
        batches = generator.permutation(lengths).reshape(-1, 8)
        padded.append(8 * batches.max(axis=1).sum())
    assert Lengths(counts).costs(500, 8).padding == pytest.approx(1 - lengths.sum() / np.mean(padded), abs=0.01)
