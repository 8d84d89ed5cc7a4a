"""The commands as a Typer application; loaded when a command, an option or the help is asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from keyword import iskeyword
from pathlib import Path
from typing import Annotated, Any

import typer

from tui_trainer import __version__
from tui_trainer.cli.names import COMMANDS, COMPLETION_VARIABLE, PROGRAM, WORKBENCH
from tui_trainer.cli.workbench import open_workbench
from tui_trainer.errors import ExitCode, UsageError


def invoke(words: list[str], name: str) -> int:
    """Parse the words and call the command that they name.

    Args:
        words: the command line without the program's name.
        name: the command that is called, the only one whose module is loaded.

    Returns:
        Its exit code.

    Raises:
        UsageError: the words do not fit the command.
        KeyboardInterrupt: a question was answered with ctrl+c.
    """
    command = typer.main.get_command(_application(name))
    try:
        result = command.main(args=words, prog_name=PROGRAM, standalone_mode=False)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except Exception as error:
        if not isinstance(error, typer.BadParameter.__bases__):
            raise
        raise _usage_error(error) from None
    return result if isinstance(result, int) else int(ExitCode.DONE)


def _usage_error(error: Any) -> UsageError:
    path = error.ctx.command_path if error.ctx else PROGRAM
    what = str(error.format_message()).strip().rstrip(".")
    return UsageError(what[:1].lower() + what[1:], remedy=f"`{path} --help` shows how it is used.")


def _application(name: str) -> typer.Typer:
    """The Typer application with the module of one command loaded; the others are there for the help only."""
    application = typer.Typer(
        name=PROGRAM,
        help="A workbench for training language models in one terminal. Without a command it opens on a RUN, "
        "a CONFIG file or a data SOURCE.",
        rich_markup_mode=None if os.environ.get("TERM") == "dumb" else "rich",
        pretty_exceptions_enable=False,
        subcommand_metavar="[COMMAND | RUN | CONFIG | SOURCE] ...",
    )
    application.callback()(_options)
    application.command(WORKBENCH, hidden=True)(_workbench)
    is_completion = COMPLETION_VARIABLE in os.environ
    for command, summary in COMMANDS.items():
        if command == name or is_completion:
            _add(application, command, summary)
        else:
            application.command(command, help=summary)(_unloaded)
    return application


def _add(application: typer.Typer, name: str, summary: str) -> None:
    own_name = f"{name}_" if iskeyword(name) else name
    module = import_module(f"tui_trainer.cli.{own_name}")
    group = getattr(module, "app", None)
    if isinstance(group, typer.Typer):
        application.add_typer(group, name=name, help=summary)
    else:
        function: Callable[..., Any] = getattr(module, own_name)
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
    return open_workbench(target)
