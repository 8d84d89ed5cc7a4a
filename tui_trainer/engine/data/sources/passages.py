"""Plain text as rows with one column, `text`.

A .txt file is one row a line (as in `datasets`), or one row a passage where blank lines part it; a .md file is one row.
"""

from __future__ import annotations

import re
import threading
from array import array

from tui_trainer.engine.data.problems import Code
from tui_trainer.engine.data.rows import BadRow, Heartbeat, Row, no_heartbeat
from tui_trainer.engine.data.sources.content import open_content
from tui_trainer.engine.data.sources.file_fingerprint import file_fingerprint
from tui_trainer.engine.data.sources.json_lines import MAX_ROW_BYTES, not_utf8
from tui_trainer.engine.data.sources.lines import LineIndex
from tui_trainer.engine.data.sources.recognise import UTF8_MARK, DataFile

_GAP = re.compile(rb"\r?\n(?:[ \t]*\r?\n)+")
_HEAD_BYTES = 1 << 16
TEXT_COLUMN = "text"


class TextLines:
    """One row a line; implements `RowSource`."""

    def __init__(self, file: DataFile) -> None:
        self.name = str(file.path)
        self.fingerprint = file_fingerprint(file)
        self.features = {TEXT_COLUMN: "string"}
        self._index = LineIndex(open_content(file.path, file.compression))

    @property
    def num_rows(self) -> int | None:
        """Number of rows; None until they have been counted."""
        return self._index.num_rows

    def count(self, heartbeat: Heartbeat = no_heartbeat) -> int:
        """Count the rows to the end."""
        return self._index.count(heartbeat)

    def where(self, row: int) -> str:
        """File and line of a row."""
        return f"{self.name}:{self._index.line_number(row)}"

    def rows(self, start: int, stop: int) -> list[Row | BadRow]:
        """The lines from `start` up to `stop`."""
        spans = self._index.spans(start, stop)
        rows = [text_row(self._index.read([span])[0]) for span in spans]
        loss = self._index.loss_at(start + len(rows) - 1, spans[-1]) if spans else ""
        return [*rows[:-1], BadRow(Code.PARSE_ERROR, loss)] if loss else rows


class TextPassages:
    """One row a passage, blank lines between them; implements `RowSource`."""

    def __init__(self, file: DataFile) -> None:
        self.name = str(file.path)
        self.fingerprint = file_fingerprint(file)
        self.features = {TEXT_COLUMN: "string"}
        self._content = open_content(file.path, file.compression)
        self._lock = threading.Lock()
        self._starts = array("q")
        self._ends = array("q")
        self._pending = b""
        self._base = 0
        self._num_rows: int | None = None

    @property
    def num_rows(self) -> int | None:
        """Number of rows; None until they have been counted."""
        return self._num_rows

    def count(self, heartbeat: Heartbeat = no_heartbeat) -> int:
        """Count the rows to the end."""
        while self._num_rows is None:
            self._scan_up_to(len(self._starts) + 1)
            heartbeat(len(self._starts))
        return self._num_rows

    def where(self, row: int) -> str:
        """File and number of a row."""
        return f"{self.name}: row {row}"

    def rows(self, start: int, stop: int) -> list[Row | BadRow]:
        """The passages from `start` up to `stop`."""
        self._scan_up_to(stop)
        stop = min(stop, len(self._starts))
        return [self._read(row) for row in range(start, stop)]

    def _read(self, row: int) -> Row | BadRow:
        if self._content.fault and row + 1 == self._num_rows:
            return BadRow(Code.PARSE_ERROR, f"{self._content.fault}; this row and what lies behind it are lost")
        return text_row(self._content.read_at(self._starts[row], self._ends[row] - self._starts[row]))

    def _scan_up_to(self, row: int) -> None:
        with self._lock:
            while self._num_rows is None and len(self._starts) < row:
                self._scan_chunk()

    def _scan_chunk(self) -> None:
        chunk = self._content.next_chunk()
        if self._base == 0 and not self._pending and chunk.startswith(UTF8_MARK):
            self._base, chunk = len(UTF8_MARK), chunk[len(UTF8_MARK) :]
        is_last = not chunk
        self._pending += chunk
        start = 0
        for gap in _GAP.finditer(self._pending):
            if gap.end() == len(self._pending) and not is_last:
                break
            self._keep(start, gap.start())
            start = gap.end()
        if is_last:
            self._keep(start, len(self._pending))
            if self._content.fault and not self._pending[start:].strip():
                # an empty row stands for those that are lost
                self._starts.append(self._base + len(self._pending))
                self._ends.append(self._base + len(self._pending))
            self._num_rows = len(self._starts)
        self._pending = self._pending[start:]
        self._base += start

    def _keep(self, start: int, end: int) -> None:
        if self._pending[start:end].strip():
            self._starts.append(self._base + start)
            self._ends.append(self._base + end)


class Document:
    """A whole file as one row; implements `RowSource`."""

    num_rows: int | None = 1

    def __init__(self, file: DataFile) -> None:
        self.name = str(file.path)
        self.fingerprint = file_fingerprint(file)
        self.features = {TEXT_COLUMN: "string"}
        self._content = open_content(file.path, file.compression)
        self._row: Row | BadRow | None = None

    def count(self, heartbeat: Heartbeat = no_heartbeat) -> int:
        """One."""
        heartbeat(1)
        return 1

    def where(self, row: int) -> str:  # noqa: ARG002 - it has one row only
        """The file."""
        return self.name

    def rows(self, start: int, stop: int) -> list[Row | BadRow]:
        """The document, if row 0 is asked for."""
        if self._row is None:
            self._row = self._read()
        return [self._row][start:stop]

    def _read(self) -> Row | BadRow:
        parts = []
        size = 0
        while chunk := self._content.next_chunk():
            parts.append(chunk)
            size += len(chunk)
            if size > MAX_ROW_BYTES:
                return BadRow(Code.PARSE_ERROR, f"is longer than {MAX_ROW_BYTES >> 20} MiB, too much for one row")
        if self._content.fault:
            return BadRow(Code.PARSE_ERROR, self._content.fault)
        return text_row(b"".join(parts).removeprefix(UTF8_MARK))


def open_text(file: DataFile, head: bytes) -> TextLines | TextPassages:
    """The rows of a text file: passages if blank lines part it, else lines.

    Args:
        file: the file.
        head: its first bytes.
    """
    lines = head[:_HEAD_BYTES].strip().splitlines()
    has_gaps = any(not line.strip() for line in lines)
    return TextPassages(file) if has_gaps else TextLines(file)


def text_row(line: bytes) -> Row | BadRow:
    """A row of text, or what is wrong with it."""
    if len(line) > MAX_ROW_BYTES:
        return BadRow(Code.PARSE_ERROR, f"is {len(line) >> 20} MiB long; rows up to {MAX_ROW_BYTES >> 20} MiB are read")
    try:
        return {TEXT_COLUMN: line.decode("utf-8")}
    except UnicodeDecodeError as error:
        return not_utf8(line, error)
