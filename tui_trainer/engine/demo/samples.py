"""The samples that `demo:NAME` stands for, as files on this machine.

`identity` and `chat` lie in the package; `dates` and `stories` are generated into the cache on first use, always the
same. All text is written for this project (Apache-2.0). Standard library only: the data worker and `cli.demo` use it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from tui_trainer.engine.demo.dates import held_out_dates, train_dates
from tui_trainer.engine.demo.stories import stories
from tui_trainer.errors import MachineError, UsageError
from tui_trainer.paths import cache_dir, make_private

PREFIX = "demo:"
_SHIPPED = Path(__file__).resolve().parent / "data"
_VERSION = "1"
"""Part of the cache folder's name; raise it when a generator changes."""

Rows = Iterable[Mapping[str, str]]


def _dates() -> dict[str, str]:
    return {"train.jsonl": _lines(train_dates()), "test.jsonl": _lines(held_out_dates())}


def _stories() -> dict[str, str]:
    train, test = stories()
    return {"train.jsonl": _lines(train), "test.jsonl": _lines(test)}


def _lines(rows: Rows) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


_GENERATED: dict[str, Callable[[], dict[str, str]]] = {"dates": _dates, "stories": _stories}
_IN_PACKAGE = ("identity", "chat")
NAMES = (*_GENERATED, *_IN_PACKAGE)
"""The samples there are."""


def sample_path(name: str) -> Path:
    """The folder of a sample, with `train.jsonl` and `test.jsonl`.

    Args:
        name: one of `NAMES`, with or without "demo:" before it.

    Raises:
        UsageError: there is no such sample.
        MachineError: the cache cannot be written.
    """
    name = name.removeprefix(PREFIX)
    if name in _IN_PACKAGE:
        return _SHIPPED / name
    if name not in _GENERATED:
        names = ", ".join(PREFIX + known for known in NAMES)
        raise UsageError(f"there is no sample {name!r}", where=PREFIX + name, remedy=f"There are {names}.")
    folder = cache_dir() / "demo" / f"{name}-{_VERSION}"
    if not folder.is_dir():
        _generate(folder, _GENERATED[name])
    return folder


def _generate(folder: Path, make: Callable[[], dict[str, str]]) -> None:
    """Write a sample beside its place and move it there whole; whoever comes second finds it done."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        make_private(folder.parent)
        temporary.mkdir(mode=0o700)
        for name, text in make().items():
            (temporary / name).write_text(text, encoding="utf-8")
        temporary.rename(folder)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if not folder.is_dir():
            raise MachineError(
                f"the sample data cannot be written: {error.strerror}",
                where=str(folder),
                remedy="Free space, or move all state to another disk with TUI_TRAINER_HOME.",
            ) from None


def identity_questions() -> tuple[list[str], list[str]]:
    """The held-out questions of the sample `identity`: about the model itself, and about anything else."""
    lines = (_SHIPPED / "identity" / "test.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    about_self = [row["instruction"] for row in rows if row["kind"] == "paraphrase"]
    return about_self, [row["instruction"] for row in rows if row["kind"] == "unrelated"]
