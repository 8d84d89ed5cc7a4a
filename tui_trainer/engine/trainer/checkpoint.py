"""Checkpoints that are whole or not there: written beside, synced, digested, published by one rename.

A kill at any moment leaves the published checkpoints as they were. A full disk costs an alert, and the run waits for
space. Called by `engine.trainer.trainer` on all ranks; only rank 0 moves files.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from tui_trainer.engine.trainer.failures import is_disk_full
from tui_trainer.engine.trainer.group import Group
from tui_trainer.engine.trainer.journal import EventLog
from tui_trainer.engine.trainer.manifest import verify_checkpoint, write_manifest
from tui_trainer.runs.events import Alert, CheckpointSaved
from tui_trainer.runs.files import number, read_json, sync, write_json
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.store import best_step, list_checkpoints
from tui_trainer.units import size

_SPARE = 1.05
_MARGIN_BYTES = 1 << 20
_RETRY_SECONDS = 15.0
_MAX_RETRY_SECONDS = 480.0


@dataclass(frozen=True)
class Score:
    """The evaluation that belongs to a checkpoint.

    Attributes:
        metric: its name, as "eval_loss".
        value: what was measured.
        greater_is_better: whether more of it is better.
    """

    metric: str
    value: float
    greater_is_better: bool

    def beats(self, other: float | None) -> bool:
        """Whether it is better than an earlier value of the same metric; a NaN never is."""
        if other is None:
            return self.value == self.value
        return self.value > other if self.greater_is_better else self.value < other


class Checkpoints:
    """Publishes and rotates the checkpoints of a run.

    Args:
        layout: the run.
        group: its ranks, which agree on whether a save went well.
        events: where saves and failures are reported.
        keep: how many to keep, the newest and the best among them; None keeps all.
        keep_every: besides these, those whose step is a multiple of this are kept for good.
        expected_bytes: size of a checkpoint, until the first one was measured.

    Attributes:
        last_step: step of the last published checkpoint of this start of the run.
        last_error: why the last save failed on this rank, if it did.
        lacks_space: whether it failed for lack of space on any rank.
    """

    def __init__(
        self,
        layout: RunLayout,
        group: Group,
        events: EventLog,
        *,
        keep: int | None = None,
        keep_every: int | None = None,
        expected_bytes: int = 0,
    ) -> None:
        self._layout = layout
        self._group = group
        self._events = events
        self._keep = keep
        self._keep_every = keep_every
        self._room = _Room(layout)
        self.expected_bytes = expected_bytes
        self.last_step: int | None = None
        self.last_error: BaseException | None = None
        self.lacks_space = False
        self._failed_step: int | None = None

    def folder(self, step: int) -> Path:
        """Where the checkpoint of a step is written before it is published."""
        return self._layout.staging / f"checkpoint-{step}"

    @property
    def best_step(self) -> int | None:
        """Step of the best checkpoint."""
        return best_step(self._layout)

    def save(self, step: int, write: Callable[[], None], score: Score | None = None) -> bool:
        """Save and publish the checkpoint of one step; called by all ranks.

        Args:
            step: optimiser steps done.
            write: writes this rank's part into `folder(step)`.
            score: the evaluation made at this very step.

        Returns:
            Whether it was published. If not, an alert says why and the training may go on.
        """
        if self.last_step == step:
            return True
        started = time.monotonic()
        self.last_error = None
        self.lacks_space = False
        is_published = (
            self._succeeds(lambda: self._prepare(step))
            and self._succeeds(write)
            and self._succeeds(lambda: self._publish(step, score, started))
        )
        if is_published:
            self.last_step = step
        else:
            self._give_up(step)
        return is_published

    def has_room(self) -> bool:
        """Whether it makes sense to try again after a full disk; the same on all ranks, which all have to ask."""
        is_there = self._group.is_first and self._events.flush() and self._room.is_likely(self.needed_bytes)
        return bool(self._group.from_first(is_there))

    @property
    def needed_bytes(self) -> int:
        """Free space without which no checkpoint is begun."""
        return int(_SPARE * self.expected_bytes) + _MARGIN_BYTES

    def _give_up(self, step: int) -> None:
        """Clear away what was begun, and report it; once, however often it is tried."""
        error = self.last_error
        self.lacks_space = self._group.sum([int(error is not None and is_disk_full(error))])[0] > 0
        if not self._group.is_first:
            return
        shutil.rmtree(self._layout.staging, ignore_errors=True)
        if self._failed_step != step:
            self._failed_step = step
            self._events.write(_alert(step, error, lacks_space=self.lacks_space), durable=True)

    def _succeeds(self, phase: Callable[[], None]) -> bool:
        """Whether a phase went well on every rank; nobody waits for a rank that failed."""
        try:
            phase()
        except Exception as error:  # whatever a library raises while it writes, the training goes on
            self.last_error = error
        return self._group.all_true(self.last_error is None)

    def _prepare(self, step: int) -> None:
        """Empty the staging folder and see whether there is room."""
        if not self._group.is_first:
            return
        shutil.rmtree(self._layout.staging, ignore_errors=True)
        self._layout.staging.mkdir(mode=0o700)
        self._room.tried()
        if self._room.free() < self.needed_bytes:
            self._rotate(step)  # what this checkpoint would replace goes first, the newest and the best stay
        free = self._room.free()
        if free < self.needed_bytes:
            needed = size(self.needed_bytes)
            raise OSError(errno.ENOSPC, f"it needs about {needed}, the disk has {size(free)} left")

    def _publish(self, step: int, score: Score | None, started: float) -> None:
        """Make the staged checkpoint a published one."""
        if not self._group.is_first:
            return
        folder, target = self.folder(step), self._layout.checkpoint(step)
        facts = {score.metric: score.value} if score else {}
        num_bytes = write_manifest(folder, step, **facts)
        if target.exists():
            self._discard(target)
        folder.rename(target)
        sync(self._layout.checkpoints)
        self.expected_bytes = num_bytes
        is_best = False
        with contextlib.suppress(OSError):  # the checkpoint is there; what is left to do is done at the next one
            is_best = self._note_best(step, score)
            link_latest(self._layout, target)
            self._rotate(step)
        self._events.write(
            CheckpointSaved(
                step=step,
                path=str(target.relative_to(self._layout.root)),
                bytes=num_bytes,
                seconds=round(time.monotonic() - started, 3),
                is_best=is_best,
            ),
            durable=True,
        )
        shutil.rmtree(self._layout.staging, ignore_errors=True)

    def _note_best(self, step: int, score: Score | None) -> bool:
        if score is None:
            return False
        path = self._layout.best
        before = read_json(path) or {}
        earlier = number(before.get("value")) if before.get("metric") == score.metric else None
        if not score.beats(earlier):
            return False
        best = {"step": step, **asdict(score)}
        write_json(path, best, durable=True)
        return True

    def _rotate(self, step: int) -> None:
        """Take away the oldest checkpoints beyond the limit once `step` is there: never the newest nor the best.

        Before `step` is published the newest one that is stays too.
        """
        if self._keep is None:
            return
        published = list_checkpoints(self._layout)
        spared = {step, self.best_step, published[-1].step if published else None} - {None}
        every = self._keep_every
        others = [entry for entry in published if entry.step not in spared and not (every and entry.step % every == 0)]
        num_kept = max(self._keep - len(spared), 0)
        for checkpoint in others[: len(others) - num_kept]:
            self._discard(checkpoint.path)

    def _discard(self, path: Path) -> None:
        """Take a checkpoint out of the published ones by a rename, then delete it: never half of one is seen."""
        self._layout.staging.mkdir(mode=0o700, exist_ok=True)
        trash = self._layout.staging / f"discarded-{path.name}-{os.urandom(4).hex()}"
        path.rename(trash)
        shutil.rmtree(trash, ignore_errors=True)


def link_latest(layout: RunLayout, target: Path) -> None:
    """Let `checkpoints/latest` lead to a checkpoint."""
    temporary = layout.checkpoints / ".latest"
    with contextlib.suppress(OSError):  # a file system without links; readers take the highest step
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target.name)
        temporary.replace(layout.latest)


class _Room:
    """The space on the disk of a run, and when it makes sense to try again after it did not suffice.

    A quota shows nowhere: when the disk seems to have room, a save is tried now and then, ever more rarely.
    """

    def __init__(self, layout: RunLayout) -> None:
        self._root = layout.root
        self._seconds = _RETRY_SECONDS
        self._free_at_try = 0
        self._next_try = float("-inf")

    def free(self) -> int:
        """Bytes that this user may still write."""
        return shutil.disk_usage(self._root).free

    def tried(self) -> None:
        """Take note that a save begins."""
        self._free_at_try = self.free()
        self._next_try = time.monotonic() + self._seconds

    def is_likely(self, needed: int) -> bool:
        """Whether a save may succeed that did not at the last try."""
        free = self.free()
        if free < needed:
            return False
        if self._free_at_try < needed or free >= self._free_at_try + needed // 4:
            self._seconds = _RETRY_SECONDS
            return True
        if time.monotonic() < self._next_try:
            return False
        self._seconds = min(2 * self._seconds, _MAX_RETRY_SECONDS)
        return True


def newest_whole(layout: RunLayout) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that its manifest proves whole, and a line for each newer one that is not."""
    skipped: list[str] = []
    for checkpoint in reversed(list_checkpoints(layout)):
        problems = verify_checkpoint(checkpoint.path)
        if not problems:
            return checkpoint.path, skipped
        skipped.append(f"checkpoint {checkpoint.step} is skipped: {'; '.join(problems[:3])}")
    return None, skipped


def _alert(step: int, error: BaseException | None, *, lacks_space: bool) -> Alert:
    if lacks_space:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "no space left"
        return Alert(
            step=step,
            kind="disk",
            message=f"checkpoint {step} was not saved, the disk is full: {why}",
            remedy="Free space, or keep fewer checkpoints with training.save_total_limit.",
        )
    why = f"{type(error).__name__}: {error}" if error else "another rank could not write its part"
    return Alert(
        step=step,
        kind="checkpoint",
        message=f"checkpoint {step} was not saved: {why}",
        remedy="The training goes on and saves again at the next occasion; train.log may say more.",
    )
