"""Going on from a checkpoint: in the same run, or in a new one that begins where the checkpoint is.

A new run gets the checkpoint as its first one, by links that cost no space, so that it does not depend on the run it
came from. In the same run the order to go back is written first (`runs.resume_order`) and carried out by the trainer.
Called by the command line and, in a thread, by the screens.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tui_trainer.config.launch import num_processes
from tui_trainer.config.load import load_config
from tui_trainer.config.resolve import Resolved
from tui_trainer.config.resuming import differences
from tui_trainer.config.toml import dump_toml
from tui_trainer.errors import MachineError, RefusedError, UsageError
from tui_trainer.procs.facts import library_versions
from tui_trainer.procs.hardware import detect_gpus
from tui_trainer.procs.resume_plan import CheckpointFacts, ResumePlan, plan_resume, refusal_of
from tui_trainer.procs.start import create_run, start_existing, write_launch
from tui_trainer.redact import redact_arguments
from tui_trainer.runs.checkpoint_state import NAME, CheckpointState
from tui_trainer.runs.files import read_json, sync, write_bytes, write_json
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.resume_order import ResumeOrder
from tui_trainer.runs.status import State, read_status
from tui_trainer.runs.store import (
    CheckpointInfo,
    checkpoint_problem,
    find_checkpoint,
    find_run,
    left_checkpoints,
    newest_checkpoint,
    split_checkpoint,
)


@dataclass(frozen=True)
class ResumeTarget:
    """A checkpoint to go on from.

    Attributes:
        layout: its run.
        checkpoint: where it lies.
        state: what it holds of the run.
        facts: what else is known of it.
        is_named: whether the user named its step; if not, it is the newest one.
    """

    layout: RunLayout
    checkpoint: CheckpointInfo
    state: CheckpointState
    facts: CheckpointFacts
    is_named: bool

    @property
    def config(self) -> str:
        """The configuration of its run."""
        return str(self.layout.config)


def find_target(reference: str, root: Path | None = None) -> ResumeTarget:
    """The checkpoint that RUN, RUN@STEP, RUN@best or RUN@latest means.

    Raises:
        UsageError: there is no such run or checkpoint.
        RefusedError: the checkpoint cannot be gone on from.
    """
    run, which = split_checkpoint(reference)
    layout = find_run(run, root)
    is_named = run != reference and which != "latest"
    checkpoint, skipped = newest_checkpoint(layout) if not is_named else (_named(layout, which), [])
    if problem := checkpoint_problem(checkpoint.path):
        raise RefusedError(f"checkpoint {checkpoint.step} is damaged: {problem}", where=layout.id)
    state = CheckpointState.read(checkpoint.path)
    if state is None:
        raise RefusedError(
            f"checkpoint {checkpoint.step} has no {NAME}, without which nobody knows how far it was",
            where=layout.id,
            remedy="Start a new run with model.name_or_path set to the checkpoint; its optimiser starts afresh.",
        )
    versions, status = (read_json(layout.run) or {}).get("versions"), read_status(layout)
    facts = CheckpointFacts(
        run=layout.id,
        has_optimiser=(checkpoint.path / "scheduler.pt").is_file(),
        random_ranks=len(list(checkpoint.path.glob("rng_state*.pth"))),
        last_step=max(status.step, checkpoint.step),
        is_finished=status.state is State.FINISHED,
        versions=versions if isinstance(versions, dict) else None,
        skipped=tuple(skipped),
        is_left=checkpoint.path.parent != layout.checkpoints,
    )
    return ResumeTarget(layout, checkpoint, state, facts, is_named)


def _named(layout: RunLayout, which: str) -> CheckpointInfo:
    """A checkpoint by its step or as the best; where the run has none of that step, one of a branch that it left."""
    left = [found for found in left_checkpoints(layout) if str(found.step) == which]
    return left[0] if left else find_checkpoint(layout, which)


def config_for(target: ResumeTarget, assignments: Sequence[str] = ()) -> Resolved:
    """The configuration of the run itself, with other values typed.

    Raises:
        ConfigurationError: with every problem.
    """
    return load_config(target.config, assignments)


def plan_for(target: ResumeTarget, resolved: Resolved, *, is_new_run: bool) -> ResumePlan:
    """What going on with a configuration means on this machine."""
    return plan_resume(
        target.state,
        resolved.config,
        target.facts,
        world_size=num_processes(resolved.config, len(detect_gpus())),
        versions=library_versions(),
        is_new_run=is_new_run,
    )


def check_plan(plan: ResumePlan, *, is_forced: bool) -> None:
    """Refuse what cannot be meant.

    Raises:
        RefusedError: it is another training and not forced, nothing is left to do, or only another run could do it.
    """
    if plan.is_left and not plan.is_new_run:
        raise RefusedError(
            f"checkpoint {plan.step} belongs to a branch that the run left when it went back",
            where=plan.run,
            remedy=f"`tui-trainer train CONFIG --resume {plan.run}@{plan.step}` goes on with it, as a run of its own.",
        )
    if plan.is_finished:
        raise RefusedError(
            f"the run has done all its {plan.max_steps} steps",
            where=plan.run,
            remedy="Give it more: --set training.max_steps=N or --set training.num_train_epochs=N.",
        )
    if not is_forced and (why := refusal_of(plan)):
        raise RefusedError(why, where=f"{plan.run}@{plan.step}", remedy="Set it back, or give --force if it is meant.")


def resume_as_new_run(
    target: ResumeTarget,
    resolved: Resolved,
    *,
    argv: Sequence[str],
    is_forced: bool = False,
    root: Path | None = None,
    queued: bool = False,
) -> RunLayout:
    """Create a run that begins with a checkpoint of another, and start it, or let it wait in the queue.

    Raises:
        MachineError: the directory cannot be written, or the processes cannot be started.
    """
    layout = create_run(resolved, argv=argv, parent=target.layout.id, root=root)
    try:
        _take_over(target.checkpoint, layout)
        ResumeOrder(target.state.step, is_forced, is_done=True, parent=target.layout.id).write(layout)
    except OSError as error:
        shutil.rmtree(layout.root, ignore_errors=True)
        raise MachineError(
            f"the checkpoint cannot be taken over: {error.strerror}", where=str(target.checkpoint.path)
        ) from None
    start_existing(layout, queued=queued)
    return layout


def _take_over(checkpoint: CheckpointInfo, layout: RunLayout) -> None:
    """Give a run a checkpoint: by links where the file system has them, else by a copy; published by a rename."""
    staged = layout.staging / checkpoint.path.name
    shutil.rmtree(layout.staging, ignore_errors=True)
    layout.staging.mkdir(mode=0o700)
    try:
        shutil.copytree(checkpoint.path, staged, copy_function=os.link)
    except OSError:
        shutil.rmtree(staged, ignore_errors=True)
        shutil.copytree(checkpoint.path, staged)
    staged.rename(layout.checkpoint(checkpoint.step))
    sync(layout.checkpoints)
    shutil.rmtree(layout.staging, ignore_errors=True)


def resume_run(target: ResumeTarget, resolved: Resolved, *, argv: Sequence[str], is_forced: bool = False) -> RunLayout:
    """Let a run go on in its own directory.

    Raises:
        RefusedError: it is going on.
        MachineError: the directory cannot be written, or the processes cannot be started.
    """
    layout = target.layout
    if read_status(layout).state.is_live:
        raise RefusedError("the run is going on", where=layout.id, remedy="Stop it first: `tui-trainer runs stop`.")
    try:
        if target.is_named or is_forced:
            ResumeOrder(target.state.step, is_forced).write(layout)
        changes = {
            difference.key: [difference.old, difference.new]
            for difference in differences(_config_of(layout), resolved.config.model_dump(mode="json"))
        }
        _note(layout, {"step": target.state.step, "forced": is_forced, "argv": argv, "changes": changes})
        if changes:
            _change_config(layout, resolved)
    except OSError as error:
        raise MachineError(f"the run directory cannot be written: {error.strerror}", where=str(layout.root)) from None
    start_existing(layout)
    return layout


def _config_of(layout: RunLayout) -> Mapping[str, Any]:
    return load_config(str(layout.config)).config.model_dump(mode="json")


def _note(layout: RunLayout, fields: dict[str, Any]) -> None:
    """Put on record in `run.json` that the run was resumed, and with what."""
    info = read_json(layout.run)
    if info is None:
        raise UsageError("is missing or unreadable", where=str(layout.run))
    earlier = info.get("resumed")
    entry = {"t": time.time(), **fields, "argv": redact_arguments(fields["argv"])}
    write_json(layout.run, {**info, "resumed": [*(earlier if isinstance(earlier, list) else ()), entry]})


def _change_config(layout: RunLayout, resolved: Resolved) -> None:
    """Let the run have another configuration from now on; the old one stays beside it."""
    number = 1 + sum(1 for _ in layout.root.glob("config-before-*.toml"))
    write_bytes(layout.root / f"config-before-{number}.toml", layout.config.read_bytes())
    write_bytes(layout.config, dump_toml(resolved.config.model_dump(mode="json")).encode())
    cwd = str((read_json(layout.launch) or {}).get("cwd") or Path.cwd())
    write_launch(layout, resolved.config, cwd=cwd)
