"""The run store: creating, listing and finding runs."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tui_trainer.errors import MachineError, RefusedError, UsageError
from tui_trainer.paths import make_private, runs_dir
from tui_trainer.runs.files import read_json, whole_number, write_bytes, write_json
from tui_trainer.runs.layout import RunLayout, checkpoint_step
from tui_trainer.runs.status import RunStatus, State, read_status, write_status

VERSION = 1
MANIFEST = "manifest.json"
"""The file of a checkpoint that names its other files with their sizes and digests."""


@dataclass(frozen=True)
class CheckpointInfo:
    """A published checkpoint."""

    step: int
    path: Path
    bytes: int


@dataclass(frozen=True)
class RunRecord:
    """A run in the store: where it lies, what it is called, how it stands."""

    layout: RunLayout
    name: str
    created: float
    info: Mapping[str, Any]
    status: RunStatus

    @property
    def id(self) -> str:
        """The run's id."""
        return self.layout.id


def create(name: str, config_toml: str, info: Mapping[str, Any], *, root: Path | None = None) -> RunLayout:
    """Make a new run directory, readable by its owner only, with its configuration and `run.json`.

    Args:
        name: name from the configuration; the id starts with it.
        config_toml: the whole resolved configuration.
        info: what else `run.json` is to hold: versions, git commit, GPUs, argv, parent.
        root: the run store, if not the usual one.

    Raises:
        MachineError: the directory cannot be made or written.
    """
    store = root or runs_dir()
    identifier = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    layout = RunLayout(store / identifier)
    try:
        make_private(store)
        layout.root.mkdir(mode=0o700)
        for directory in (layout.control, layout.ranks, layout.checkpoints):
            directory.mkdir(mode=0o700)
        write_bytes(layout.config, config_toml.encode())
        write_json(layout.run, {"version": VERSION, "id": identifier, "name": name, "created": time.time(), **info})
        write_status(layout, RunStatus(identifier, State.QUEUED, heartbeat=time.time()))
    except OSError as error:
        raise MachineError(
            f"the run directory cannot be written: {error.strerror}",
            where=str(layout.root),
            remedy="Free space or choose another place with --runs DIR.",
        ) from None
    return layout


def is_run(path: Path) -> bool:
    """Whether a directory is a run."""
    try:
        return (path / "run.json").is_file()
    except OSError:
        return False


def read_run(layout: RunLayout) -> RunRecord:
    """The record of one run; what cannot be read is left empty."""
    info = read_json(layout.run) or {}
    created = info.get("created")
    return RunRecord(
        layout,
        str(info.get("name") or layout.id),
        float(created) if isinstance(created, (int, float)) else 0.0,
        info,
        read_status(layout),
    )


def list_runs(root: Path | None = None) -> list[RunRecord]:
    """All runs of the store, newest first."""
    store = root or runs_dir()
    try:
        directories = [Path(entry.path) for entry in os.scandir(store) if entry.is_dir()]
    except OSError:
        return []
    return sorted((read_run(RunLayout(path)) for path in directories if is_run(path)), key=lambda run: -run.created)


