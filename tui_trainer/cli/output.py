"""What commands print: data to stdout, talk to stderr, foreign text made safe, colours only on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from tui_trainer.errors import ConfigurationError, WorkbenchError
from tui_trainer.runs.files import jsonable
from tui_trainer.text import safe, safe_line

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

    from tui_trainer.engine.report import Report

_WIDE = 1000


def print_json(document: Mapping[str, Any]) -> None:
    """Print one JSON object on one line of stdout at once; non-finite numbers become texts, as in all our files."""
    sys.stdout.write(json.dumps(jsonable(document), ensure_ascii=True, allow_nan=False) + "\n")
    sys.stdout.flush()


def counted(number: int, thing: str) -> str:
    """A number with the name of what is counted: 1 row, 1,200 rows."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def print_text(text: str) -> None:
    """Print foreign text on stdout: made safe on a terminal, as it is where another program reads it."""
    sys.stdout.write((safe(text) if sys.stdout.isatty() else text) + "\n")


@cache
def talk() -> Console:
    """The console for everything that is not data: progress, questions, remarks. It shows no markup of foreign text."""
    from rich.console import Console

    return Console(stderr=True, markup=False, highlight=False, emoji=False, soft_wrap=True)


@cache
def paper() -> Console:
    """The console for tables and other data meant for people, on stdout; nothing is cut where it is no terminal."""
    from rich.console import Console

    class Paper(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return Paper(markup=False, highlight=False, emoji=False, width=None if sys.stdout.isatty() else _WIDE)


def show_task(status: Status, task: str) -> None:
    """Say beside a spinner what is being done; a spinner would read markup in it, whatever its console says."""
    from rich.text import Text

    status.update(Text(safe_line(task)))


def status_report(status: Status) -> Report:
    """A report that shows its task beside a spinner of rich."""

    def report(task: str, done: int | None, total: int | None) -> None:
        count = f" {done:,}" if done is not None else ""
        count += f" of {total:,}" if done is not None and total else ""
        show_task(status, f"{task}{count}")

    return report


def can_ask() -> bool:
    """Whether somebody sits at a terminal who can answer a question."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def print_error(error: WorkbenchError, *, as_json: bool) -> None:
    """Tell the user of an error on stderr: as sentences, or as one JSON object for a program."""
    if as_json:
        document = {"error": error.to_dict() | {"exit_code": int(error.exit_code)}}
        sys.stderr.write(json.dumps(jsonable(document), ensure_ascii=True) + "\n")
        return
    from rich.text import Text

    message = Text("error: ", "bold red")
    if isinstance(error, ConfigurationError) and error.problems:
        message.append(safe("\n".join(map(str, error.problems))))
    else:
        message.append(safe(f"{error.where}: {error.what}" if error.where else error.what))
        if error.remedy:
            message.append("\n" + safe(error.remedy), "default")
    talk().print(message)
