"""One round of the fault injection of front ends; `python tests/bench/survival.py 50` is the long form."""

from __future__ import annotations

import random
import shutil

import pytest

from tests.bench.survival import WAYS, survive

SEED = 7


@pytest.mark.e2e
@pytest.mark.parametrize("how", WAYS)
def test_a_run_outlives_its_front_end_and_a_new_one_shows_it(how: str) -> None:
    if how.startswith("tmux") and shutil.which("tmux") is None:
        pytest.skip("tmux is not installed")
    found = survive(how, random.Random(SEED))
    assert (found.goes_on, found.num_left) == (True, 0), f"seed {SEED}"
    assert found.seconds is not None, "the right state never came on the screen"
