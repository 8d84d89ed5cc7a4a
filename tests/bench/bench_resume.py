"""What a resume far into a run costs: seconds to the first step after 10,000 steps and of a fresh start, in turns.

Run it with `python -m tests.bench.bench_resume` from the root of the repository; about three minutes, most of them the
10,000 real steps of a tiny model that make the checkpoint. Every start is a process of its own on a copy of the run;
the time is that from its start to the event of its first step. Exit code 1 if the ratio of the medians is above the
goal.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.e2e.conftest import config_of
from tui_trainer.config.toml import dump_toml
from tui_trainer.runs.events import RunResumed, StepMetrics, decode
from tui_trainer.runs.journal import Tailer
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.store import create, newest_checkpoint

GOAL = 1.2
PATIENCE = 900.0


def config_text(steps: int, every: int) -> str:
    """The configuration of a run that is saved after `steps` and never ends within this benchmark."""
    fixed = ("training.save_strategy=steps", "training.lr_scheduler_type=constant", "training.max_steps=1000000")
    moving = (f"training.save_steps={steps}", f"training.logging_steps={every}")
    return dump_toml(config_of(*fixed, *moving).config.model_dump())


def start(layout: RunLayout) -> subprocess.Popen[bytes]:
    """The one rank of a run, with this tree's package."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "tui_trainer.engine.train", str(layout.root)]
    with layout.train_log.open("ab") as log:
        return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def end(process: subprocess.Popen[bytes]) -> None:
    """End it at once."""
    process.kill()
    process.wait()


def check(layout: RunLayout, process: subprocess.Popen[bytes], deadline: float) -> None:
    """See that a run that is waited for goes on.

    Raises:
        RuntimeError: it has ended or takes too long; with the end of its log.
    """
    if process.poll() is not None or time.monotonic() > deadline:
        raise RuntimeError(layout.train_log.read_text("utf-8", "replace")[-3000:])


def make_checkpoint(folder: Path, steps: int) -> RunLayout:
    """A run that made that many steps, killed once its checkpoint was there."""
    layout = create("long", config_text(steps, 500), {}, root=folder)
    process, deadline = start(layout), time.monotonic() + PATIENCE
    try:
        while not layout.checkpoint(steps).is_dir():
            check(layout, process, deadline)
            time.sleep(0.05)
    finally:
        end(process)
    assert newest_checkpoint(layout)[0].step == steps
    return layout


def seconds_to_first_step(layout: RunLayout, first: int) -> float:
    """How long a new start of a run takes to its first step, which has to be step `first`."""
    tailer = Tailer(layout.events)
    while tailer.read():
        pass
    begun = time.monotonic()
    process = start(layout)
    is_resumed = False
    try:
        while True:
            for event in map(decode, tailer.read()):
                is_resumed |= isinstance(event, RunResumed)
                if isinstance(event, StepMetrics):
                    assert (event.step, is_resumed) == (first, first > 1)
                    return time.monotonic() - begun
            check(layout, process, begun + PATIENCE)
            time.sleep(0.002)
    finally:
        end(process)


def main() -> int:
    """Measure; returns 1 if a resume takes too long."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=10_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        long = make_checkpoint(folder, arguments.steps)
        long.config.write_text(config_text(arguments.steps, 1))
        fresh_times, resumed_times = [], []
        for number in range(arguments.rounds + 1):
            fresh = create("fresh", config_text(arguments.steps, 1), {}, root=folder)
            resumed = RunLayout(folder / f"resumed-{number}")
            shutil.copytree(long.root, resumed.root, symlinks=True)
            times = (seconds_to_first_step(fresh, 1), seconds_to_first_step(resumed, arguments.steps + 1))
            if number:  # the first round warms the caches
                fresh_times.append(times[0])
                resumed_times.append(times[1])
            shutil.rmtree(fresh.root)
            shutil.rmtree(resumed.root)
    ratio = statistics.median(resumed_times) / statistics.median(fresh_times)
    for what, found in (("a fresh start", fresh_times), (f"a resume at step {arguments.steps}", resumed_times)):
        print(
            f"{what}: median {statistics.median(found):.2f} s to the first step, {min(found):.2f} to {max(found):.2f}"
        )
    print(f"ratio {ratio:.2f} (goal {GOAL}), n = {arguments.rounds} in turns, load {os.getloadavg()[0]:.1f}")
    return 0 if ratio <= GOAL else 1


if __name__ == "__main__":
    raise SystemExit(main())
