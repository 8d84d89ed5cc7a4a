"""What kind of data a file holds, told from its bytes first and its name second."""

from __future__ import annotations

import json
import stat
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal

from tui_trainer.engine.data.sources.content import Compression, compression_of, read_head, unreadable
from tui_trainer.engine.data.sources.dialect import is_table
from tui_trainer.errors import DataError

FileKind = Literal["jsonl", "json", "csv", "tsv", "parquet", "arrow", "text", "document"]
"""`text` is cut into passages, `document` is one row."""

_HEAD_BYTES = 1 << 16
_LONG_HEAD_BYTES = 16 << 20
"""Read where the first line does not end in the first bytes."""

KIND_BY_SUFFIX: dict[str, FileKind] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".txt": "text",
    ".text": "text",
    ".md": "document",
    ".markdown": "document",
}
COMPRESSION_SUFFIXES = (".gz", ".gzip", ".zst", ".zstd", ".bz2", ".xz")

_PICKLE = "is a Python pickle, which is never opened because it can run code"
_PICKLE_REMEDY = "Export it as JSON lines or Parquet where it was made."
KNOWN_KINDS = "Known are json, jsonl, csv, tsv, parquet, arrow, txt and md, each also .gz, .zst, .bz2 or .xz."
_PICKLE_SUFFIXES = (".pkl", ".pickle", ".joblib", ".pt", ".pth")

_FOREIGN: tuple[tuple[bytes, str, str], ...] = (
    (b"\x80\x02", _PICKLE, _PICKLE_REMEDY),
    (b"\x80\x03", _PICKLE, _PICKLE_REMEDY),
    (b"\x80\x04", _PICKLE, _PICKLE_REMEDY),
    (b"\x80\x05", _PICKLE, _PICKLE_REMEDY),
    (b"PK\x03\x04", "is a zip archive (or an Excel workbook)", "Unpack it, or export it as CSV."),
    (b"\x89PNG", "is a PNG image", KNOWN_KINDS),
    (b"\xff\xd8\xff", "is a JPEG image", KNOWN_KINDS),
    (b"GIF8", "is a GIF image", KNOWN_KINDS),
    (b"%PDF", "is a PDF document", "Export its text as txt or JSON lines."),
    (b"GGUF", "is a GGUF model", "Name it as model.name_or_path."),
    (b"SQLite format 3", "is an SQLite database", "Export the table as CSV."),
    (b"\x7fELF", "is a program", KNOWN_KINDS),
    (b"\x93NUMPY", "is a NumPy array", _PICKLE_REMEDY),
    (
        b"version https://git-lfs",
        "is a Git LFS pointer, not the data itself",
        "Run `git lfs pull` in the repository it comes from.",
    ),
)
_WIDE_MARKS: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
UTF8_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class DataFile:
    """A file that can be opened as rows.

    Attributes:
        path: the file.
        kind: what it holds.
        compression: how it is compressed, empty if not.
        size: its bytes on the disk.
        modified: nanoseconds since the epoch.
    """

    path: Path
    kind: FileKind
    compression: Compression
    size: int
    modified: int


def has_data_name(name: str) -> bool:
    """Whether a file of that name is taken for data when a folder is looked through."""
    return kind_by_name(name) is not None


def kind_by_name(name: str) -> FileKind | None:
    """The kind its name promises."""
    lowered = name.lower()
    for suffix in COMPRESSION_SUFFIXES:
        lowered = lowered.removesuffix(suffix)
    return KIND_BY_SUFFIX.get(PurePath(lowered).suffix)


