"""Opening the screens from the command line."""

from __future__ import annotations

import difflib
import gc
import sys
from pathlib import Path

from tui_trainer.cli.names import COMMANDS, PROGRAM
from tui_trainer.errors import UsageError
from tui_trainer.redact import redact_arguments


def open_workbench(target: str | None = None) -> int:
    """Open the screens on a run, a configuration or a dataset.

    Raises:
        UsageError: there is no terminal, or the target is a misspelt command.
    """
    if target is not None:
        _refuse_misspelt_command(target)
    if not _has_terminal():
        raise UsageError(
            "the workbench needs a terminal", remedy=f"Use a command in scripts; `{PROGRAM} --help` lists them."
        )
    gc.disable()  # a tenth of the start otherwise; the app lets it go on
    try:
        from tui_trainer.tui.app import run as run_workbench

        return run_workbench(target, argv=redact_arguments(sys.argv))
    finally:
        gc.enable()


def _has_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _refuse_misspelt_command(target: str) -> None:
    from tui_trainer.runs.store import list_runs

    near = difflib.get_close_matches(target, COMMANDS, n=1, cutoff=0.75)
    is_misspelt = near and near[0] != target
    if is_misspelt and not Path(target).exists() and all(target not in (run.id, run.name) for run in list_runs()):
        raise UsageError(
            f"there is no command, run, configuration or dataset {target!r}",
            remedy=f"Did you mean `{PROGRAM} {near[0]}`?",
        )
