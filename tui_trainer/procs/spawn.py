"""Starting the supervisor of a run that lies in its directory, and waiting until it holds the run.

Used by `start` and `stop`. Standard library only, so that a stop needs no configuration to be read.
"""

from __future__ import annotations

import json
import subprocess
import sys

from tui_trainer.errors import MachineError, error_from_dict
from tui_trainer.procs.lock import is_held
from tui_trainer.procs.login import scope_of
from tui_trainer.procs.proctree import marked
from tui_trainer.runs.layout import RunLayout

_ANSWER_SECONDS = 60.0


def start_existing(layout: RunLayout, *, queued: bool = False) -> None:
    """Start a run whose directory exists, for the first time or again; returns once a supervisor holds it.

    Args:
        layout: the run.
        queued: let it wait in the queue of this machine until what it needs is free.

    Raises:
        RefusedError: the run is going on, or processes of an earlier start are.
        UsageError: the directory does not say what to start.
        MachineError: the processes cannot be started.
    """
    _start_supervisor(layout, *(["--queue"] if queued else []))


def adopt(layout: RunLayout) -> bool:
    """Give a run whose supervisor was killed a new one; returns whether there was anything to watch over.

    Raises:
        WorkbenchError: the supervisor cannot be started.
    """
    if is_held(layout) or not marked(layout.root):
        return False
    _start_supervisor(layout, "--adopt")
    return True


def _start_supervisor(layout: RunLayout, *options: str) -> None:
    # -P: a file of the user's in the current folder must not stand in for a module of Python's
    module = "tui_trainer.procs.supervisor"
    scope = scope_of(f"tui-trainer run {layout.id}")
    command = [*scope, sys.executable, "-P", "-m", module, str(layout.root.absolute()), *options]
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
    except OSError as error:
        raise MachineError(f"the supervisor cannot be started: {error.strerror}", where=sys.executable) from None
    try:
        output, _ = process.communicate(timeout=_ANSWER_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise MachineError(
            f"the supervisor does not answer after {_ANSWER_SECONDS:.0f} s", where=str(layout.root)
        ) from None
    _check_answer(layout, output.decode("utf-8", "replace"))


def _check_answer(layout: RunLayout, output: str) -> None:
    last_line = output.strip().rpartition("\n")[2]
    try:
        answer = json.loads(last_line)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise MachineError(
            f"the supervisor ended at once: {last_line or 'without a word'}",
            where=str(layout.root),
            remedy="Run `tui-trainer doctor`.",
        )
    if "error" in answer:
        raise error_from_dict(answer["error"])
