"""Reading and writing configuration files; knows TOML and line numbers, nothing about the schema."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomlkit

from tui_trainer.errors import ConfigurationError, RefusedError, UsageError

KeyPath = tuple[str | int, ...]

_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"""|'
    r"'''.*?'''|"
    r'"(?:\\.|[^"\\\n])*"|'
    r"'[^'\n]*'|"
    r"#[^\n]*|[\[\]{}=.,\n]|[^\s\[\]{}=.,#\"'\n]+",
    re.DOTALL,
)


@dataclass(frozen=True)
class Document:
    """A parsed file: its values and the line of each key."""

    path: str
    tree: dict[str, Any]
    lines: Mapping[KeyPath, int] = field(default_factory=dict)

    def where(self, key: KeyPath) -> str:
        """The "file:line" of a key, or of the nearest enclosing key that has a line."""
        for end in range(len(key), 0, -1):
            if key[:end] in self.lines:
                return f"{self.path}:{self.lines[key[:end]]}"
        return self.path


def read_document(path: Path) -> Document:
    """Parse a TOML file.

    Raises:
        UsageError: there is no such file, or it cannot be read.
        ConfigurationError: it is not valid TOML; the message has line and column.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(
            "there is no such file",
            where=str(path),
            remedy="Give the path of a TOML file, or a name that `tui-trainer presets` lists.",
        ) from None
    except IsADirectoryError:
        raise UsageError("is a folder, not a configuration file", where=str(path)) from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"is not UTF-8 text (byte {error.start})", where=str(path), remedy="Save it as UTF-8."
        ) from None
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=str(path)) from None
    return parse_document(text, str(path))


def parse_document(text: str, path: str) -> Document:
    """Parse TOML text; `path` is what messages call it."""
    try:
        tree = tomllib.loads(text.replace("\r\n", "\n"))
    except tomllib.TOMLDecodeError as error:
        position = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        line = f":{position[1]}:{position[2]}" if position else f":{text.count(chr(10)) + 1}"
        what = re.sub(r"\s*\(at .*\)", "", str(error)).lower()
        raise ConfigurationError(
            f"is not valid TOML: {what}", where=f"{path}{line}", remedy="Mend this line."
        ) from None
    except RecursionError:
        raise ConfigurationError("is nested too deeply", where=path) from None
    return Document(path, tree, _key_lines(text))


def write_new(path: Path, text: str) -> None:
    """Write a file that is not there yet.

    Raises:
        RefusedError: it exists.
        UsageError: it cannot be written.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise RefusedError("exists already", where=str(path), remedy="Give another name.") from None
    except OSError as error:
        raise UsageError(f"cannot be written: {error.strerror}", where=str(path)) from None


def _name(token: str) -> str:
    return token[1:-1] if token[0] in "\"'" else token


def _key_lines(text: str) -> dict[KeyPath, int]:
    """Line number of every table header and of every key outside inline tables."""
    lines: dict[KeyPath, int] = {}
    header: KeyPath = ()
    counts: dict[KeyPath, int] = {}
    state, depth, brackets, line = "key", 0, 0, 1
    names: list[str] = []
    for match in _TOKEN.finditer(text):
        token = match.group()
        if token == "\n" or token[0] == "#":
            if state == "header":
                header = _enter(names, brackets == 2, counts)
                lines.setdefault(header, line)
                state = "after header"
            if depth == 0 and token == "\n":
                state, brackets, names = "key", 0, []
        elif state == "value":
            depth += (token in "[{") - (token in "]}")
        elif token == "[" and not names:
            state, brackets = "header", brackets + 1
        elif token == "=" and state == "key":
            lines[(*header, *names)] = line
            state = "value"
        elif state != "after header" and token not in ("]", "."):
            names.append(_name(token))
        line += token.count("\n")
    if state == "header":
        lines.setdefault(_enter(names, brackets == 2, counts), line)
    return lines


def _enter(names: list[str], is_array: bool, counts: dict[KeyPath, int]) -> KeyPath:
    """The path of a table header, with the running number of each array of tables on the way."""
    path: KeyPath = ()
    for position, name in enumerate(names):
        path = (*path, name)
        is_last = position == len(names) - 1
        if is_last and is_array:
            counts[path] = counts.get(path, -1) + 1
        if path in counts:
            path = (*path, counts[path])
    return path


def dump_toml(tree: Mapping[str, Any]) -> str:
    """TOML text of a tree; unset values (None) and empty tables are left out."""
    document = tomlkit.document()
    plain = {key: value for key, value in tree.items() if not isinstance(value, Mapping)}
    for key, value in plain.items():
        if value is not None:
            document.add(key, _item(value))
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            document.add(key, _table(value))
    return tomlkit.dumps(document)


def _table(values: Mapping[str, Any]) -> Any:
    table = tomlkit.table()
    nested = {key: value for key, value in values.items() if _is_array_of_tables(value)}
    for key, value in values.items():
        if value is not None and key not in nested and value != {} and value != []:
            table.add(key, _item(value))
    for key, rows in nested.items():
        array = tomlkit.aot()
        for row in rows:
            array.append(_table(row))
        table.add(key, array)
    return table


def _is_array_of_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _item(value: Any) -> Any:
    if isinstance(value, Mapping):
        inline = tomlkit.inline_table()
        for key, item in value.items():
            if item is not None:
                inline.append(key, _item(item))
        return inline
    if isinstance(value, list):
        array = tomlkit.array()
        for item in value:
            array.append(_item(item))
        return array
    return tomlkit.item(value)
