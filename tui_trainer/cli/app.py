"""The command `tui-trainer`: its commands, its global options, and what becomes of an error.

The first word decides: the name of a command calls it, anything else is a run, a configuration or a dataset that the
workbench opens on. What is named like a command is opened with its path (`./demo`) or after `--`.
"""

from __future__ import annotations

import difflib
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any

import typer

from tui_trainer import __version__
from tui_trainer.cli.output import print_error
from tui_trainer.errors import ExitCode, UsageError, WorkbenchError
from tui_trainer.paths import make_private, state_dir
from tui_trainer.redact import redact, redact_arguments
from tui_trainer.text import safe_line

COMMANDS: dict[str, str] = {
    "demo": "Train a small model on shipped data and compare its answers before and after.",
    "preview": "Show what a model would be trained on: tokens, mask, problems.",
    "check": "Check a configuration, its data, memory and disk, without training.",
    "train": "Train as a configuration or a preset says.",
    "runs": "List, watch, steer, compare and remove runs.",
    "chat": "Talk to a model, a checkpoint or an adapter.",
    "presets": "List, show and copy the shipped configurations.",
    "doctor": "Show what this machine has and what it lacks.",
}
"""The commands with their one-line help, in the order of `--help`; each lives in the module of its name."""

_WORKBENCH = "workbench"
_PROGRAM = "tui-trainer"


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
    except (KeyboardInterrupt, typer.Abort):
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
    command = typer.main.get_command(_application(name))
    try:
        result = command.main(args=words, prog_name=_PROGRAM, standalone_mode=False)
    except Exception as error:
        if not isinstance(error, typer.BadParameter.__bases__):
            raise
        raise _usage_error(error) from None
    return result if isinstance(result, int) else int(ExitCode.DONE)


def _usage_error(error: Any) -> UsageError:
    path = error.ctx.command_path if error.ctx else _PROGRAM
    what = str(error.format_message()).strip().rstrip(".")
    return UsageError(what[:1].lower() + what[1:], remedy=f"`{path} --help` shows how it is used.")


def _with_command(words: list[str]) -> tuple[list[str], str]:
    """The words with the hidden command of the workbench put in where none is named, and the command's name."""
    position = 0
    while position < len(words) and words[position].startswith("-") and words[position] != "--":
        position += 2 if words[position] == "--runs" else 1
    if position < len(words) and words[position] in COMMANDS:
        return words, words[position]
    if position > len(words):
        return words, ""
    return [*words[:position], _WORKBENCH, *words[position:]], _WORKBENCH


def _application(name: str) -> typer.Typer:
    """The Typer application with the module of one command loaded; the others are there for the help only."""
    application = typer.Typer(
        name=_PROGRAM,
        help="A workbench for training language models in one terminal. Without a command it opens on a RUN, "
        "a CONFIG file or a data SOURCE.",
        rich_markup_mode=None if os.environ.get("TERM") == "dumb" else "rich",
        pretty_exceptions_enable=False,
        subcommand_metavar="[COMMAND | RUN | CONFIG | SOURCE] ...",
    )
    application.callback()(_options)
    application.command(_WORKBENCH, hidden=True)(_workbench)
    is_completion = any(key.endswith("_COMPLETE") and key.startswith("_TUI") for key in os.environ)
    for command, summary in COMMANDS.items():
        if command == name or is_completion:
            _add(application, command, summary)
        else:
            application.command(command, help=summary)(_unloaded)
    return application


def _add(application: typer.Typer, name: str, summary: str) -> None:
    module = import_module(f"tui_trainer.cli.{name}")
    group = getattr(module, "app", None)
    if isinstance(group, typer.Typer):
        application.add_typer(group, name=name, help=summary)
    else:
        function: Callable[..., Any] = getattr(module, name)
        application.command(name)(function)


def _unloaded() -> None:
    raise AssertionError("a command is loaded before it is called")


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(__version__)
        raise typer.Exit


def _options(
    runs: Annotated[
        Path | None,
        typer.Option("--runs", metavar="DIR", help="The run store, instead of $TUI_TRAINER_RUNS or ./runs."),
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    if runs is not None:
        os.environ["TUI_TRAINER_RUNS"] = str(runs.expanduser().absolute())


def _workbench(
    target: Annotated[str | None, typer.Argument(metavar="[RUN|CONFIG|SOURCE]", help="What to open on.")] = None,
) -> int:
    if target is not None:
        _refuse_misspelt_command(target)
    if not _has_terminal():
        raise UsageError(
            "the workbench needs a terminal", remedy=f"Use a command in scripts; `{_PROGRAM} --help` lists them."
        )
    from tui_trainer.tui.app import run as run_workbench

    return int(run_workbench(target) or 0)


def _has_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _refuse_misspelt_command(target: str) -> None:
    from tui_trainer.runs.store import list_runs

    near = difflib.get_close_matches(target, COMMANDS, n=1, cutoff=0.75)
    is_misspelt = near and near[0] != target
    if is_misspelt and not Path(target).exists() and all(target not in (run.id, run.name) for run in list_runs()):
        raise UsageError(
            f"there is no command, run, configuration or dataset {target!r}",
            remedy=f"Did you mean `{_PROGRAM} {near[0]}`?",
        )


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
            file.write(f"{_PROGRAM} {__version__}\n{' '.join(redact_arguments(words))}\n\n{details}")
    except OSError:
        return WorkbenchError(f"this is a bug in {_PROGRAM}: {summary}")
    return WorkbenchError(f"this is a bug in {_PROGRAM}: {summary}", remedy=f"Please report it with {path}.")
