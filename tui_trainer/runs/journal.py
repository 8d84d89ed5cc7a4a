"""Append-only JSON lines: one writer, any number of readers that never read a byte twice.

`JournalWriter` is used by rank 0 and by the supervisor; `Tailer` by the screens, the command line and the supervisor.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from tui_trainer.runs.events import Event
from tui_trainer.runs.files import dump_line

_CHUNK = 1 << 18


class JournalWriter:
    """Appends lines, each in one `write`, so that a kill never tears an earlier line.

    Args:
        path: the file; created if missing.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._sequence = _count_lines(self._descriptor)
        self._end_torn_line()

    def _end_torn_line(self) -> None:
        size = os.fstat(self._descriptor).st_size
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
            os.write(self._descriptor, b"\n")

    def append(self, fields: dict[str, Any], *, durable: bool = False) -> None:
        """Append one object as it is.

        Args:
            fields: the object.
            durable: force it to the disk before returning.

        Raises:
            OSError: the disk is full; no part of the line stays in the file.
        """
        line = dump_line(fields)
        written = os.write(self._descriptor, line)
        if written != len(line):
            os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if durable:
            os.fsync(self._descriptor)

    def write(self, event: Event, *, durable: bool = False) -> Event:
        """Append an event, numbered and stamped; returns it as written.

        Args:
            event: what happened.
            durable: force it to the disk before returning.
        """
        stamped = replace(event, seq=self._sequence, t=event.t or time.time())
        self.append(stamped.to_dict(), durable=durable)
        self._sequence += 1
        return stamped

    def sync(self) -> None:
        """Force what was written to the disk; one that cannot has the lines all the same."""
        with contextlib.suppress(OSError):
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def __enter__(self) -> JournalWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _count_lines(descriptor: int) -> int:
    count, offset = 0, 0
    while chunk := os.pread(descriptor, _CHUNK, offset):
        count += chunk.count(b"\n")
        offset += len(chunk)
    return count


class Tailer:
    """Reads the whole lines that were appended since the last call.

    A line still being written waits until its line break is there. A file that shrank or was replaced is read anew.

    Args:
        path: the file, which need not be there yet.
        tail_bytes: begin with the whole lines of about this many bytes at the end, instead of at the beginning.

    Attributes:
        num_restarts: how often the file was read anew from its beginning.
    """

    def __init__(self, path: Path, *, tail_bytes: int | None = None) -> None:
        self._path = path
        self._offset = 0
        self._inode = 0
        self._rest = b""
        self.num_restarts = 0
        if tail_bytes is not None:
            self._skip_to_last(tail_bytes)

    def _skip_to_last(self, num_bytes: int) -> None:
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_size > num_bytes:
                    # the line that the cut goes through is left out
                    file.seek(status.st_size - num_bytes - 1)
                    file.readline()
                    self._inode, self._offset = status.st_ino, file.tell()
        except OSError:
            return

    def read(self, max_bytes: int = _CHUNK) -> list[bytes]:
        """Whole new lines without their line breaks, at most about `max_bytes`; empty if there is nothing new."""
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != self._inode or status.st_size < self._offset:
                    self.num_restarts += self._inode != 0
                    self._inode, self._offset, self._rest = status.st_ino, 0, b""
                if status.st_size == self._offset:
                    return []
                file.seek(self._offset)
                chunk = file.read(max_bytes)
                while b"\n" not in chunk and (more := file.read(max_bytes)):
                    chunk += more
        except OSError:
            return []
        self._offset += len(chunk)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return lines

    def has_more(self) -> bool:
        """Whether the file holds bytes that were not read yet."""
        try:
            return self._path.stat().st_size > self._offset
        except OSError:
            return False


def read_lines(path: Path) -> Iterator[bytes]:
    """All whole lines of a file."""
    tailer = Tailer(path)
    while lines := tailer.read():
        yield from lines
