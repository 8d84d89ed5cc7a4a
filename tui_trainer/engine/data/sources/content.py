"""The bytes of a file, read in order once and from any place again; compressed files are unpacked as they are read.

Used by the readers that keep an index (`lines`, `tables`, `json_values`, `passages`). A compressed file is written to
a temporary file while it is read, because no row of it could be reached later without unpacking all that lies before.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import os
import shutil
import tempfile
import zlib
from pathlib import Path
from typing import IO, Any, Protocol

from tui_trainer.errors import DataError, MachineError

CHUNK_BYTES = 4 << 20
"""Bytes read at a time."""

FIRST_CHUNK_BYTES = 256 << 10
"""Bytes read first, so that the first rows come at once."""

_ARROW_READ_BYTES = 1 << 12
"""Bytes that are asked of pyarrow at a time; those of one reading are lost where the data breaks."""

MIN_FREE_BYTES = 1 << 30
"""Space that unpacking leaves on the disk."""

Compression = str
"""gzip, bz2, xz or zstd; empty for none."""

_MAGIC: dict[bytes, Compression] = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}


def compression_of(head: bytes) -> Compression:
    """How a file that begins with `head` is compressed."""
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), "")


class Content(Protocol):
    """Bytes that are read through once, and then from anywhere within what was read."""

    fault: str
    """Why the bytes end early, if they do; known after the last chunk."""

    def next_chunk(self, size: int | None = None) -> bytes:
        """The next bytes in order, up to `size` or CHUNK_BYTES, fewer at first; empty at the end."""

    def read_at(self, offset: int, size: int) -> bytes:
        """Bytes from within what `next_chunk` has given already."""


def open_content(path: Path, compression: Compression) -> Content:
    """The unpacked bytes of a file.

    Raises:
        DataError: the file cannot be opened.
    """
    return _Unpacked(path, compression) if compression else _Plain(path)


def unpack(path: Path, compression: Compression) -> IO[bytes]:
    """A temporary file with all unpacked bytes of a file, as far as they are whole.

    Raises:
        DataError: the file cannot be opened.
        MachineError: there is no room for them.
    """
    content = _Unpacked(path, compression)
    while content.next_chunk():
        pass
    return content.copy


def read_head(path: Path, compression: Compression, size: int) -> bytes:
    """The first unpacked bytes of a file; fewer if it is short or broken."""
    try:
        with _decompressor(path, compression) as stream:
            return _read_up_to(stream, size)[0]
    except OSError as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: OSError) -> DataError:
    """The error for a file the system does not let us read."""
    if error.errno == errno.ELOOP:
        return DataError("is a link that leads back to itself", where=str(path), remedy="Make the link anew.")
    remedy = "Check its permissions." if isinstance(error, PermissionError) else "Check the disk that it lies on."
    return DataError(f"cannot be read: {error.strerror or error}", where=str(path), remedy=remedy)


class _Plain:
    fault = ""

    def __init__(self, path: Path) -> None:
        try:
            self._file = path.open("rb", buffering=0)
        except OSError as error:
            raise unreadable(path, error) from None
        self._path = path
        self._position = 0
        self._buffer = bytearray()

    def next_chunk(self, size: int | None = None) -> bytes:
        wanted = FIRST_CHUNK_BYTES if self._position == 0 else size or CHUNK_BYTES
        if len(self._buffer) != wanted:
            self._buffer = bytearray(wanted)
        try:
            num_read = os.preadv(self._file.fileno(), [self._buffer], self._position)
        except OSError as error:
            raise unreadable(self._path, error) from None
        self._position += num_read
        return bytes(memoryview(self._buffer)[:num_read])

    def read_at(self, offset: int, size: int) -> bytes:
        return _pread(self._file, offset, size, self._path)


class _Unpacked:
    def __init__(self, path: Path, compression: Compression) -> None:
        try:
            self._stream = _decompressor(path, compression)
        except OSError as error:
            raise unreadable(path, error) from None
        self._path = path
        self._compression = compression
        self.copy = tempfile.TemporaryFile(prefix="tui-trainer-")  # noqa: SIM115 - lives as long as this object
        self._is_begun = self._is_done = False
        self.fault = ""

    def next_chunk(self, size: int | None = None) -> bytes:
        if self._is_done:
            return b""
        chunk, fault = _read_up_to(self._stream, (size or CHUNK_BYTES) if self._is_begun else FIRST_CHUNK_BYTES)
        self._is_begun = True
        if fault:
            self.fault = f"the {self._compression} data {fault}"
        if fault or not chunk:
            self._is_done = True
            self._stream.close()
        self._keep(chunk)
        return chunk

    def read_at(self, offset: int, size: int) -> bytes:
        return _pread(self.copy, offset, size, self._path)

    def _keep(self, chunk: bytes) -> None:
        folder = tempfile.gettempdir()
        if shutil.disk_usage(folder).free < MIN_FREE_BYTES + len(chunk):
            raise MachineError(
                f"there is no room in {folder} to unpack it",
                where=str(self._path),
                remedy="Free some space, or set TMPDIR to a folder with more.",
            )
        self.copy.write(chunk)
        self.copy.flush()


def _pread(file: IO[bytes], offset: int, size: int, path: Path) -> bytes:
    """Exactly `size` bytes, which are known to be there."""
    parts = []
    while size > 0:
        try:
            part = os.pread(file.fileno(), size, offset)
        except OSError as error:
            raise unreadable(path, error) from None
        if not part:
            raise DataError("became shorter while it was open", where=str(path), remedy="Open it again.")
        parts.append(part)
        offset += len(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _decompressor(path: Path, compression: Compression) -> Any:
    match compression:
        case "gzip":
            return gzip.open(path, "rb")
        case "bz2":
            return bz2.open(path, "rb")
        case "xz":
            return lzma.open(path, "rb")
        case "zstd":
            # the standard library has no zstd before Python 3.14, pyarrow always has
            import pyarrow

            return pyarrow.CompressedInputStream(pyarrow.OSFile(str(path), "rb"), "zstd")
        case _:
            return path.open("rb")


def _read_up_to(stream: Any, size: int) -> tuple[bytes, str]:
    """Up to `size` bytes, and what broke if the compressed data is damaged."""
    # reading on until so many bytes are there would lose those that lie before the damage
    read, most = (stream.read1, 1 << 16) if hasattr(stream, "read1") else (stream.read, _ARROW_READ_BYTES)
    parts: list[bytes] = []
    have = 0
    try:
        while have < size:
            part = read(min(size - have, most))
            if not part:
                break
            parts.append(part)
            have += len(part)
    except EOFError:
        return b"".join(parts), "ends early"
    except (OSError, zlib.error, lzma.LZMAError, ValueError) as error:
        is_short = any(word in str(error) for word in ("end-of-stream", "ended before", "truncated"))
        return b"".join(parts), "ends early" if is_short else f"is damaged ({error})"
    return b"".join(parts), ""
