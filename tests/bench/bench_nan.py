"""Whether a loss that is NaN is told at its own step, on whichever rank it is.

Run it with `python -m tests.bench.bench_nan` from the root of the repository. Two gloo ranks train one run, in which
the loss is NaN at random steps on a random rank; gradients are mended, so that only the loss is bad. Each row of such
steps has to be told once, with its first step; `--events 100` is the long form.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import tempfile
from pathlib import Path

from tests.bench.bench_control import events, prepare, start
from tui_trainer.runs.events import Alert, StepMetrics
from tui_trainer.runs.layout import RunLayout

WORKER = """
import json, os, sys
from transformers import TrainerCallback
from tui_trainer.engine import train
from tui_trainer.engine.trainer import run

root = sys.argv[1]
bad = {int(step): rank for step, rank in json.load(open(f"{root}/bad.json")).items()}
rank = int(os.environ["RANK"])

class Mend(TrainerCallback):
    def on_pre_optimizer_step(self, args, state, control, model=None, **_):
        for weight in model.parameters():
            if weight.grad is not None:
                weight.grad.nan_to_num_(0.0, 0.0, 0.0)

make = run.make_trainer
def make_spoiled(*positional, **named):
    trainer = make(*positional, **named)
    compute = trainer.compute_loss
    def spoiled(*positional, **named):
        loss = compute(*positional, **named)
        return loss * float("nan") if bad.get(trainer.state.global_step + 1) == rank else loss
    trainer.compute_loss = spoiled
    trainer.add_callback(Mend())
    return trainer
run.make_trainer = make_spoiled
sys.exit(train.main([root]))
"""


def plan(count: int, seed: int) -> tuple[dict[int, int], list[int]]:
    """Bad steps with the rank that has each, in `count` rows, and the first step of each row."""
    dice = random.Random(seed)
    bad: dict[int, int] = {}
    starts: list[int] = []
    step = 3
    for _ in range(count):
        step += dice.randint(1, 8)
        starts.append(step)
        for _ in range(dice.choice((1, 1, 1, 2))):
            bad[step] = dice.randrange(2)
            step += 1
    return bad, starts


def run_with(layout: RunLayout, process: subprocess.Popen[bytes]) -> list[int]:
    """Wait for the end of the run; returns the steps that were told."""
    if process.wait(900):
        raise RuntimeError(layout.train_log.read_text()[-3000:])
    return [event.step for event in events(layout) if isinstance(event, Alert) and event.kind == "nan"]


def main() -> int:
    """Measure; returns 1 if a bad step was not told, or one that was none."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    bad, starts = plan(arguments.events, arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        layout = prepare(Path(name), f"training.max_steps={max(bad)}", "upkeep.on_nan=warn")
        (layout.root / "bad.json").write_text(json.dumps(bad))
        told = run_with(layout, start(layout, 2, WORKER))
        losses = {event.step: event.loss for event in events(layout) if isinstance(event, StepMetrics)}
    logged = sum(losses[step] != losses[step] for step in bad)
    print(f"n = {len(starts)} rows of bad steps, {len(bad)} steps, seed {arguments.seed}")
    right = set(told) & set(starts)
    print(f"  told at their own first step {len(right)}/{len(starts)}, told besides {len(told) - len(right)}")
    print(f"  logged as NaN {logged}/{len(bad)}")
    return 0 if told == starts and logged == len(bad) else 1


if __name__ == "__main__":
    raise SystemExit(main())
