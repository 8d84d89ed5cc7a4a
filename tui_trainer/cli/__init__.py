"""The command line: one module a command, imported only when it is called, which imports what it needs in its function.

A command is the function of its module that bears the module's name (`train.train`, `chat.chat`), annotated for Typer;
one with sub-commands is a `typer.Typer` called `app` (`runs.app`). `app` lists them, turns errors into sentences and
exit codes, and hands everything that is no command to the workbench. Data goes to stdout, talk to stderr: see `output`.
"""

from __future__ import annotations

from typing import NoReturn

from tui_trainer.ending import end_with


def main() -> NoReturn:
    """Run the command line and end with its exit code."""
    from tui_trainer.cli.app import run

    end_with(run)
