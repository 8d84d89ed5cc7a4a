"""CSV and TSV files: quotes, line breaks inside cells, Excel's semicolons and mark, files without a header."""

from __future__ import annotations

import csv
import threading
from array import array
from collections.abc import Iterator
from typing import Any

from tui_trainer.engine.data.problems import Code
from tui_trainer.engine.data.rows import BadRow, Heartbeat, Row, no_heartbeat
from tui_trainer.engine.data.sources.content import Content, open_content
from tui_trainer.engine.data.sources.dialect import detect_dialect
from tui_trainer.engine.data.sources.file_fingerprint import file_fingerprint
from tui_trainer.engine.data.sources.json_lines import not_utf8
from tui_trainer.engine.data.sources.recognise import UTF8_MARK, DataFile
from tui_trainer.errors import DataError

MAX_CELL_CHARACTERS = 32 << 20
MAX_COLUMNS = 10_000


class Table:
    """The records of a delimited file; implements `RowSource`."""

    def __init__(self, file: DataFile, head: bytes) -> None:
        self.name = str(file.path)
        self.fingerprint = file_fingerprint(file)
        self._content = open_content(file.path, file.compression)
        text = head.removeprefix(UTF8_MARK).decode("utf-8", "replace")
        self._dialect = detect_dialect(text, is_tab_separated=file.kind == "tsv", is_whole=len(head) == file.size)
        if len(self._dialect.columns) > MAX_COLUMNS:
            raise DataError(f"has {len(self._dialect.columns)} columns; up to {MAX_COLUMNS} are read", where=self.name)
        self.features = dict.fromkeys(self._dialect.columns, "string")
        self._lock = threading.Lock()
        self._starts = array("q")
        self._lines = array("q")
        """The line each record begins on."""
        self._num_rows: int | None = None
        self._end = 0
        self._scan = self._scan_records()
        csv.field_size_limit(MAX_CELL_CHARACTERS)

    @property
    def num_rows(self) -> int | None:
        """Number of rows; None until they have been counted."""
        return self._num_rows

    def count(self, heartbeat: Heartbeat = no_heartbeat) -> int:
        """Count the rows to the end."""
        while self._num_rows is None:
            self._scan_up_to(len(self._starts) + 1000)
            heartbeat(len(self._starts))
        return self._num_rows

    def where(self, row: int) -> str:
        """File and line of a row."""
        line = self._lines[row] if row < len(self._lines) else 0
        return f"{self.name}:{line}"

    def rows(self, start: int, stop: int) -> list[Row | BadRow]:
        """The records from `start` up to `stop`."""
        self._scan_up_to(stop + 1)
        stop = min(stop, len(self._starts))
        return [self._row(row) for row in range(start, stop)]

    def _row(self, row: int) -> Row | BadRow:
        start = self._starts[row]
        end = self._starts[row + 1] if row + 1 < len(self._starts) else self._end
        if start == end:
            return BadRow(Code.PARSE_ERROR, f"{self._content.fault}; what lies behind it is lost")
        data = self._content.read_at(start, end - start)
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            return not_utf8(data, error)
        try:
            cells = next(csv.reader(text.splitlines(keepends=True), **self._options))
        except csv.Error as error:
            return BadRow(Code.PARSE_ERROR, f"is no record of a table: {error}")
        except StopIteration:
            cells = []
        columns = self._dialect.columns
        if self._has_open_quote(text, len(cells)):
            return BadRow(Code.PARSE_ERROR, "has a quote that is never closed, which swallows the lines behind it")
        if len(cells) != len(columns):
            return BadRow(Code.SCHEMA, f"has {len(cells)} cells where the header has {len(columns)}")
        return dict(zip(columns, cells, strict=True))

    def _has_open_quote(self, text: str, num_cells: int) -> bool:
        """An unclosed quote reaches to the end of the file and leaves too few cells."""
        is_short = num_cells != len(self._dialect.columns)
        return self._dialect.has_quotes and is_short and text.count('"') % 2 == 1 and "\n" in text.rstrip("\r\n")

    @property
    def _options(self) -> dict[str, Any]:
        return self._dialect.reader_options

    def _scan_up_to(self, row: int) -> None:
        with self._lock:
            while self._num_rows is None and len(self._starts) < row:
                if not next(self._scan, False):
                    self._num_rows = len(self._starts)

    def _scan_records(self) -> Iterator[bool]:
        """Note where each record begins; the csv module itself says where it ends."""
        lines = _Lines(self._content)
        reader = csv.reader(lines, **self._options)
        is_header = self._dialect.has_header
        while True:
            start, line = lines.offset, lines.number + 1
            try:
                record = next(reader)
            except StopIteration:
                if self._content.fault:
                    # an empty record stands for those that are lost
                    self._starts.append(self._end)
                    self._lines.append(line)
                    yield True
                return
            except csv.Error:
                record = ["?"]
            self._end = lines.offset
            if record and not is_header:
                self._starts.append(start)
                self._lines.append(line)
                yield True
            is_header = is_header and not record


class _Lines:
    """The lines of a file as the csv module wants them, knowing how far it has come."""

    def __init__(self, content: Content) -> None:
        self._content = content
        self._pending = b""
        self._is_done = False
        self._lines: Iterator[bytes] = iter(())
        self.offset = 0
        self.number = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = next(self._lines, None)
        while line is None:
            self._read()
            line = next(self._lines, None)
        self.offset += len(line)
        self.number += 1
        if self.number == 1:
            line = line.removeprefix(UTF8_MARK)
        # NUL bytes and broken UTF-8 are met again, and named, when the record itself is read
        return line.decode("utf-8", "replace")

    def _read(self) -> None:
        if self._is_done:
            raise StopIteration
        chunk = self._content.next_chunk()
        self._is_done = not chunk
        lines = (self._pending + chunk).splitlines(keepends=True)
        self._pending = b"" if self._is_done or not lines else lines.pop()
        self._lines = iter(lines)
