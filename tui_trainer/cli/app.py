"""The command `tui-trainer`: its commands, its global options, and what becomes of an error.

The first word decides: the name of a command calls it, anything else is a run, a configuration or a dataset that the
workbench opens on. What is named like a command is opened with its path (`./demo`) or after `--`.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Sequence
from io import TextIOWrapper

from tui_trainer import __version__
from tui_trainer.cli.names import COMMANDS, COMPLETION_VARIABLE, PROGRAM, WORKBENCH
from tui_trainer.cli.output import print_error
from tui_trainer.cli.workbench import open_workbench
from tui_trainer.errors import ExitCode, WorkbenchError
from tui_trainer.paths import make_private, state_dir
from tui_trainer.redact import redact, redact_arguments
from tui_trainer.text import safe_line


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; whatever happens, the user never sees a traceback."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # what the terminal's encoding lacks is shown as "?", it does not end the command
            stream.reconfigure(errors="replace")
    try:
        return _call(words)
    except WorkbenchError as error:
        print_error(error, as_json=_wants_json(words))
        return int(error.exit_code)
    except KeyboardInterrupt:
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # whoever read our output, as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.DONE)
    except Exception as error:
        print_error(_report_bug(error, words), as_json=_wants_json(words))
        return int(ExitCode.FAILED)


def _call(words: list[str]) -> int:
    words, name = _with_command(words)
    if name == WORKBENCH and words[0] == WORKBENCH and not _needs_parser(words[1:]):
        # the way most starts go needs no parser, and the parser is a sixth of what a start costs
        return open_workbench(*words[1:])
    from tui_trainer.cli.commands import invoke

    return invoke(words, name)


def _needs_parser(words: list[str]) -> bool:
    """Whether the words, or a shell that asks for completions, need more than a target to be taken as it is."""
    return len(words) > 1 or any(word.startswith("-") for word in words) or COMPLETION_VARIABLE in os.environ


def _with_command(words: list[str]) -> tuple[list[str], str]:
    """The words with the hidden command of the workbench put in where none is named, and the command's name."""
    position = 0
    while position < len(words) and words[position].startswith("-") and words[position] != "--":
        position += 2 if words[position] == "--runs" else 1
    if position < len(words) and words[position] in COMMANDS:
        return words, words[position]
    if position > len(words):
        return words, ""
    return [*words[:position], WORKBENCH, *words[position:]], WORKBENCH


def _wants_json(words: Sequence[str]) -> bool:
    return "--json" in words


def _report_bug(error: Exception, words: Sequence[str]) -> WorkbenchError:
    """Keep the details of an unforeseen error in a file of the user's own and make a sentence of the rest."""
    summary = redact(safe_line(f"{type(error).__name__}: {error}"))[:200]
    details = redact("".join(traceback.format_exception(error)))
    path = state_dir() / "crashes" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    try:
        make_private(path.parent)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(f"{PROGRAM} {__version__}\n{' '.join(redact_arguments(words))}\n\n{details}")
    except OSError:
        return WorkbenchError(f"this is a bug in {PROGRAM}: {summary}")
    return WorkbenchError(f"this is a bug in {PROGRAM}: {summary}", remedy=f"Please report it with {path}.")
