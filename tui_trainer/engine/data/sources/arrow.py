"""Parquet and Arrow files, read a group of rows at a time."""

from __future__ import annotations

import bisect
import json
import os
import shutil
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from tui_trainer.engine.data.problems import Code
from tui_trainer.engine.data.rows import BadRow, Heartbeat, Row, no_heartbeat
from tui_trainer.engine.data.sources.content import MIN_FREE_BYTES, unpack
from tui_trainer.engine.data.sources.file_fingerprint import file_fingerprint
from tui_trainer.engine.data.sources.recognise import DataFile
from tui_trainer.errors import DataError

_MAX_PIECE_BYTES = 16 << 20
"""Of a row group of Parquet, unpacked, that is held at a time."""

_COMPRESSED = pa.ipc.IpcWriteOptions(compression="lz4")

_FILE_MARK = b"ARROW1"
_MARK_BYTES = 8


class ArrowRows:
    """The rows of a Parquet or Arrow file; implements `RowSource`."""

    def __init__(self, file: DataFile) -> None:
        self.name = str(file.path)
        self.fingerprint = file_fingerprint(file)
        try:
            source = _bytes_of(file)
            self._groups: _Groups = _ParquetGroups(source) if file.kind == "parquet" else _ArrowGroups(source)
        except (pa.ArrowException, OSError) as error:
            raise DataError(
                f"is broken {file.kind} data: {_first_line(error)}", where=self.name, remedy="Get or write it again."
            ) from None
        schema = self._groups.schema
        self.features = {field.name: str(field.type) for field in schema}
        self._json_columns = _json_columns(schema)
        self._firsts = [0]
        for size in self._groups.sizes:
            self._firsts.append(self._firsts[-1] + size)
        self.num_rows: int | None = self._firsts[-1]
        self._lock = threading.Lock()
        self._loaded: tuple[int, pa.Table | BadRow] | None = None

    def count(self, heartbeat: Heartbeat = no_heartbeat) -> int:
        """The number of rows, which the file itself tells."""
        heartbeat(self._firsts[-1])
        return self._firsts[-1]

    def where(self, row: int) -> str:
        """File and number of a row."""
        return f"{self.name}: row {row}"

    def rows(self, start: int, stop: int) -> Sequence[Row | BadRow]:
        """The rows from `start` up to `stop`."""
        stop = min(stop, self._firsts[-1])
        rows: list[Row | BadRow] = []
        while start < stop:
            group = bisect.bisect_right(self._firsts, start) - 1
            first, last = self._firsts[group], self._firsts[group + 1]
            table = self._load(group)
            if isinstance(table, BadRow):
                rows += [table] * (min(stop, last) - start)
            else:
                table = table.slice(start - first, min(stop, last) - start)
                rows.extend(self._converted(row) for row in table.to_pylist())
            start = last
        return rows

    def _load(self, group: int) -> pa.Table | BadRow:
        """The rows of a group, or what is wrong with all of them."""
        with self._lock:
            if self._loaded is None or self._loaded[0] != group:
                self._loaded = None
                try:
                    self._loaded = group, self._groups.read(group)
                except (pa.ArrowException, OSError) as error:
                    first, last = self._firsts[group], self._firsts[group + 1] - 1
                    place = f"rows {first} to {last} are" if last > first else "this row is"
                    reason = f"{place} broken: {_first_line(error)}"
                    self._loaded = group, BadRow(Code.PARSE_ERROR, reason)
            return self._loaded[1]

    def _converted(self, row: Row) -> Row:
        for column in self._json_columns:
            row[column] = _decoded(row[column])
        return {column: without_absent(value) for column, value in row.items()}


