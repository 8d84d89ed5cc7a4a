"""What all tests share: an environment for many processes on few cores, their order, and what is no garbage.

What runs real processes begins first, so that no worker is left alone with it at the end.
"""

from __future__ import annotations

import gc
import os
from collections import Counter

import pytest

# Two workers train beside each other on the same cores: threads that spin while they wait take each other's time.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files with the most tests of real processes first; within a file nothing moves.

    `--dist loadfile` hands out whole files in this order. Its own order, most tests first, would keep the few and long
    tests of real processes for the end.
    """
    num_e2e = Counter(item.path for item in items if item.get_closest_marker("e2e"))
    items.sort(key=lambda item: (-num_e2e[item.path], str(item.path)) if num_e2e[item.path] else (0, ""))


def pytest_collection_finish() -> None:
    """Let no collection of garbage look through the libraries again, which are loaded by now.

    They are two million objects, and a Trainer collects at the start of every run: 0.4 of a tiny run's 0.7 seconds.
    """
    gc.collect()
    gc.freeze()
