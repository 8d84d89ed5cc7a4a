"""The tail of a log file: follows its end, keeps some thousand lines, shows no control sequence of it."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from pathlib import Path

from tui_trainer.text import safe_line
from tui_trainer.tui.widgets.cursor_list import CursorList, Parts

_MOST_LINES = 5000
_FIRST_BYTES = 1 << 16
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_ERROR = re.compile(r"error|exception|traceback|killed|out of memory", re.IGNORECASE)
_WARNING = re.compile(r"warn", re.IGNORECASE)


class LogPane(CursorList):
    """The last lines of a file; the cursor follows the end until it is moved away from it."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._path: Path | None = None
        self._is_reading = False
        self._offset = 0
        self._lines: deque[str] = deque(maxlen=_MOST_LINES)
        self._rest = b""

    def open(self, path: Path) -> None:
        """Follow another file."""
        self._path, self._offset, self._rest = path, 0, b""
        self._lines.clear()
        self.set_num_lines(0, cursor=0)
        self.poll()
        if not self._lines:
            self.set_num_lines(1, cursor=0)

    def poll(self) -> None:
        """Take in what was appended, as soon as the disk gives it."""
        if self._path is not None and not self._is_reading:
            self._is_reading = True
            self.run_worker(self._follow(self._path, self._offset))

    async def _follow(self, path: Path, offset: int) -> None:
        try:
            text, end = await asyncio.to_thread(_read, path, offset)
        finally:
            self._is_reading = False
        if path == self._path and offset == self._offset:
            self._offset = end
            self._take(text)
        else:
            self.poll()  # another file was opened meanwhile

    def _take(self, text: bytes) -> None:
        if not text:
            return
        is_following = self.cursor >= self.num_lines - 1
        *lines, self._rest = (self._rest + text).split(b"\n")
        for line in lines:
            self._lines.append(clean_line(line))
        self.set_num_lines(len(self._lines), cursor=len(self._lines) - 1 if is_following else None)

    def line_parts(self, line: int) -> Parts:
        """The line, errors and warnings in their colours; of an empty log that it is empty."""
        if not self._lines:
            return ((" nothing was written to the log", "list--dim"),)
        text = self._lines[line]
        style = "list--bad" if _ERROR.search(text) else "list--warn" if _WARNING.search(text) else ""
        return ((f" {text}", style),)


def _read(path: Path, offset: int) -> tuple[bytes, int]:
    """What a file holds from an offset on, and where the next look begins; of a long new file only the end."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if size < offset:
                offset = 0
            if offset == 0 and size > _FIRST_BYTES:
                offset = size - _FIRST_BYTES
            file.seek(offset)
            chunk = file.read(_FIRST_BYTES)
    except OSError:
        return b"", offset
    return chunk, offset + len(chunk)


def clean_line(line: bytes) -> str:
    """A line of a log as text: what a progress bar overwrote is left out, colour sequences too."""
    text = line.decode("utf-8", "replace").rstrip("\r").rpartition("\r")[2]
    return safe_line(_SEQUENCE.sub("", text))
