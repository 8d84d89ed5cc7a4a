"""What it costs to go on after many steps: a start from nothing against a resume, to the end of the first step.

`python tests/bench/bench_resume.py [--steps 10000] [--rounds 7]`; the goal is 1.2 times. The resumed run has as many
rows of metrics as it made steps, and a checkpoint in the middle of an epoch. Both are forked from a process that has
loaded the libraries and are measured in turns, by processor time and by the clock.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from tests.bench.kills import configuration, load_everything
from tui_trainer.config.toml import dump_toml
from tui_trainer.engine.trainer.manifest import write_manifest
from tui_trainer.procs.start import create_run
from tui_trainer.runs.events import RunStarted, StepMetrics
from tui_trainer.runs.files import read_json, write_bytes, write_json
from tui_trainer.runs.journal import JournalWriter
from tui_trainer.runs.layout import RunLayout

GOAL = 1.2
OPTIONS = ("data.max_samples=none", "per_device_train_batch_size=1", "gradient_accumulation_steps=1", "save_steps=2")


def train(layout: RunLayout) -> tuple[float, float]:
    """Train a run in a process of its own; returns its processor time and the time on the clock, in seconds."""
    started = time.monotonic()
    pid = os.fork()
    if not pid:
        log = os.open(layout.train_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        from tui_trainer.engine.train import main as engine

        os._exit(engine([str(layout.root)]))
    _, status, usage = os.wait4(pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(layout.train_log.read_text("utf-8", "replace")[-2000:])
    return usage.ru_utime + usage.ru_stime, time.monotonic() - started


def new_run(root: Path, max_steps: int) -> RunLayout:
    """A run that saves nothing at its end, so that only its start is measured."""
    config = configuration(*OPTIONS, f"training.max_steps={max_steps}")
    return create_run(config, argv=["bench"], root=root)


def old_run(root: Path, num_steps: int) -> RunLayout:
    """A run that made two steps and looks as if it had made many."""
    layout = new_run(root, 2)
    train(layout)
    folder = layout.checkpoint(2)
    config = configuration(*OPTIONS, "training.save_strategy=no", f"training.max_steps={num_steps + 1}").config
    state = read_json(folder / "run_state.json") or {}
    num_rows = state["position"]["num_rows"]
    position = {**state["position"], "epoch": num_steps // num_rows, "num_done": num_steps % num_rows}
    dumped = config.model_dump(mode="json")
    changes = {"step": num_steps, "max_steps": num_steps + 1, "config": dumped, "position": position}
    write_json(folder / "run_state.json", {**state, **changes, "window": {**state["window"], "since": num_steps}})
    trainer_state = read_json(folder / "trainer_state.json") or {}
    write_json(folder / "trainer_state.json", {**trainer_state, "global_step": num_steps})
    schedule = torch.load(folder / "scheduler.pt", weights_only=True)
    torch.save({**schedule, "last_epoch": num_steps, "_step_count": num_steps + 1}, folder / "scheduler.pt")
    folder = folder.rename(layout.checkpoint(num_steps))
    write_manifest(folder, num_steps)
    write_bytes(layout.config, dump_toml(dumped).encode())
    with JournalWriter(layout.events) as journal:
        for step in range(3, num_steps + 1):
            journal.write(StepMetrics(step=step, loss=1.0, learning_rate=1e-3, grad_norm=1.0, step_seconds=0.1))
    return layout


def main() -> int:
    """Measure; returns 1 if the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="bench-resume-"))
    os.environ.update(TUI_TRAINER_HOME=str(root / "home"), OMP_NUM_THREADS="1", ACCELERATE_USE_CPU="true")
    load_everything(OPTIONS)
    old = old_run(root, given.steps)
    fresh, resumed = [], []
    for number in range(given.rounds):
        layout = create_run(
            configuration(*OPTIONS, "training.save_strategy=no", "training.max_steps=1"), argv=["bench"], root=root
        )
        fresh.append(train(layout))
        copy = RunLayout(root / f"resumed-{number}")
        shutil.copytree(old.root, copy.root, symlinks=True)
        resumed.append(train(copy))
        kinds = [json.loads(line)["type"] for line in copy.events.read_bytes().splitlines()]
        if kinds.count("StepMetrics") != given.steps + 1 or RunStarted.__name__ not in kinds[:12]:
            raise SystemExit("the resumed run did not make exactly one step more")
    ratios = {
        name: statistics.median(one[at] for one in resumed) / statistics.median(one[at] for one in fresh)
        for at, name in enumerate(("cpu", "clock"))
    }
    print(json.dumps({"steps": given.steps, "n": given.rounds, "ratio": {k: round(v, 3) for k, v in ratios.items()}}))
    shutil.rmtree(root)
    return int(ratios["cpu"] > GOAL)


if __name__ == "__main__":
    sys.exit(main())
