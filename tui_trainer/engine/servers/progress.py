"""Long tasks inside a worker's method: their reports go out as items while they run."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from tui_trainer.engine.report import Report
from tui_trainer.wire.server import Cancellation

T = TypeVar("T")

_SECONDS_BETWEEN = 0.1
"""Reports of the same task come this far apart at least."""
_POLL_SECONDS = 0.1


def with_progress(task: Callable[[Report], T], cancellation: Cancellation) -> Generator[dict[str, Any], None, T]:
    """Run a task in a thread of its own.

    Args:
        task: the work; its reports raise `CancelledError` once the request is cancelled.
        cancellation: of the request.

    Yields:
        {"task", "done", "total"} for its reports.

    Returns:
        What the task returns; what it raises is raised.
    """
    items: queue.Queue[dict[str, Any] | None] = queue.Queue()
    outcome: dict[str, Any] = {}

    def run() -> None:
        try:
            outcome["result"] = task(_throttled(items, cancellation))
        except BaseException as error:
            outcome["error"] = error
        items.put(None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while True:
            try:
                item = items.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                cancellation.check()
                continue
            if item is None:
                break
            yield item
    finally:
        if cancellation.is_cancelled:
            thread.join()
    if "error" in outcome:
        raise outcome["error"]
    result: T = outcome["result"]
    return result


def _throttled(items: queue.Queue[dict[str, Any] | None], cancellation: Cancellation) -> Report:
    last_task, last_time = "", 0.0

    def report(task: str, done: int | None, total: int | None) -> None:
        nonlocal last_task, last_time
        cancellation.check()
        now = time.monotonic()
        if task != last_task or now - last_time >= _SECONDS_BETWEEN or (done is not None and done == total):
            last_task, last_time = task, now
            items.put({"task": task, "done": done, "total": total})

    return report
