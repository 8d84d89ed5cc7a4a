"""A launcher with two ranks that behave as a trainer does towards the run directory; torch has no part in it.

`python fake_trainer.py` starts the ranks, each in a session of its own as torchrun does, and forwards SIGTERM to them;
under another launcher, which sets RANK, or with a number it is that rank. What they do is set by environment variables,
see `Behaviour`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tui_trainer.procs.preempt import PREEMPTION
from tui_trainer.procs.proctree import MARK
from tui_trainer.runs import control
from tui_trainer.runs.events import CheckpointSaved, ControlApplied, RunFinished, RunStarted, RunStopped, StepMetrics
from tui_trainer.runs.files import read_json, write_json
from tui_trainer.runs.identity import ProcessIdentity
from tui_trainer.runs.journal import JournalWriter
from tui_trainer.runs.layout import RunLayout

LAST_WORDS = {
    "gpu": {"kind": "OutOfMemoryError", "message": "CUDA out of memory. Tried to allocate 2 GiB"},
    "nan": {"kind": "NotANumberError", "message": "the loss is no longer a number", "reason": "nan"},
    "data": {"kind": "DataError", "message": "rows.jsonl:3: is not valid JSON", "reason": "data"},
}
"""What a real trainer leaves in its rank's file."""


@dataclass(frozen=True)
class Behaviour:
    """What the ranks do."""

    num_ranks: int = int(os.environ.get("FAKE_RANKS", "2"))
    num_steps: int = int(os.environ.get("FAKE_STEPS", "100000"))
    ignores_term: bool = "FAKE_IGNORE_TERM" in os.environ
    ignores_control: bool = "FAKE_IGNORE_CONTROL" in os.environ
    has_loader: bool = "FAKE_LOADER" in os.environ
    crash: str = os.environ.get("FAKE_CRASH", "")
    lingers: bool = "FAKE_LINGER" in os.environ


def launch(behaviour: Behaviour) -> int:
    """Start the ranks and wait for them; the exit code is 1 whatever went wrong, as accelerate's is."""
    (RunLayout(Path(os.environ[MARK])).root / "end").unlink(missing_ok=True)
    ranks = [
        subprocess.Popen([sys.executable, __file__, str(rank)], start_new_session=True)
        for rank in range(behaviour.num_ranks)
    ]

    def forward(number: int, _: object) -> None:
        for rank in ranks:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(rank.pid, number)
        sys.exit(1)

    signal.signal(signal.SIGTERM, forward)
    codes = [rank.wait() for rank in ranks]
    for rank, code in zip(ranks, codes, strict=True):
        if code:
            print(f"  exitcode  : {code} (pid: {rank.pid})", flush=True)
    return 1 if any(codes) else 0


def work(rank: int, behaviour: Behaviour, layout: RunLayout) -> int:
    """Make steps until told to stop."""
    if behaviour.ignores_term:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if behaviour.has_loader:
        subprocess.Popen(["sleep", "600"], start_new_session=True)
    write_json(layout.rank(rank), ProcessIdentity.current().to_dict())
    beat = layout.root / f"beat.{rank}"
    journal = JournalWriter(layout.events) if rank == 0 else None
    if journal:
        journal.write(
            RunStarted(
                max_steps=behaviour.num_steps,
                num_epochs=1.0,
                num_rows=8,
                num_trainable_parameters=1,
                num_parameters=1,
                world_size=behaviour.num_ranks,
                device="cpu",
            )
        )
    for step in range(1, behaviour.num_steps + 1):
        beat.write_text(str(step))
        if journal:
            journal.write(StepMetrics(step=step, loss=1.0 / step, epoch=0.5, step_seconds=0.05))
            if not behaviour.ignores_control and obey(layout, journal, step):
                return 0
        if behaviour.crash and step == 3:
            crash(behaviour.crash, rank, layout)
        if (layout.root / "end").exists():
            return 0
        time.sleep(0.05)
    if journal:
        journal.write(RunFinished(step=behaviour.num_steps, loss=0.1))
    if behaviour.lingers:
        subprocess.Popen(["sleep", "600"], start_new_session=True)
    return 0


def obey(layout: RunLayout, journal: JournalWriter, step: int) -> bool:
    """Carry out the commands in the mailbox; returns whether to stop."""
    for command in control.pending(layout):
        control.remove(layout, command)
        journal.write(ControlApplied(step=step, command=command.name, id=command.id, by=command.by))
        if command.name == "stop":
            journal.write(CheckpointSaved(step=step, path=str(layout.checkpoint(step)), bytes=1, seconds=0.01))
            reason = "asked to stop by preemption" if command.by == PREEMPTION else "requested"
            journal.write(RunStopped(step=step, reason=reason))
            (layout.root / "end").touch()
            return True
    return False


def crash(how: str, rank: int, layout: RunLayout) -> None:
    """End badly."""
    if how in LAST_WORDS:
        me = read_json(layout.rank(rank)) or {}
        write_json(layout.rank(rank), me | {"exception": LAST_WORDS[how]})
        sys.exit(1)
    if how == "disk":
        raise OSError(28, "No space left on device")
    if how == "exit":
        (layout.root / "end").touch()
        sys.exit(0)
    os.kill(os.getpid(), getattr(signal, how))
    time.sleep(60)


if __name__ == "__main__":
    number = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("RANK")
    if number is None:
        sys.exit(launch(Behaviour()))
    sys.exit(work(int(number), Behaviour(), RunLayout(Path(os.environ[MARK]))))
