"""Removing a run for good, under its lock, so that none is taken away from under a supervisor that waits or starts.

Used by `tui-trainer runs rm` and the Runs screen.
"""

from __future__ import annotations

import os
import shutil

from tui_trainer.errors import MachineError, RefusedError
from tui_trainer.procs import lock
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.status import State, observed_status
from tui_trainer.runs.store import run_size

_TRASH_PREFIX = ".trash-"


def check_removable(layout: RunLayout) -> None:
    """See that nothing speaks against removing a run.

    Raises:
        RefusedError: it is going on or waits in the queue, or its directory is a link.
    """
    state = observed_status(layout).state
    if state.is_live or (state is State.QUEUED and lock.is_held(layout)):
        what = "the run is going on" if state.is_live else "the run waits in the queue"
        raise RefusedError(what, where=layout.id, remedy=f"`tui-trainer runs stop {layout.id} --wait` ends it first.")
    if layout.root.is_symlink():
        raise RefusedError(
            f"is a link to {layout.root.resolve()}",
            where=str(layout.root),
            remedy="Remove the link or the folder itself.",
        )


def remove_run(layout: RunLayout) -> int:
    """Remove a run and all its files.

    Returns:
        The bytes that are free again.

    Raises:
        RefusedError: as `check_removable`, or it was started meanwhile.
        MachineError: a file cannot be removed.
    """
    check_removable(layout)
    freed = run_size(layout)
    held = None
    try:
        held = lock.acquire(layout)
        if held is None:
            raise RefusedError("the run was started meanwhile", where=layout.id)
        # out of the store by one rename, so that an interrupted removal leaves no half run in the list
        trash = layout.root.with_name(f"{_TRASH_PREFIX}{layout.root.name}")
        layout.root.rename(trash)
        (trash / "run.json").unlink()
        shutil.rmtree(trash)
    except OSError as error:
        raise MachineError(f"cannot be removed: {error.strerror}", where=str(error.filename or layout.root)) from None
    finally:
        if held is not None:
            os.close(held)
    return freed