def without_absent(value: Any) -> Any:
    """A value without the nulls that Arrow puts where a struct of another row has a key and this one has not."""
    if isinstance(value, dict):
        return {key: without_absent(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [without_absent(item) for item in value]
    return value


def _bytes_of(file: DataFile) -> pa.NativeFile:
    """The bytes of a file as Arrow reads them; of a compressed one they are unpacked first."""
    return pa.PythonFile(unpack(file.path, file.compression)) if file.compression else pa.memory_map(str(file.path))


class _Groups(ABC):
    """Groups of rows of a file, read one at a time."""

    schema: pa.Schema
    sizes: list[int]

    @abstractmethod
    def read(self, group: int) -> pa.Table:
        """The rows of a group."""


@dataclass(frozen=True)
class _Piece:
    """Neighbouring rows of a row group that are held at a time.

    Attributes:
        group: the row group.
        order: which piece of it.
        num_rows: rows of the piece.
        num_rows_each: rows of every piece of the group but the last.
    """

    group: int
    order: int
    num_rows: int
    num_rows_each: int


class _ParquetGroups(_Groups):
    """Row groups, of which the large ones are read in pieces, one behind the other.

    A piece can be reached only by unpacking all of its group that lies before it. What a jump passes by, and
    where it ends, is kept in a temporary file, so that no later jump has to unpack it again.
    """

    def __init__(self, source: pa.NativeFile) -> None:
        self._file = pq.ParquetFile(source)
        self.schema = self._file.schema_arrow
        metadata = self._file.metadata
        self._pieces: list[_Piece] = []
        for group in range(metadata.num_row_groups):
            about = metadata.row_group(group)
            self._pieces += _pieces_of(group, about.num_rows, about.total_byte_size)
        self.sizes = [piece.num_rows for piece in self._pieces]
        self._running: tuple[int, int, Iterator[pa.RecordBatch]] | None = None
        """Row group, order of the next piece and what reads it, where a large group is being read."""
        self._passed = _Passed()

    def read(self, group: int) -> pa.Table:
        piece = self._pieces[group]
        if piece.num_rows_each >= self._file.metadata.row_group(piece.group).num_rows:
            self._running = None
            return self._file.read_row_group(piece.group)
        if (kept := self._passed.get(group)) is not None:
            return kept
        if self._running is None or self._running[0] != piece.group or self._running[1] > piece.order:
            batches = self._file.iter_batches(batch_size=piece.num_rows_each, row_groups=[piece.group])
            self._running = piece.group, 0, batches
        _, order, batches = self._running
        self._running = None
        for passed in range(order, piece.order):
            self._passed.keep(group - piece.order + passed, next(batches))
        batch = next(batches)
        if order < piece.order:
            self._passed.keep(group, batch)
        table = pa.Table.from_batches([batch])
        self._running = piece.group, piece.order + 1, batches
        return table


class _Passed:
    """Batches in a temporary file, by number; while the disk has room for them."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._places: dict[int, tuple[int, int]] = {}

    def get(self, number: int) -> pa.Table | None:
        """A batch that was kept."""
        if self._file is None or number not in self._places:
            return None
        offset, size = self._places[number]
        return pa.ipc.open_stream(os.pread(self._file.fileno(), size, offset)).read_all()

    def keep(self, number: int, batch: pa.RecordBatch) -> None:
        """Write a batch, unless it is there."""
        if number in self._places or shutil.disk_usage(tempfile.gettempdir()).free < MIN_FREE_BYTES:
            return
        # without it a jump takes longer, but no row is lost
        with suppress(OSError):
            self._file = self._file or tempfile.TemporaryFile(prefix="tui-trainer-")  # noqa: SIM115 - lives as this does
            start = self._file.seek(0, os.SEEK_END)
            with pa.ipc.new_stream(self._file, batch.schema, options=_COMPRESSED) as writer:
                writer.write_batch(batch)
            self._file.flush()
            self._places[number] = start, self._file.tell() - start


def _pieces_of(group: int, num_rows: int, num_bytes: int) -> list[_Piece]:
    each = num_rows if num_bytes <= _MAX_PIECE_BYTES else max(num_rows * _MAX_PIECE_BYTES // num_bytes, 1)
    starts = range(0, num_rows, max(each, 1))
    return [_Piece(group, order, min(each, num_rows - start), each) for order, start in enumerate(starts)]


class _ArrowGroups(_Groups):
    def __init__(self, source: pa.NativeFile) -> None:
        self._fault: Exception | None = None
        try:
            reader = pa.ipc.open_file(source)
            self._batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        except pa.ArrowInvalid:
            # a file is a stream between its marks; of one that is torn the stream is left
            source.seek(_MARK_BYTES if source.read_at(len(_FILE_MARK), 0) == _FILE_MARK else 0)
            reader = pa.ipc.open_stream(source)
            self._batches = []
            try:
                self._batches.extend(reader)
            except (pa.ArrowException, OSError) as error:
                if not self._batches:
                    raise
                self._fault = error
        self.schema = reader.schema
        # one more row stands for those that are lost
        self.sizes = [batch.num_rows for batch in self._batches] + [1] * (self._fault is not None)

    def read(self, group: int) -> pa.Table:
        if group == len(self._batches) and self._fault:
            raise self._fault
        return pa.Table.from_batches([self._batches[group]])


def _json_columns(schema: pa.Schema) -> list[str]:
    """Columns that hold JSON text, as `datasets` writes values of changing type."""
    return [field.name for field in schema if "json" in str(field.type)]


def _decoded(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    return value


def _first_line(error: BaseException) -> str:
    return str(error).split("\n", 1)[0].rstrip(".")
