"""A series of any length in bounded memory: spikes, sums and counts are kept exactly."""

from __future__ import annotations

import math
import random

import pytest

from tui_trainer.runs.series import Column, Series


def filled(values: list[float], num_buckets: int = 64) -> Series:
    series = Series(num_buckets)
    for step, value in enumerate(values):
        series.append(step, value)
    return series


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 1000, 50_000])
def test_memory_is_bounded_and_nothing_is_lost(count: int) -> None:
    values = [random.Random(count).uniform(-1, 1) for _ in range(count)]
    series = filled(values)
    assert len(series) <= 64
    assert series.num_samples == count
    assert sum(column.num_bad for _, _, column in series) == 0
    if count:
        assert (series.low, series.high) == (min(values), max(values))
        assert series.last == (float(count - 1), values[-1])
        assert (series.first_x, series.last_x) == (0, count - 1)


@pytest.mark.parametrize("at", [0, 1, 777, 49_999])
def test_a_single_spike_is_never_lost(at: int) -> None:
    values = [1.0] * 50_000
    values[at] = 99.0
    series = filled(values)
    assert series.high == 99.0
    (bucket,) = [bucket for bucket in series if bucket[2].high == 99.0]
    assert bucket[0] <= at <= bucket[1]
    columns = series.columns(0, 49_999, 80)
    assert max(column.high for column in columns if column) == 99.0
    assert min(column.low for column in columns if column) == 1.0


def test_means_are_those_of_all_samples() -> None:
    values = [float(number % 7) for number in range(64 * 32)]
    columns = [column for _, _, column in filled(values)]
    assert math.fsum(column.mean for column in columns) / len(columns) == pytest.approx(sum(values) / len(values))


def test_values_that_are_no_numbers_are_counted_and_kept_out() -> None:
    values = [1.0, math.nan, 2.0, math.inf, -math.inf, 3.0]
    series = filled(values)
    assert (series.low, series.high) == (1.0, 3.0)
    assert sum(column.num_bad for _, _, column in series) == 3
    assert series.num_samples == 6
    only_bad = filled([math.nan] * 200)
    assert all(math.isnan(column.mean) and math.isnan(column.low) for _, _, column in only_bad)
    assert sum(column.num_bad for _, _, column in only_bad) == 200
    (column,) = only_bad.columns(0, 199, 1)
    assert column is not None
    assert column.num_bad == 200
    assert math.isnan(column.mean)


def test_bucket_borders_lie_at_fixed_sample_numbers() -> None:
    values = [float(number) for number in range(3000)]
    longer = {bucket[0] for bucket in filled([*values, *values])}
    shorter = {bucket[0] for bucket in filled(values)}
    assert {start for start in longer if start < 3000} <= shorter


def test_columns_of_a_part_and_of_nothing() -> None:
    series = filled([float(number) for number in range(60)])
    columns = series.columns(10, 19, 10)
    assert [column.mean for column in columns if column] == [float(number) for number in range(10, 20)]
    assert series.columns(100, 200, 5) == [None] * 5
    assert series.columns(5, 5, 3)[0] == Column(5.0, 5.0, 5.0, 0)
    assert Series().columns(0, 10, 4) == [None] * 4


def test_value_at() -> None:
    series = filled([float(number * number) for number in range(50)])
    assert series.value_at(7.2) == 49.0
    assert series.value_at(-5) == 0.0
    assert series.value_at(1e9) == 49.0 * 49
    assert Series().value_at(3) is None


def test_forgetting_what_was_done_again() -> None:
    series = filled([float(number) for number in range(50)])
    series.forget_after(19)
    assert (series.num_samples, series.last, series.high) == (20, (19.0, 19.0), 19.0)
    series.append(20, 7.0)
    assert series.last == (20.0, 7.0)
    assert series.num_samples == 21
    series.forget_after(1000)
    assert series.num_samples == 21
    series.forget_after(-1)
    assert (list(series), series.num_samples, series.low) == ([], 0, math.inf)
    series.append(0, 1.0)
    assert (series.low, series.high) == (1.0, 1.0)


def test_nothing_is_lost_after_going_back_into_a_joined_bucket() -> None:
    series = Series(num_buckets=4)
    for number in range(16):
        series.append(number, float(number))
    series.forget_after(5)
    assert series.last is not None
    assert series.last[0] == 5
    for number in range(6, 16):
        assert series.last[0] < number
        series.append(number, 100.0)
    assert series.last == (15.0, 100.0)


def test_the_same_values_over_another_axis() -> None:
    losses, tokens = Series(), Series()
    for step in range(10, 110, 10):
        losses.append(step, 100.0 / step)
        tokens.append(step, 64.0 * step)
    over = losses.along(tokens, 0.5)
    assert (over.first_x, over.last_x) == (320.0, 3200.0)
    assert [column.mean for _, _, column in over] == [column.mean for _, _, column in losses]
    assert over.value_at(320.0) == losses.value_at(10) == 10.0
    assert (losses.first_x, losses.last_x) == (10, 100)


def test_a_rising_series_is_read_between_its_samples_in_joined_buckets_too() -> None:
    rising = Series(8)
    for step in range(5, 1005, 5):
        rising.append(step, 3.0 * step)
    assert [rising.at(x) for x in (0, 2.5, 5, 7.5, 500, 997.5, 1000, 2000)] == pytest.approx(
        [0, 7.5, 15, 22.5, 1500, 2992.5, 3000, 3000]
    )
    assert Series().at(7) == 0.0


def test_the_central_range_leaves_the_outermost_out() -> None:
    series = Series()
    for x in range(200):
        series.append(x, 1000.0 if x == 50 else math.nan if x == 60 else float(x % 10))
    assert series.central_range(0.01) == (0.0, 9.0)
    assert series.central_range(0.0) == (0.0, 1000.0)
    assert Series().central_range(0.01) == (math.inf, -math.inf)
