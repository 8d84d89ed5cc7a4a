"""JSON files that are one value: an array of objects, {"data": […]}, or one of the shapes that pandas writes.

The objects of an array are parsed one after another and their places kept, so that the first rows come at once and a
break costs only what lies behind it. Objects one after another without an array are read the same way. Other shapes
are read whole, see `json_shapes`.
"""

from __future__ import annotations

import codecs
import json
import re
import threading
from array import array

from tui_trainer.engine.data.problems import Code
from tui_trainer.engine.data.rows import BadRow, Heartbeat, Row, features_of, no_heartbeat
from tui_trainer.engine.data.sources.content import Content, open_content
from tui_trainer.engine.data.sources.file_fingerprint import file_fingerprint
from tui_trainer.engine.data.sources.json_lines import MAX_ROW_BYTES, describe, parse_object, unique_keys
from tui_trainer.engine.data.sources.json_shapes import ListRows, other_splits, rows_of_value
from tui_trainer.engine.data.sources.recognise import DataFile
from tui_trainer.errors import DataError

_SEPARATOR = re.compile(r"[ \t\r\n,]*")
_FEATURE_ROWS = 100
_MAX_WHOLE_BYTES = 1 << 30
_NEAR_END = 16
"""An error this close to the end of what was read may only mean that more has to be read."""


class JsonValues:
    """The rows of a JSON file that is not JSON lines; implements `RowSource`.

    Attributes:
        other_splits: what an object {"train": […], "test": […]} holds beside the rows to train on.
    """

    def __init__(self, file: DataFile) -> None:
        self.name = str(file.path)
        self.fingerprint = file_fingerprint(file)
        self._content = open_content(file.path, file.compression)
        self._lock = threading.Lock()
        self._reader = _ValueReader(self._content)
        self._starts = array("q")
        self._sizes = array("q")
        self._broken: BadRow | None = None
        self._whole: list[Row | BadRow] | None = None
        self._num_rows: int | None = None
        self.other_splits: dict[str, ListRows] = {}
        self._begin()
        self.features = features_of(self.rows(0, _FEATURE_ROWS))

    @property
    def num_rows(self) -> int | None:
        """Number of rows; None until they have been counted."""
        return self._num_rows

    def count(self, heartbeat: Heartbeat = no_heartbeat) -> int:
        """Count the rows to the end."""
        while self._num_rows is None:
            self._parse_up_to(len(self._starts) + 1000)
            heartbeat(len(self._starts))
        return self._num_rows

    def where(self, row: int) -> str:
        """File and number of a row."""
        return f"{self.name}: row {row}"

    def rows(self, start: int, stop: int) -> list[Row | BadRow]:
        """The parsed rows from `start` up to `stop`."""
        if self._whole is not None:
            return self._whole[start:stop]
        self._parse_up_to(stop)
        rows: list[Row | BadRow] = [
            parse_object(self._content.read_at(self._starts[row], self._sizes[row]))
            for row in range(start, min(stop, len(self._starts)))
        ]
        if self._broken and start <= len(self._starts) < stop:
            rows.append(self._broken)
        return rows

    def _begin(self) -> None:
        """Find out how the rows lie in the file."""
        first = self._reader.peek()
        if first == "[":
            self._reader.step()
            if self._reader.peek() == "[":
                self._read_whole()
        elif first == "{":
            is_whole = not isinstance(self._reader.next(), BadRow)
            if is_whole and self._reader.peek() == "{":
                self._reader = _ValueReader(self._content, again=self._reader)
            else:
                self._read_whole()
        else:
            raise DataError(
                f"does not begin like JSON but with {first!r}",
                where=self.name,
                remedy="Rows are objects in braces, one a line or all in one array.",
            )

    def _read_whole(self) -> None:
        text = self._reader.everything(_MAX_WHOLE_BYTES, self.name)
        try:
            value = json.loads(text, object_pairs_hook=unique_keys)
        except json.JSONDecodeError as error:
            raise DataError(
                f"is not JSON: {describe(error)}",
                where=f"{self.name}:{error.lineno}",
                remedy=f"{self._content.fault.capitalize()}: get the file again." if self._content.fault else "",
            ) from None
        except RecursionError:
            raise DataError(
                "is nested too deeply", where=self.name, remedy="Rows are objects in one array, or one a line."
            ) from None
        except ValueError as error:
            raise DataError(str(error), where=self.name) from None
        self._whole = rows_of_value(value, self.name)
        self._num_rows = len(self._whole)
        self.other_splits = {
            split: ListRows(rows, f"{self.name}[{split}]", f"{self.fingerprint}[{split}]")
            for split, rows in other_splits(value).items()
        }

    def _parse_up_to(self, row: int) -> None:
        if self._num_rows is not None or len(self._starts) >= row:
            return
        with self._lock:
            while self._num_rows is None and len(self._starts) < row:
                found = self._reader.next()
                if isinstance(found, BadRow):
                    self._broken = found
                elif found:
                    self._starts.append(found[0])
                    self._sizes.append(found[1])
                    continue
                self._num_rows = len(self._starts) + (self._broken is not None)


