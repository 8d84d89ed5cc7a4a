"""JSON lines: one object a line. A broken line costs itself, never the lines around it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tui_trainer.engine.data.problems import Code
from tui_trainer.engine.data.rows import BadRow, Heartbeat, Row, features_of, no_heartbeat
from tui_trainer.engine.data.sources.content import open_content
from tui_trainer.engine.data.sources.file_fingerprint import file_fingerprint
from tui_trainer.engine.data.sources.lines import LineIndex
from tui_trainer.engine.data.sources.recognise import DataFile

MAX_ROW_BYTES = 64 << 20
"""Longer rows are refused: nobody trains on them, and they would stop the screen."""

_BLOCK_BYTES = 16 << 20
_FEATURE_ROWS = 100


class JsonLines:
    """The rows of a JSON lines file; implements `RowSource`."""

    def __init__(self, file: DataFile) -> None:
        self._file = file
        self.name = str(file.path)
        self.fingerprint = file_fingerprint(file)
        self._index = LineIndex(open_content(file.path, file.compression))
        self.features = features_of(self.rows(0, _FEATURE_ROWS))

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
        """The parsed rows from `start` up to `stop`."""
        spans = self._index.spans(start, stop)
        rows: list[Row | BadRow] = []
        for block in _blocks(spans):
            if block[0][1] - block[0][0] > MAX_ROW_BYTES:
                rows.append(_too_long(block[0][1] - block[0][0]))
            else:
                rows.extend(parse_object(line) for line in self._index.read(block))
        if rows and isinstance(rows[-1], BadRow):
            loss = self._index.loss_at(start + len(rows) - 1, spans[-1])
            rows[-1] = BadRow(Code.PARSE_ERROR, loss) if loss else rows[-1]
        return rows


def _blocks(spans: list[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Neighbouring spans put together up to a size worth reading at once; an over-long row stands alone."""
    blocks: list[list[tuple[int, int]]] = []
    is_open = False
    for span in spans:
        is_sane = span[1] - span[0] <= MAX_ROW_BYTES
        if is_open and is_sane and span[1] - blocks[-1][0][0] <= _BLOCK_BYTES:
            blocks[-1].append(span)
        else:
            blocks.append([span])
        is_open = is_sane
    return blocks


def _too_long(size: int) -> BadRow:
    return BadRow(Code.PARSE_ERROR, f"is {size >> 20} MiB long; rows up to {MAX_ROW_BYTES >> 20} MiB are read")


def parse_object(line: bytes) -> Row | BadRow:
    """The object on a line, or what is wrong with it."""
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        return not_utf8(line, error)
    try:
        value = _parser.decode(text)
    except json.JSONDecodeError as error:
        return BadRow(Code.PARSE_ERROR, f"is not JSON: {describe(error)}: {text[:120]}")
    except RecursionError:
        return BadRow(Code.PARSE_ERROR, "is nested too deeply")
    except ValueError as error:
        return BadRow(Code.PARSE_ERROR, str(error))
    if not isinstance(value, dict):
        return BadRow(Code.SCHEMA, f"is {kind_of(value)}, not an object with columns")
    return value


def describe(error: json.JSONDecodeError) -> str:
    """What the parser says, with the column where it is not the end."""
    said = error.msg.removesuffix(" at").removesuffix(" starting")
    return f"{said[:1].lower()}{said[1:]} at column {error.colno}"


def not_utf8(line: bytes, error: UnicodeDecodeError) -> BadRow:
    """The broken row for bytes that are not UTF-8, with a guess at what they are."""
    guess = "" if any(0x80 <= byte < 0xA0 for byte in line) else "; it looks like Latin-1"
    return BadRow(Code.ENCODING, f"byte 0x{line[error.start]:02x} at position {error.start} is not UTF-8{guess}")


def unique_keys(pairs: Sequence[tuple[str, Any]]) -> Row:
    """An object of the parser; a key that occurs twice is an error, because one of its values would be lost."""
    row = dict(pairs)
    if len(row) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"has the key {key!r} twice")
            seen.add(key)
    return row


def kind_of(value: Any) -> str:
    """A JSON value's kind in words."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case str():
            return "a text"
        case list():
            return "a list"
        case _:
            return "a number"


_parser = json.JSONDecoder(object_pairs_hook=unique_keys)
