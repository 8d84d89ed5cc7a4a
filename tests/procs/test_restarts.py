"""When a run is started again: how often, after which reasons, after which pauses."""

from __future__ import annotations

import pytest

from tui_trainer.procs.restarts import LONGEST_DELAY, MAX_FRUITLESS, RestartPolicy


def test_off_unless_asked_for() -> None:
    assert RestartPolicy(0, 10.0).delay_after("killed", 100) is None


@pytest.mark.parametrize("reason", ["nan", "gpu_out_of_memory", "out_of_memory", "disk_full", "data", "configuration"])
def test_what_would_happen_again_is_not_tried_again(reason: str) -> None:
    assert RestartPolicy(5, 10.0).delay_after(reason, 100) is None


def test_number_is_limited() -> None:
    policy = RestartPolicy(2, 10.0)
    assert [policy.delay_after("killed", step) for step in (10, 20, 30)] == [10.0, 10.0, None]
    assert policy.num_restarts == 2


def test_pause_doubles_without_progress_and_the_run_is_given_up() -> None:
    policy = RestartPolicy(100, 10.0)
    assert [policy.delay_after("nccl", 7) for _ in range(MAX_FRUITLESS + 1)] == [10.0, 20.0, 40.0, None]


def test_progress_forgets_the_failures_before() -> None:
    policy = RestartPolicy(100, 10.0)
    assert [policy.delay_after("nccl", step) for step in (7, 5, 7, 8, 8)] == [10.0, 20.0, 40.0, 10.0, 20.0]


def test_pause_has_an_upper_limit() -> None:
    policy = RestartPolicy(100, LONGEST_DELAY)
    assert [policy.delay_after("killed", 0) for _ in range(2)] == [LONGEST_DELAY, LONGEST_DELAY]
