"""Which checkpoints of a run count: those of the branch it is on. The others stay on the disk, out of the way.

A run that goes back to an older checkpoint, or whose newest one is broken, leaves later checkpoints behind. They move
to `checkpoints/superseded/<number>/` by renames; from then on nobody takes them for the newest. Called by
`engine.trainer.restart` on rank 0.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from tui_trainer.engine.trainer.checkpoint import link_latest
from tui_trainer.engine.trainer.command_log import forget_after
from tui_trainer.engine.trainer.manifest import verify_checkpoint
from tui_trainer.errors import RefusedError
from tui_trainer.runs.checkpoint_state import CheckpointState
from tui_trainer.runs.files import number, read_json, sync, write_json
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.store import MANIFEST, list_checkpoints


def go_back(layout: RunLayout, step: int) -> None:
    """Make the checkpoint of one step the newest; carried out again after a kill it comes to the same.

    Raises:
        RefusedError: there is no such checkpoint, or it is damaged.
        OSError: the run directory cannot be written.
    """
    path = layout.checkpoint(step)
    if problems := verify_checkpoint(path):
        raise RefusedError(
            f"checkpoint {step} cannot be gone back to: {'; '.join(problems[:3])}",
            where=layout.id,
            remedy="`tui-trainer runs show --verify` tells which of its checkpoints are whole.",
        )
    state = CheckpointState.read(path)
    forget_after(layout, step, state.commands if state else ())
    set_aside(layout, step)


def set_aside(layout: RunLayout, step: int) -> None:
    """Move the checkpoints after a step out of the way.

    Raises:
        OSError: the run directory cannot be written.
    """
    later = [checkpoint for checkpoint in list_checkpoints(layout) if checkpoint.step > step]
    if not later:
        return
    folder = _new_folder(layout)
    for checkpoint in reversed(later):
        checkpoint.path.rename(folder / checkpoint.path.name)
    sync(folder)
    sync(layout.checkpoints)
    remaining = list_checkpoints(layout)
    with contextlib.suppress(OSError):
        if remaining:
            link_latest(layout, remaining[-1].path)
        else:
            layout.latest.unlink(missing_ok=True)
        _correct_best(layout)


def _new_folder(layout: RunLayout) -> Path:
    layout.superseded.mkdir(mode=0o700, exist_ok=True)
    taken = [int(path.name) for path in layout.superseded.iterdir() if path.name.isdigit()]
    folder = layout.superseded / str(max(taken, default=0) + 1)
    folder.mkdir(mode=0o700)
    return folder


def _correct_best(layout: RunLayout) -> None:
    """Let the best be one of those that are left, by the scores in their manifests."""
    path = layout.best
    best = read_json(path) or {}
    metric = str(best.get("metric") or "")
    if not metric or layout.checkpoint(int(number(best.get("step")) or 0)).is_dir():
        return
    scores = {
        checkpoint.step: score
        for checkpoint in list_checkpoints(layout)
        if (score := number((read_json(checkpoint.path / MANIFEST) or {}).get(metric))) is not None and score == score
    }
    if not scores:
        path.unlink(missing_ok=True)
        return
    choose = max if best.get("greater_is_better") is True else min
    step = choose(scores, key=lambda at: scores[at])
    write_json(path, {**best, "step": step, "value": scores[step]}, durable=True)
