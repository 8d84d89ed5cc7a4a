"""Live commands and what they cost: two gloo ranks, one command after the other, steps of a fixed length.

Run it with `python -m tests.bench.bench_control` from the root of the repository; `--commands 1000` is the long form.
It sends new learning rates at random moments and reports whether each was carried out exactly once, whether both ranks
computed every step with the same rate, and how long a command took. It also reports what the workbench's part of a
step costs (watching, mailbox, events) as processor time and as wall-clock time; the latter holds the wait for the
slower rank, and is given as median and as mean, for not every step has the same to do.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.e2e.conftest import config_of
from tui_trainer.config.toml import dump_toml
from tui_trainer.runs.control import send
from tui_trainer.runs.events import ControlApplied, Event, StepMetrics, decode
from tui_trainer.runs.journal import read_lines
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.store import create

TARGET_SHARE = 0.005
PATIENCE = 600.0

WORKER = """
import json, os, sys, time
from transformers import TrainerCallback
from transformers.trainer_callback import CallbackHandler
from tui_trainer.engine import train
from tui_trainer.engine.trainer import after_step, alerts, callbacks, run

root, step_seconds = sys.argv[1], float(sys.argv[2])
rank = os.environ["RANK"]
spent = [0.0, 0.0]

def timed(kind, name):
    method = getattr(kind, name)
    def wrapped(*positional, **named):
        wall, processor = time.perf_counter(), time.thread_time()
        try:
            return method(*positional, **named)
        finally:
            spent[0] += time.perf_counter() - wall
            spent[1] += time.thread_time() - processor
    setattr(kind, name, wrapped)

for kind, name in (
    (after_step.AfterStep, "on_step_end"), (callbacks.RunEvents, "on_log"), (alerts.RunAlerts, "on_log"),
    (alerts.RunAlerts, "on_step_end"),
):
    timed(kind, name)

class Pace(TrainerCallback):
    def __init__(self):
        self.file = open(f"{root}/bench-{rank}.jsonl", "w", buffering=1)
        self.begun = time.monotonic()
    def on_step_begin(self, args, state, control, optimizer=None, **_):
        rate = optimizer.param_groups[0]["lr"]
        self.file.write(json.dumps([state.global_step + 1, rate, *spent]) + "\\n")
        time.sleep(max(self.begun + step_seconds - time.monotonic(), 0))
        self.begun = time.monotonic()

make = run.make_trainer
def make_paced(*positional, **named):
    trainer = make(*positional, **named)
    trainer.add_callback(Pace())
    return trainer
run.make_trainer = make_paced
sys.exit(train.main([root]))
"""


def prepare(folder: Path, *assignments: str) -> RunLayout:
    """A run that goes on until it is stopped."""
    fixed = ("training.max_steps=1000000", "training.lr_scheduler_type=constant", "training.save_strategy=no")
    config = config_of(*fixed, *assignments)
    return create("bench", dump_toml(config.config.model_dump()), {}, root=folder / "runs")


def start(layout: RunLayout, num_ranks: int, worker: str, *arguments: str) -> subprocess.Popen[bytes]:
    """The ranks of the run, with this tree's package."""
    script = layout.root / "worker.py"
    script.write_text(worker)
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={num_ranks}", str(script)]
    with layout.train_log.open("wb") as log:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
        command = [sys.executable, *launch, str(layout.root), *arguments]
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


def events(layout: RunLayout) -> list[Event]:
    """What the run wrote so far."""
    return [event for line in read_lines(layout.events) if (event := decode(line)) is not None]


def wait_for(layout: RunLayout, process: subprocess.Popen[bytes], condition: Any) -> None:
    """Wait until something holds of the events.

    Raises:
        RuntimeError: the run ended before.
    """
    deadline = time.monotonic() + PATIENCE
    while not condition(events(layout)):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(layout.train_log.read_text()[-3000:])
        time.sleep(0.2)


