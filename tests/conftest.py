"""The order of the tests: what runs real processes begins first, so that no worker is left alone with it at the end."""

from __future__ import annotations

from collections import Counter

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files with the most tests of real processes first; within a file nothing moves.

    `--dist loadfile` hands out whole files in this order. Its own order, most tests first, would keep the few and long
    tests of real processes for the end.
    """
    num_e2e = Counter(item.path for item in items if item.get_closest_marker("e2e"))
    items.sort(key=lambda item: (-num_e2e[item.path], str(item.path)) if num_e2e[item.path] else (0, ""))
