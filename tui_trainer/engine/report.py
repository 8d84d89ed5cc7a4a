"""How long tasks of the engine tell how far they are; handed down from the command line, a worker or the trainer."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[str, int | None, int | None], None]
"""Called with (task, done, total); the numbers are None while nobody knows them.

A report may raise `CancelledError`: the task then ends and leaves nothing half done.
"""


def ignore_report(task: str, done: int | None, total: int | None) -> None:
    """A report for callers that do not want to know."""