def hidden_runs(root: Path | None = None) -> list[str]:
    """What lies in the store and cannot be looked into, a sentence each; the runs of other users, most likely."""
    store = root or runs_dir()
    try:
        entries = [entry for entry in os.scandir(store) if entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        return [f"the run store {store} cannot be read: {error.strerror}; it belongs to {_owner(store)}"]
    return [
        f"{entry.name} cannot be read; it belongs to {_owner(Path(entry.path))}"
        for entry in entries
        if not os.access(entry.path, os.R_OK | os.X_OK)
    ]


def _owner(path: Path) -> str:
    try:
        return path.owner()
    except (OSError, KeyError):
        return "another user"


def find_run(reference: str, root: Path | None = None) -> RunLayout:
    """The run that a user means: a path, an id, a unique prefix of one, or a name (the newest run of that name).

    Raises:
        UsageError: there is no such run, or several begin so.
        RefusedError: it is another user's and cannot be read.
    """
    with contextlib.suppress(RuntimeError):  # "~nobody" is no home folder
        path = Path(reference).expanduser()
        if reference and is_run(path):
            return RunLayout(path.absolute())
    runs = list_runs(root)
    exact = [run for run in runs if run.id == reference] or [run for run in runs if run.name == reference][:1]
    matches = exact or [run for run in runs if reference and run.id.startswith(reference)]
    if len(matches) == 1:
        return matches[0].layout
    store = str(root or runs_dir())
    hidden = next((words for words in hidden_runs(root) if words.startswith(f"{Path(reference).name} ")), None)
    if not matches and hidden is not None:
        raise RefusedError(hidden, where=store, remedy="Ask for read access to it.")
    if not matches:
        raise UsageError(f"there is no run {reference!r}", where=store, remedy="`tui-trainer runs list` shows all.")
    names = ", ".join(run.id for run in matches[:5])
    raise UsageError(
        f"{len(matches)} runs begin with {reference!r}: {names}", where=store, remedy="Give more of the id."
    )


def split_checkpoint(reference: str) -> tuple[str, str]:
    """RUN@STEP into run and checkpoint ("120", "best", "latest"); without one, "latest"."""
    match = re.fullmatch(r"(.+)@(\d+|best|latest)", reference)
    return (match[1], match[2]) if match else (reference, "latest")


def list_checkpoints(layout: RunLayout) -> list[CheckpointInfo]:
    """The published checkpoints of a run, oldest first."""
    try:
        paths = [Path(entry.path) for entry in os.scandir(layout.checkpoints) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    steps = {path: step for path in paths if (step := checkpoint_step(path)) is not None}
    return [CheckpointInfo(steps[path], path, _size(path)) for path in sorted(steps, key=lambda path: steps[path])]


def _size(directory: Path) -> int:
    total = 0
    for file in directory.rglob("*"):
        with contextlib.suppress(OSError):  # an old checkpoint may be removed while it is looked at
            total += file.lstat().st_size if not file.is_dir() else 0
    return total


def best_step(layout: RunLayout) -> int | None:
    """The step of the checkpoint that its evaluation found best; None if nobody knows."""
    step = (read_json(layout.best) or {}).get("step")
    return step if isinstance(step, int) else None


def find_checkpoint(layout: RunLayout, which: str = "latest") -> CheckpointInfo:
    """A checkpoint of a run: "latest", "best" or a step.

    Raises:
        UsageError: the run has no such checkpoint, or it is damaged; the message lists those it has.
    """
    if which == "latest":
        return newest_checkpoint(layout)[0]
    checkpoints = list_checkpoints(layout)
    step = best_step(layout) if which == "best" else int(which)
    found = next((checkpoint for checkpoint in checkpoints if checkpoint.step == step), None)
    steps = ", ".join(str(checkpoint.step) for checkpoint in checkpoints)
    if found is None:
        raise _no_checkpoint(layout, which, steps)
    if (found.path / MANIFEST).exists() and (problem := checkpoint_problem(found.path)):
        raise UsageError(f"checkpoint {step} is damaged: {problem}", where=layout.id, remedy=f"The run has {steps}.")
    return found


def _no_checkpoint(layout: RunLayout, which: str, steps: str) -> UsageError:
    """Why a checkpoint is not among those of a run, and what there is in its place."""
    if not steps:
        return UsageError("the run has no checkpoint yet", where=layout.id)
    if which == "best":
        return UsageError(
            "nobody knows which checkpoint is best: none was saved at the step of an evaluation",
            where=layout.id,
            remedy=f"Name one of {steps} as {layout.id}@STEP; next time let save_steps be a multiple of eval_steps.",
        )
    left = next((found for found in left_checkpoints(layout) if found.step == int(which)), None)
    if left is not None:
        return UsageError(
            f"checkpoint {which} belongs to a branch that the run left when it went back; the run has {steps}",
            where=layout.id,
            remedy=f"It is kept in {left.path}: chat takes that path, "
            f"and `tui-trainer train CONFIG --resume {layout.id}@{which}` goes on with it as a run of its own.",
        )
    return UsageError(f"the run has no checkpoint {which!r}; it has {steps}", where=layout.id)


def left_checkpoints(layout: RunLayout) -> list[CheckpointInfo]:
    """The checkpoints on branches that a run left, of steps for which it has none now, by their steps.

    Of those with the same step it is the one that was left last.
    """
    found = {}
    for folder in sorted((path for path in layout.superseded.glob("*") if path.name.isdigit()), key=_branch_number):
        found.update({step: path for path in folder.iterdir() if (step := checkpoint_step(path)) is not None})
    return [
        CheckpointInfo(step, path, _size(path))
        for step, path in sorted(found.items())
        if not layout.checkpoint(step).is_dir()
    ]


def _branch_number(folder: Path) -> int:
    return int(folder.name)


def newest_checkpoint(layout: RunLayout) -> tuple[CheckpointInfo, list[str]]:
    """The newest checkpoint whose files are all there, and a line for each newer one that is passed over.

    Where none has a manifest that says so, as in a run that another program wrote, the newest is taken as it is.

    Raises:
        UsageError: the run has no checkpoint.
    """
    checkpoints = list_checkpoints(layout)
    if not checkpoints:
        raise UsageError(
            "the run has no checkpoint yet", where=layout.id, remedy="Wait for the first one, or save now."
        )
    skipped: list[str] = []
    for checkpoint in reversed(checkpoints):
        problem = checkpoint_problem(checkpoint.path)
        if not problem:
            return checkpoint, skipped
        skipped.append(f"checkpoint {checkpoint.step} is passed over: {problem}")
    return checkpoints[-1], []


def checkpoint_problem(path: Path) -> str:
    """What is wrong with the files of a checkpoint by their sizes, without reading them; empty if nothing is."""
    files = (read_json(path / MANIFEST) or {}).get("files")
    if not isinstance(files, dict):
        return "its manifest is missing or unreadable"
    for name, entry in files.items():
        expected = whole_number(entry.get("bytes")) if isinstance(entry, dict) else None
        try:
            size = (path / name).stat().st_size
        except OSError as error:
            return f"{name} cannot be read: {error.strerror}"
        if size != expected:
            return f"{name} has {size} bytes instead of {expected}"
    return ""


def run_size(layout: RunLayout) -> int:
    """Bytes of all files of a run."""
    return _size(layout.root)


def rename_run(layout: RunLayout, name: str) -> None:
    """Give a run another name; its id and directory stay.

    Raises:
        UsageError: the name will not do.
        MachineError: it cannot be written.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise UsageError(
            f"{name!r} cannot be a name", remedy="Use up to 64 letters, digits, dots, dashes and underscores."
        )
    try:
        write_json(layout.run, {**(read_json(layout.run) or {}), "name": name})
    except OSError as error:
        raise MachineError(f"cannot be written: {error.strerror}", where=str(layout.run)) from None
