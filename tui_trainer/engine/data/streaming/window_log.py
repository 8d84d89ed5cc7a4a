"""How many items each window of a stream has, kept so that a resumed run does not tokenise again what lies before.

Numbers that anyone could find out again, at the price of tokenising: losing the file costs time and nothing else. All
processes of a run append to it; a line is `window num_items num_left_out`.
"""

from __future__ import annotations

import os
from pathlib import Path

from tui_trainer.paths import cache_dir, make_private


def stream_logs_dir(cache: str | None = None) -> Path:
    """The folder of all logs.

    Args:
        cache: `data.cache_dir`, None for the usual one.
    """
    return (Path(cache).expanduser() if cache else cache_dir()) / "streams"


class WindowLog:
    """The windows of one stream.

    Args:
        path: the file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._counts: dict[int, tuple[int, int]] = {}
        self._size = 0

    def counts(self, window: int) -> tuple[int, int] | None:
        """Items of a window and rows left out of it; None if nobody found out yet."""
        if window not in self._counts:
            self._read()
        return self._counts.get(window)

    def add(self, window: int, num_items: int, num_left_out: int) -> None:
        """Note what a window has."""
        if self.counts(window) is not None:
            return
        self._counts[window] = num_items, num_left_out
        try:
            make_private(self._path.parent)
            line = f"{window} {num_items} {num_left_out}\n".encode()
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(handle, line)
            finally:
                os.close(handle)
        except OSError:
            # a resumed run tokenises once more; this one goes on
            return

    def _read(self) -> None:
        """Read what was added since the last time; half a line waits for its rest."""
        try:
            if self._path.stat().st_size == self._size:
                return
            data = self._path.read_bytes()
        except OSError:
            return
        self._size = len(data)
        for line in data[: data.rfind(b"\n") + 1].splitlines():
            numbers = line.split()
            if len(numbers) == 3 and all(number.isdigit() for number in numbers):
                window, num_items, num_left_out = map(int, numbers)
                self._counts[window] = num_items, num_left_out
