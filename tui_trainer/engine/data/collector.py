"""Python's search for unreachable cycles, put off while a batch of rows becomes examples.

A batch makes hundreds of thousands of objects that hold no cycle, and each full search walks through all that the
libraries of this process ever made: a quarter of the time of tokenising where torch is loaded.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Look for no cycles inside. Threads that are inside at once do no harm: who comes out first lets it go on."""
    is_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if is_on:
            gc.enable()