def command(layout: RunLayout, process: subprocess.Popen[bytes], count: int, gap: float, seed: int) -> dict[str, float]:
    """Send commands at random moments; returns the rate that each one sets."""
    dice = random.Random(seed)
    wait_for(layout, process, lambda found: any(isinstance(event, StepMetrics) for event in found))
    sent: dict[str, float] = {}
    for _ in range(count):
        time.sleep(dice.uniform(0, 2 * gap))
        rate = 10 ** dice.uniform(-6, -4)
        sent[send(layout, "set", {"learning_rate": rate}, by="bench").id] = rate
    wait_for(layout, process, lambda found: sum(isinstance(event, ControlApplied) for event in found) >= count)
    send(layout, "stop")
    process.wait(PATIENCE)
    return sent


def report(layout: RunLayout, sent: dict[str, float], num_ranks: int) -> bool:
    """Print what was measured; returns whether all of it is as it should be."""
    applied = [event for event in events(layout) if isinstance(event, ControlApplied) and event.command == "set"]
    times = Counter(event.id for event in applied)
    once = sum(times[identifier] == 1 for identifier in sent)
    errors = sum(event.error is not None for event in applied)
    logs = [
        [json.loads(line) for line in (layout.root / f"bench-{rank}.jsonl").read_text().splitlines()]
        for rank in range(num_ranks)
    ]
    rates = [{step: rate for step, rate, *_ in log} for log in logs]
    same = all(rates[0] == other for other in rates)
    wanted = wrong = 0
    by_step = {event.step: sent[event.id] for event in applied if event.id in sent}
    for step, rate in sorted(by_step.items()):
        if step + 1 in rates[0]:
            wanted += 1
            wrong += abs(rates[0][step + 1] - rate) > 1e-15
    latencies = sorted(event.latency_seconds or 0.0 for event in applied)
    seconds = [event.step_seconds or 0.0 for event in events(layout) if isinstance(event, StepMetrics)]
    step_seconds = statistics.median(seconds)
    p50, p95 = (latencies[int(share * (len(latencies) - 1))] for share in (0.5, 0.95))
    limit = max(1.0, 2 * step_seconds)
    print(
        f"{num_ranks} ranks, {len(rates[0])} steps of {step_seconds * 1000:.0f} ms (median), n = {len(sent)} commands"
    )
    print(f"  exactly once {once}/{len(sent)}, refused {errors}, the same rate on all ranks at every step: {same}")
    print(f"  the rate of the step after is that of the last command: {wanted - wrong}/{wanted}")
    print(f"  latency p50 {p50:.3f} s, p95 {p95:.3f} s (limit {limit:.2f}), largest {latencies[-1]:.3f} s")
    costs = [quiet_costs(log, set(by_step)) for log in logs]
    for rank, (processor, wall, mean) in enumerate(costs):
        print(
            f"  rank {rank}: a step without a command costs {processor * 1000:.3f} ms of processor on average, "
            f"{processor / 0.2:.3%} of 200 ms; wall-clock median {wall * 1000:.3f} ms, {wall / 0.2:.3%}, "
            f"mean {mean * 1000:.3f} ms, {mean / 0.2:.3%}"
        )
    is_cheap = all(processor <= TARGET_SHARE * 0.2 for processor, *_ in costs)
    return once == len(sent) and same and not wrong and not errors and p95 <= limit and is_cheap


def quiet_costs(log: list[list[float]], busy: set[int]) -> tuple[float, float, float]:
    """Mean processor seconds, median and mean seconds of the workbench's part in the steps without a command."""
    pairs = [(before, after) for before, after in pairwise(log[5:]) if before[0] not in busy]
    processor = statistics.mean(after[3] - before[3] for before, after in pairs)
    walls = [after[2] - before[2] for before, after in pairs]
    return processor, statistics.median(walls), statistics.mean(walls)


def main() -> int:
    """Measure; returns 1 if anything is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commands", type=int, default=60)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--step", type=float, default=0.2, help="seconds a step")
    parser.add_argument("--gap", type=float, default=0.15, help="mean seconds between two commands")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        layout = prepare(Path(name))
        process = start(layout, arguments.ranks, WORKER, str(arguments.step))
        try:
            sent = command(layout, process, arguments.commands, arguments.gap, arguments.seed)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        return 0 if report(layout, sent, arguments.ranks) else 1


if __name__ == "__main__":
    raise SystemExit(main())