class _ValueReader:
    """Steps from one JSON value to the next through bytes that arrive piece by piece.

    Args:
        content: the bytes.
        again: a reader of the same content that read ahead; begin again with what it holds.
    """

    def __init__(self, content: Content, again: _ValueReader | None = None) -> None:
        self._content = content
        self._decode = codecs.getincrementaldecoder("utf-8-sig")(errors="surrogateescape").decode
        self._parse = json.JSONDecoder().raw_decode
        self._text = ""
        self._at = 0
        self._offset = 0
        """Place of `_text[_at]` in the file, in bytes."""
        self._line = 1
        self._is_complete = False
        self._has_mark = False
        if again:
            self._take_over(again)

    def peek(self) -> str:
        """The next character that is neither blank nor a comma; empty at the end."""
        while True:
            match = _SEPARATOR.match(self._text, self._at)
            self._move(match.end() if match else self._at)
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def step(self) -> None:
        """Go over one character."""
        self._move(self._at + 1)

    def next(self) -> tuple[int, int] | BadRow | None:
        """Go over the next value.

        Returns:
            Its offset and size in bytes; a `BadRow` if it is broken; None at the end.
        """
        first = self.peek()
        if first in ("", "]"):
            return self._end(first)
        while True:
            try:
                _, end = self._parse(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._may_continue(error) and self._more():
                    continue
                return self._broken(error)
            except RecursionError:
                return BadRow(Code.PARSE_ERROR, f"line {self._line}: is nested too deeply; what lies behind it is lost")
            except ValueError as error:
                return BadRow(Code.PARSE_ERROR, f"line {self._line}: {error}; what lies behind it is lost")
            if end == len(self._text) and self._text[end - 1] not in "}]" and self._more():
                continue
            start = self._offset
            self._move(end)
            return start, self._offset - start

    def everything(self, limit: int, name: str) -> str:
        """The whole text, from the file's begin."""
        size = self._offset + len(self._text[self._at :].encode("utf-8", "surrogateescape"))
        while self._more():
            if len(self._text) > limit:
                raise DataError(
                    f"is one JSON value of more than {limit >> 20} MiB",
                    where=name,
                    remedy="Write it as JSON lines, one row a line.",
                )
        size = self._offset + len(self._text[self._at :].encode("utf-8", "surrogateescape"))
        try:
            return self._content.read_at(0, size).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(
                f"is not UTF-8 text (byte {error.start})",
                where=name,
                remedy="Convert it to UTF-8, for instance with iconv.",
            ) from None

    def _take_over(self, other: _ValueReader) -> None:
        size = other._offset + len(other._text[other._at :].encode("utf-8", "surrogateescape"))
        self._is_complete = other._is_complete
        self._append(self._content.read_at(0, size))

    def _end(self, last: str) -> BadRow | None:
        if last == "]":
            self.step()
            if self.peek():
                return BadRow(Code.PARSE_ERROR, f"line {self._line}: there is more text after the end of the array")
            return None
        if self._content.fault:
            return BadRow(Code.PARSE_ERROR, f"{self._content.fault}; what lies behind this row is lost")
        return None

    def _may_continue(self, error: json.JSONDecodeError) -> bool:
        is_open = error.msg.startswith("Unterminated") or error.pos > len(self._text) - _NEAR_END
        return is_open and len(self._text) - self._at < 4 * MAX_ROW_BYTES

    def _broken(self, error: json.JSONDecodeError) -> BadRow:
        line = self._line + self._text.count("\n", self._at, error.pos)
        if self._is_complete and self._may_continue(error):
            reason = self._content.fault or "the file ends in the middle of this row"
            return BadRow(Code.PARSE_ERROR, f"line {line}: {reason}")
        message = f"line {line}: {error.msg[:1].lower()}{error.msg[1:]}"
        excerpt = self._text[max(error.pos - 20, self._at) : error.pos + 60].replace("\n", " ")
        return BadRow(Code.PARSE_ERROR, f"{message} near {excerpt!r}; what lies behind it is lost")

    def _move(self, to: int) -> None:
        passed = self._text[self._at : to]
        self._offset += len(passed) if passed.isascii() else len(passed.encode("utf-8", "surrogateescape"))
        self._line += passed.count("\n")
        self._at = to

    def _more(self) -> bool:
        """Read on; at least doubles what is held, so that a long value costs no more than its length."""
        if self._is_complete:
            return False
        chunk = self._content.next_chunk()
        if chunk:
            self._append(chunk)
        else:
            self._is_complete = True
            self._text += self._decode(b"", True)
        return bool(chunk)

    def _append(self, chunk: bytes) -> None:
        if not self._has_mark and self._offset == 0 and chunk.startswith(codecs.BOM_UTF8):
            self._offset = len(codecs.BOM_UTF8)
            self._has_mark = True
        self._text = self._text[self._at :] + self._decode(chunk)
        self._at = 0
