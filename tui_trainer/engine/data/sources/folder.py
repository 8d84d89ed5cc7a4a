"""Folders of data files: which files belong to which split, and datasets written by `save_to_disk`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

from tui_trainer.engine.data.sources.recognise import KNOWN_KINDS, has_data_name, kind_by_name
from tui_trainer.engine.data.sources.splits import SPLIT_NAMES
from tui_trainer.errors import DataError

_MAX_FILES = 10_000
_WORD = re.compile(r"[a-z]+")
_IGNORED_STEMS = ("readme", "license", "licence", "changelog", "dataset_info", "dataset_infos", "dataset_dict", "state")


def saved_splits(folder: Path) -> dict[str, list[Path]] | None:
    """The Arrow files of a folder written by `save_to_disk`, by split; None if it is no such folder.

    Raises:
        DataError: a file that the folder names is missing.
    """
    if (folder / "dataset_dict.json").is_file():
        names = _read_json(folder / "dataset_dict.json").get("splits", [])
        return {str(name): _saved_files(folder / str(name)) for name in names}
    if (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file():
        return {"train": _saved_files(folder)}
    return None


def _saved_files(folder: Path) -> list[Path]:
    entries = _read_json(folder / "state.json").get("_data_files", [])
    files = [folder / Path(str(entry.get("filename", ""))).name for entry in entries if isinstance(entry, dict)]
    missing = next((file for file in files if not file.is_file()), None)
    if missing:
        raise DataError(
            f"lacks the file {missing.name} that its state.json names",
            where=str(folder),
            remedy="Copy the whole folder.",
        )
    return files


def _read_json(path: Path) -> dict[str, list[object]]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        raise DataError("is no readable JSON", where=str(path), remedy="Save the dataset again.") from None
    if not isinstance(value, dict):
        raise DataError("is no JSON object", where=str(path), remedy="Save the dataset again.")
    return value


def data_files(folder: Path, patterns: Sequence[str] = ()) -> list[Path]:
    """The data files below a folder, in order.

    Args:
        folder: where to look; links to folders are followed once.
        patterns: `data.data_files`: names or patterns; without them every file with the name of a data file.

    Raises:
        DataError: one is a link that leads nowhere; or there are none: the message names scripts, which are never run.
    """
    found: list[Path] = []
    scripts: list[str] = []
    for path in _walk(folder):
        relative = path.relative_to(folder).as_posix()
        # a name may hold the brackets of a pattern
        is_named = any(relative == pattern or fnmatch(relative, pattern) for pattern in patterns)
        is_wanted = is_named if patterns else has_data_name(path.name)
        if is_wanted and (patterns or not _is_about(path)):
            if not path.exists():
                raise DataError(
                    f"lacks the data file {relative}: its link leads nowhere",
                    where=str(folder),
                    remedy="Get what it leads to, or remove the link.",
                )
            found.append(path)
        elif path.suffix == ".py":
            scripts.append(relative)
        if len(found) > _MAX_FILES:
            raise DataError(
                f"holds more than {_MAX_FILES} data files", where=str(folder), remedy="Set data.data_files."
            )
    if not found:
        raise _nothing(folder, patterns, scripts)
    tables = [path for path in found if kind_by_name(path.name) not in ("text", "document")]
    # texts beside tables tell about them
    return sorted(tables if tables and not patterns else found)


def split_files(folder: Path, files: Sequence[Path]) -> dict[str, list[Path]]:
    """Files by split, told from the words in their names and folders; all are "train" where none tells."""
    named: dict[str, list[Path]] = {}
    others: list[Path] = []
    for file in files:
        split = _split_in(file.relative_to(folder))
        if split:
            named.setdefault(split, []).append(file)
        else:
            others.append(file)
    if not named:
        return {"train": others}
    for file in others:
        named.setdefault("train" if "train" not in named else file.stem.split(".")[0], []).append(file)
    return {name: named[name] for name in sorted(named, key=_rank)}


def _rank(split: str) -> tuple[int, str]:
    order = ("train", "validation", "test")
    return (order.index(split) if split in order else len(order), split)


def _split_in(relative: Path) -> str | None:
    for part in reversed(relative.parts):
        words = [SPLIT_NAMES[word] for word in _WORD.findall(part.lower()) if word in SPLIT_NAMES]
        if words:
            return words[0]
    return None


def _is_about(path: Path) -> bool:
    """Whether the file tells about the data instead of holding it."""
    return path.name.lower().split(".")[0] in _IGNORED_STEMS


def _walk(folder: Path) -> list[Path]:
    """All files below a folder; each folder is entered once, however links lead to it."""
    seen: set[tuple[int, int]] = set()
    files: list[Path] = []

    def enter(current: Path) -> None:
        status = current.stat()
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(current) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    enter(Path(entry.path))
                else:
                    files.append(Path(entry.path))

    try:
        enter(folder)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(folder)) from None
    return files


def _nothing(folder: Path, patterns: Sequence[str], scripts: Sequence[str]) -> DataError:
    what = f"holds no file that matches {', '.join(patterns)}" if patterns else "holds no data files"
    if scripts and not patterns:
        what += f"; its script {scripts[0]} is not run"
    return DataError(
        what,
        where=str(folder),
        remedy=KNOWN_KINDS,
    )
