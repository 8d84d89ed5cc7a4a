"""Starting runs: makes the run directory, starts the supervisor, returns once that holds the run.

Called by the command line and, in a thread, by the screens: it blocks for a fraction of a second and shares nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from tui_trainer.config.launch import launch_command
from tui_trainer.config.resolve import Resolved
from tui_trainer.config.schema import RunConfig
from tui_trainer.config.toml import dump_toml
from tui_trainer.errors import MachineError, WorkbenchError
from tui_trainer.procs.facts import run_facts
from tui_trainer.procs.hardware import detect_gpus, usable_cpus
from tui_trainer.procs.orders import LaunchOrder
from tui_trainer.procs.spawn import start_existing
from tui_trainer.runs.data_consent import DataConsent
from tui_trainer.runs.files import write_bytes
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.store import create

__all__ = ["create_run", "start_existing", "start_run"]


def start_run(
    resolved: Resolved,
    *,
    argv: Sequence[str],
    parent: str | None = None,
    root: Path | None = None,
    queued: bool = False,
    consent: DataConsent | None = None,
) -> RunLayout:
    """Create a run and start it.

    Args:
        resolved: the configuration.
        argv: the command line it was asked for with, for the record; secrets in it are masked.
        parent: id of the run it goes on from or was cloned from.
        root: the run store, if not the usual one.
        queued: let it wait in the queue of this machine until what it needs is free.
        consent: what somebody agreed to train on, None for nothing.

    Raises:
        MachineError: the directory cannot be written, or the processes cannot be started.
    """
    layout = create_run(resolved, argv=argv, parent=parent, root=root, consent=consent)
    try:
        start_existing(layout, queued=queued)
    except WorkbenchError:
        if not layout.supervisor_log.exists():
            # it never came to life: nothing in it is worth keeping
            shutil.rmtree(layout.root, ignore_errors=True)
        raise
    return layout


def create_run(
    resolved: Resolved,
    *,
    argv: Sequence[str],
    parent: str | None = None,
    root: Path | None = None,
    consent: DataConsent | None = None,
) -> RunLayout:
    """Create a run with all that its supervisor needs, without starting it; arguments and errors as `start_run`."""
    config = resolved.config
    gpus = detect_gpus()
    layout = create(config.name, dump_toml(config.model_dump(mode="json")), run_facts(argv, parent, gpus), root=root)
    try:
        write_launch(layout, config, cwd=str(Path.cwd()))
        if consent is not None:
            consent.write(layout)
    except OSError as error:
        shutil.rmtree(layout.root, ignore_errors=True)
        raise MachineError(f"the run directory cannot be written: {error.strerror}", where=str(layout.root)) from None
    return layout


def write_launch(layout: RunLayout, config: RunConfig, *, cwd: str) -> None:
    """Put what its supervisor starts, and the files that needs, into a run directory.

    Args:
        layout: the run.
        config: its configuration.
        cwd: where it runs, so that relative paths mean what they meant to the user.

    Raises:
        OSError: the directory cannot be written.
    """
    command = launch_command(config, layout.root, num_gpus=len(detect_gpus()), num_cpus=usable_cpus())
    for name, text in command.files.items():
        write_bytes(layout.root / name, text.encode())
    LaunchOrder(
        command.argv,
        command.env,
        cwd=cwd,
        grace_seconds=config.launch.grace_seconds,
        max_restarts=config.launch.max_restarts,
        restart_delay=config.launch.restart_delay,
        num_gpus=command.num_gpus,
        num_cpus=command.num_cpus,
        gpu_ids=tuple(config.launch.gpu_ids or ()) if command.num_gpus else (),
        requeues=config.launch.backend == "slurm",
    ).write(layout)
