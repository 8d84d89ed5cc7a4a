"""Waiting for the app without sleeping a guessed time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from textual.pilot import Pilot

_LIMIT_SECONDS = 10.0


async def wait_until(pilot: Pilot[Any], condition: Callable[[], bool]) -> None:
    """Let the app run until a condition holds.

    Raises:
        AssertionError: it does not hold within ten seconds.
    """
    deadline = time.monotonic() + _LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        await pilot.pause(0.01)
    await pilot.pause()
