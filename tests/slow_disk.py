"""A folder as on a slow network: every operation on a path below it takes a while, and who waited is on record."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_OPERATIONS = ("open", "stat", "lstat", "listdir", "scandir", "mkdir", "rename", "replace", "unlink", "readlink")


class SlowDisk:
    """Makes the operations of this process on paths below a folder slow.

    Args:
        folder: where the disk is slow.
        seconds: how long each operation takes.

    Attributes:
        threads: the thread of every operation, in order.
    """

    def __init__(self, folder: Path, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = str(folder)
        self._seconds = seconds
        self.threads: list[threading.Thread] = []
        monkeypatch.setattr(io, "open", self._slowed(io.open))
        for name in _OPERATIONS:
            monkeypatch.setattr(os, name, self._slowed(getattr(os, name)))

    def _slowed(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        def slow(path: Any = ".", *positional: Any, **named: Any) -> Any:
            if isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(self._folder):
                self.threads.append(threading.current_thread())
                time.sleep(self._seconds)
            return operation(path, *positional, **named)

        return slow