def recognise(path: Path) -> DataFile:
    """Look at a file.

    Raises:
        DataError: it is empty, is no data, or is of a kind that is not read; the message says which.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        raise DataError(
            f"is a link to {path.readlink()}, which is not there" if path.is_symlink() else "is not there",
            where=str(path),
            remedy="Check where the data lies.",
        ) from None
    except OSError as error:
        raise unreadable(path, error) from None
    if not stat.S_ISREG(status.st_mode):
        raise DataError("is neither a file nor a folder", where=str(path), remedy="Write the rows into a file.")
    _refuse_code(path)
    raw = read_head(path, "", _HEAD_BYTES)
    if not raw:
        raise DataError("is empty", where=str(path), remedy="Write it again, or name another file.")
    compression = compression_of(raw)
    head = read_head(path, compression, _HEAD_BYTES) if compression else raw
    if len(head) == _HEAD_BYTES and b"\n" not in head:
        head = read_head(path, compression, _LONG_HEAD_BYTES)
    if compression and not head:
        raise DataError(
            f"is {compression} data with nothing in it, or broken from its start",
            where=str(path),
            remedy="Get the file again.",
        )
    if not head.strip(b"\x00"):
        raise DataError(
            "holds nothing but NUL bytes, as a torn copy leaves it", where=str(path), remedy="Get the file again."
        )
    _refuse_foreign(path, head)
    kind = _kind(path, head)
    return DataFile(path, kind, compression, status.st_size, status.st_mtime_ns)


def _refuse_code(path: Path) -> None:
    """Refuse what by its name would run code when it is opened."""
    if path.suffix in _PICKLE_SUFFIXES:
        raise DataError(_PICKLE, where=str(path), remedy=_PICKLE_REMEDY)
    if path.suffix == ".py":
        raise DataError("is a Python script, and loading scripts are never run", where=str(path), remedy=_PICKLE_REMEDY)


def _refuse_foreign(path: Path, head: bytes) -> None:
    for magic, what, remedy in _FOREIGN:
        if head.startswith(magic):
            raise DataError(what, where=str(path), remedy=remedy)
    for mark, encoding in _WIDE_MARKS:
        if head.startswith(mark):
            raise DataError(
                f"is {encoding} text, not UTF-8",
                where=str(path),
                remedy=f"Convert it: iconv -f {encoding} -t UTF-8 {path.name} > converted{path.suffix}",
            )
    start = head[:512].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        raise DataError(
            "is an HTML page, as a failed download leaves it", where=str(path), remedy="Download the data file again."
        )
    if head.startswith((b"PAR1", b"ARROW1", b"\xff\xff\xff\xff")):
        return
    if guess := _wide_without_mark(head):
        raise DataError(
            f"looks like {guess} text, not UTF-8",
            where=str(path),
            remedy=f"Convert it: iconv -f {guess} -t UTF-8 {path.name} > converted{path.suffix}",
        )


def _wide_without_mark(head: bytes) -> str:
    """UTF-16 that comes without a mark has a zero in every second byte of its ASCII part."""
    sample = head[:4096]
    if len(sample) < 8 or b"\x00" not in sample:
        return ""
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    many = 0.4 * (len(sample) // 2)
    return "UTF-16LE" if odd > many and even < odd / 4 else "UTF-16BE" if even > many and odd < even / 4 else ""


def _kind(path: Path, head: bytes) -> FileKind:
    promised = kind_by_name(path.name)
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return "arrow"
    if promised in ("parquet", "arrow"):
        raise DataError(f"does not begin like {promised} data", where=str(path), remedy="Download or write it again.")
    text = head.removeprefix(UTF8_MARK).lstrip()
    if promised == "document":
        return promised
    if _is_json_line(text, is_promised=promised == "jsonl"):
        return "jsonl"
    if promised in ("csv", "tsv", "text"):
        return promised
    if text[:1] in (b"{", b"["):
        return "json"
    if is_table(text.decode("utf-8", "replace")):
        return "csv"
    if promised in ("json", "jsonl"):
        return "jsonl" if promised == "jsonl" else _no_json(path, text)
    raise DataError(
        "is of no kind that can be read",
        where=str(path),
        remedy=KNOWN_KINDS,
    )


def _no_json(path: Path, text: bytes) -> FileKind:
    if not text:
        return "jsonl"
    raise DataError(
        f"does not begin like JSON but with {text[:20].decode('utf-8', 'replace')!r}",
        where=str(path),
        remedy="Rows are objects in braces, one a line or all in one array.",
    )


def _is_json_line(text: bytes, *, is_promised: bool) -> bool:
    """Whether the first line is an object of its own, so that the rows stand one a line.

    A file of one line tells only if its name does: the line may hold all rows.
    """
    line, _, rest = text.partition(b"\n")
    if not line.startswith(b"{") or len(line.strip()) < 2:
        return False
    another = rest.lstrip().startswith(b"{")
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return another
    return isinstance(value, dict) and (another or (is_promised and not _wraps_rows(value)))


def _wraps_rows(value: dict[str, object]) -> bool:
    """Whether a single object holds the rows in a list inside it, as {"data": […]}."""
    return any(isinstance(inner, list) and inner and isinstance(inner[0], dict) for inner in value.values()) and (
        not {"messages", "conversations", "conversation"} & set(value)
    )
