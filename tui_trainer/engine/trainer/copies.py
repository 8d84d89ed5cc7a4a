"""Copying checkpoints to a second place while the training goes on. Called by `engine.trainer.trainer` on rank 0."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from tui_trainer.engine.trainer.hub import linked_copy
from tui_trainer.engine.trainer.journal import EventLog
from tui_trainer.engine.trainer.manifest import verify_checkpoint
from tui_trainer.runs.events import Alert, CheckpointCopied
from tui_trainer.runs.layout import RunLayout


class CheckpointCopies:
    """Copies the published checkpoints of a run into a folder, one at a time, whole or not at all.

    While one is on its way the next ones are left out; the last one of the run never is.

    Args:
        layout: the run.
        events: where each copy is reported; one that fails does not stop the training.
        place: the folder.
    """

    def __init__(self, layout: RunLayout, events: EventLog, place: Path) -> None:
        self._source = layout.root / "copying"
        self._events = events
        self._target = place.expanduser() / layout.id
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="copy")
        self._last: Future[None] | None = None

    def checkpoint_saved(self, path: Path, step: int, *, is_end: bool) -> None:
        """Begin to copy a published checkpoint."""
        if self._last is not None and not self._last.done() and not is_end:
            return
        source = self._source / path.name
        try:
            linked_copy(path, source)
        except OSError as error:
            self._events.write(_alert(step, self._target, error.strerror or str(error)))
            return
        self._last = self._worker.submit(self._copy, source, step)

    def finish(self) -> None:
        """Wait for the copies that are on their way."""
        self._worker.shutdown(wait=True)
        shutil.rmtree(self._source, ignore_errors=True)

    def _copy(self, source: Path, step: int) -> None:
        started = time.monotonic()
        target, partial = self._target / source.name, self._target / f".{source.name}.partial"
        try:
            self._target.mkdir(mode=0o700, parents=True, exist_ok=True)
            for leftover in (partial, target):
                if leftover.exists():
                    shutil.rmtree(leftover)
            shutil.copytree(source, partial)
            problems = verify_checkpoint(partial)
            if problems:
                self._events.write(_alert(step, self._target, "; ".join(problems[:3])))
                return
            partial.rename(target)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            self._events.write(_alert(step, self._target, _reason(error)))
        else:
            seconds = round(time.monotonic() - started, 3)
            self._events.write(CheckpointCopied(step=step, path=str(target), seconds=seconds))
        finally:
            shutil.rmtree(source, ignore_errors=True)


def _reason(error: OSError) -> str:
    """Why a copy failed; `shutil` gives a list of triples whose last part is the text."""
    if isinstance(error, shutil.Error) and error.args and error.args[0]:
        return str(error.args[0][0][-1])
    return error.strerror or str(error)


def _alert(step: int, target: Path, why: str) -> Alert:
    return Alert(
        step=step,
        kind="copy",
        message=f"checkpoint {step} was not copied to {target}: {why}",
        remedy="The training goes on, and tries again with the next checkpoint.",
    )
