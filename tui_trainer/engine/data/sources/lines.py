"""Where each line of a file begins: an index built as far as it is asked for, exact, and cheap enough for a gigabyte.

Blank lines are no rows and are left out. The index of n rows takes 8 n bytes. Used by `json_lines` and `passages`.
"""

from __future__ import annotations

import bisect
import itertools
import threading
from collections.abc import Sequence

import numpy as np

from tui_trainer.engine.data.rows import Heartbeat, no_heartbeat
from tui_trainer.engine.data.sources.content import Content
from tui_trainer.engine.data.sources.recognise import UTF8_MARK

_CHUNK_BYTES = 512 << 10
"""Bytes scanned at a time: larger pieces cost memory and gain no time."""

_NEWLINE = 10
_SPACE = 32


class LineIndex:
    """Byte spans of the lines of `content` that are not blank.

    Thread safe: one thread may count while others read.

    Args:
        content: the bytes; nobody else may call its `next_chunk`.
    """

    def __init__(self, content: Content) -> None:
        self._content = content
        self._lock = threading.Lock()
        self._starts: list[np.ndarray] = []
        """Start offsets, one array a chunk."""
        self._part_ends: list[int] = []
        """Where the last line of each array ends."""
        self._first_rows: list[int] = [0]
        """Number of the first row of each array, and of the row after the last."""
        self._blank_rows: list[int] = []
        """For each blank line, the number of the row that follows it."""
        self._scanned = 0
        self._open_start = 0
        """Where the line begins whose end has not been seen yet."""
        self._is_done = False

    @property
    def num_rows(self) -> int | None:
        """Number of rows; None until the whole has been scanned."""
        return self._first_rows[-1] if self._is_done else None

    def loss_at(self, row: int, span: tuple[int, int]) -> str:
        """What is lost with a row because the bytes end early; empty if nothing is."""
        if not self._content.fault or row + 1 != self.num_rows:
            return ""
        is_empty = span[0] == span[1]
        return f"{self._content.fault}; {'what lies behind it is lost' if is_empty else 'this row is torn'}"

    def count(self, heartbeat: Heartbeat = no_heartbeat) -> int:
        """Scan to the end."""
        while not self._is_done:
            with self._lock:
                self._scan_chunk()
            heartbeat(self._first_rows[-1])
        return self._first_rows[-1]

    def spans(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Start and end offset of each row from `start` up to `stop`; fewer at the end of the file.

        A span may end with line breaks and blank lines.
        """
        self._scan_up_to(stop)
        stop = min(stop, self._first_rows[-1])
        spans: list[tuple[int, int]] = []
        part = bisect.bisect_right(self._first_rows, start) - 1
        while start < stop:
            first, last = self._first_rows[part], self._first_rows[part + 1]
            here = self._starts[part][start - first : min(stop, last) - first + 1].tolist()
            edges = here if stop < last else [*here, self._part_ends[part]]
            spans.extend(itertools.pairwise(edges))
            start = last
            part += 1
        return spans

    def line_number(self, row: int) -> int:
        """The line a row stands on, 1 is the first."""
        return row + 1 + bisect.bisect_right(self._blank_rows, row)

    def read(self, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        """The bytes of some neighbouring rows, without what is blank at their ends."""
        if not spans:
            return []
        base = spans[0][0]
        block = memoryview(self._content.read_at(base, spans[-1][1] - base))
        return [bytes(block[start - base : end - base]).rstrip() for start, end in spans]

    def _scan_up_to(self, row: int) -> None:
        while self._first_rows[-1] < row and not self._is_done:
            with self._lock:
                if self._first_rows[-1] < row:
                    self._scan_chunk()

    def _scan_chunk(self) -> None:
        if self._is_done:
            return
        chunk = self._content.next_chunk(_CHUNK_BYTES)
        if not chunk:
            self._finish()
            return
        if self._scanned == 0 and chunk.startswith(UTF8_MARK):
            self._open_start = len(UTF8_MARK)
        data = np.frombuffer(chunk, dtype=np.uint8)
        ends = np.flatnonzero(data == _NEWLINE) + self._scanned
        if len(ends):
            starts = np.empty_like(ends)
            starts[0] = self._open_start
            starts[1:] = ends[:-1] + 1
            self._keep(starts, ends, data, chunk)
            self._open_start = int(ends[-1]) + 1
        self._scanned += len(chunk)

    def _keep(self, starts: np.ndarray, ends: np.ndarray, data: np.ndarray, chunk: bytes) -> None:
        """Add the lines that are not blank."""
        # a line that began in an earlier chunk is looked at by its end only
        firsts = data[np.maximum(starts - self._scanned, 0)]
        is_blank = (firsts <= _SPACE) & (ends - starts < CHUNK_OF_BLANKS)
        for index in np.flatnonzero(is_blank):
            start, end = int(starts[index]), int(ends[index])
            if start >= self._scanned:
                line = chunk[start - self._scanned : end - self._scanned]
            else:
                line = self._content.read_at(start, end - start)
            is_blank[index] = not line.strip()
        if is_blank.any():
            before = self._first_rows[-1] + np.cumsum(~is_blank)
            self._blank_rows.extend(before[is_blank].tolist())
            starts, ends = starts[~is_blank], ends[~is_blank]
        self._append(starts, ends)

    def _append(self, starts: np.ndarray, ends: np.ndarray) -> None:
        if len(starts):
            self._starts.append(starts)
            self._part_ends.append(int(ends[-1]))
            self._first_rows.append(self._first_rows[-1] + len(starts))

    def _finish(self) -> None:
        start, end = self._open_start, self._scanned
        if start < end and self._content.read_at(start, min(end - start, CHUNK_OF_BLANKS)).strip():
            self._append(np.array([start]), np.array([end]))
        elif self._content.fault:
            # an empty row stands for those that are lost
            self._append(np.array([end]), np.array([end]))
        self._is_done = True


CHUNK_OF_BLANKS = 1 << 12
"""Lines longer than this are not looked at for being blank."""
