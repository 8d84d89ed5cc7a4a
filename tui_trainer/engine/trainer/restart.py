"""Where a run that was started before goes on: the checkpoint, whole and of this very training, the same on all ranks.

Called by `engine.trainer.run` once data and configuration are known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from tui_trainer.config.resuming import OTHER_MODEL, OTHER_ROWS, Difference, Effect, differences
from tui_trainer.engine.trainer.branches import go_back, set_aside
from tui_trainer.engine.trainer.checkpoint import newest_whole
from tui_trainer.engine.trainer.group import Group
from tui_trainer.engine.trainer.journal import EventLog
from tui_trainer.engine.trainer.resuming import Resumption, has_optimiser, is_of_deepspeed, is_of_fsdp
from tui_trainer.errors import MachineError, RefusedError, WorkbenchError, error_from_dict
from tui_trainer.runs.checkpoint_state import NAME, CheckpointState
from tui_trainer.runs.events import Alert
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.resume_order import ResumeOrder

T = TypeVar("T")


def resume_point(layout: RunLayout, group: Group, events: EventLog, today: CheckpointState) -> Resumption | None:
    """What a run goes on from; None if it begins. Called by all ranks.

    Args:
        layout: the run.
        group: its ranks.
        events: where a checkpoint that is skipped is told of.
        today: configuration, data and tokenizer of this start.

    Raises:
        RefusedError: the checkpoint was not made by this training, and nobody said that it is meant.
        MachineError: the run directory cannot be written.
    """
    chosen = _agreed(group, lambda: _choose(layout, events))
    if chosen is None:
        return None
    path, is_forced, is_finished = chosen
    if not group.all_true(path.is_dir()):
        raise RefusedError(
            "its checkpoint is not to be seen on every machine",
            where=str(path),
            remedy="Keep the runs on a disk that all machines share, or copy the checkpoint to this path on each.",
        )
    state = CheckpointState.read(path)
    if state is None:
        raise RefusedError(
            f"its checkpoint has no {NAME}, without which nobody knows how far it was",
            where=str(path),
            remedy="Start a new run with model.name_or_path set to the checkpoint; its optimiser starts afresh.",
        )
    found = [*differences(state.config, today.config), *other_data(state, today)]
    refused = [difference for difference in found if difference.effect is Effect.REFUSED]
    if refused and not is_forced:
        raise _refusal(layout, refused)
    if not has_optimiser(path) and not is_forced:
        raise RefusedError(
            "its checkpoint holds the weights only, not the optimiser",
            where=str(path),
            remedy="Resume with --force to start the optimiser afresh.",
        )
    _check_files(path, today.config["training"])
    has_other_rows = any(difference.note == OTHER_ROWS for difference in refused)
    return Resumption(path, state, frozenset(difference.key for difference in found), has_other_rows, is_finished)


def other_data(before: CheckpointState, today: CheckpointState) -> list[Difference]:
    """How the rows and the tokenizer differ, whatever the configuration says of them."""
    found = []
    if before.tokenizer and today.tokenizer and before.tokenizer != today.tokenizer:
        found.append(Difference("tokenizer", before.tokenizer, today.tokenizer, Effect.REFUSED, OTHER_MODEL))
    if before.fingerprint != today.fingerprint:
        found.append(Difference("data", before.fingerprint, today.fingerprint, Effect.REFUSED, OTHER_ROWS))
    return found


def _choose(layout: RunLayout, events: EventLog) -> tuple[Path, bool, bool] | None:
    """The newest whole checkpoint, whether it is forced, and whether the run had come to its end; rank 0's part."""
    order = ResumeOrder.read(layout)
    try:
        if order is not None and not order.is_done:
            go_back(layout, order.step)
            ResumeOrder(order.step, order.is_forced, is_done=True, parent=order.parent).write(layout)
        path, skipped = newest_whole(layout)
        state = CheckpointState.read(path) if path else None
        if skipped:
            set_aside(layout, state.step if state else -1)
    except OSError as error:
        raise MachineError(f"the run directory cannot be written: {error.strerror}", where=str(layout.root)) from None
    before = "The run goes on from the one before." if path else "The run begins anew."
    for line in skipped:
        events.write(Alert(kind="checkpoint", message=line, remedy=before))
    if path is None:
        return None
    is_forced = order is not None and order.is_forced and layout.checkpoint(order.step) == path
    return path, is_forced, events.was_finished


def _check_files(path: Path, training: Mapping[str, Any]) -> None:
    """See that FSDP or DeepSpeed finds its own files in a checkpoint, and plain training none of them.

    Raises:
        RefusedError: it could not be read.
    """
    for name, is_used, is_there in (
        ("FSDP", bool(training["fsdp"]), is_of_fsdp(path)),
        ("DeepSpeed", bool(training["deepspeed"]), is_of_deepspeed(path)),
    ):
        if is_used != is_there:
            found = f"was written {'with' if is_there else 'without'} {name}, and can be read in no other way"
            raise RefusedError(
                f"its checkpoint {found}",
                where=str(path),
                remedy=f"Set training.{name.lower()} back, or start a new run with model.name_or_path set to the "
                "checkpoint; its optimiser starts afresh.",
            )


def _refusal(layout: RunLayout, refused: list[Difference]) -> RefusedError:
    names = ", ".join(f"{difference.key} ({difference.note})" for difference in refused)
    return RefusedError(
        f"the checkpoint belongs to another training: {names}",
        where=layout.id,
        remedy="Set these back, or resume with --force.",
    )


def _agreed(group: Group, decide: Callable[[], T]) -> T:
    """What rank 0 decides, on all ranks; so is an error of it, for which the others must not wait."""
    outcome: tuple[T | None, dict[str, object] | None] = (None, None)
    if group.is_first:
        try:
            outcome = decide(), None
        except WorkbenchError as error:
            outcome = None, error.to_dict()
    decided: T
    decided, error_fields = group.from_first(outcome)
    if error_fields is not None:
        raise error_from_dict(error_fields)
    return decided
