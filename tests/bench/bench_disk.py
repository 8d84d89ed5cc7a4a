"""Trainings on disks that are too small: they wait, say so, and go on when there is space.

Run it as root with `python -m tests.bench.bench_disk` from the root of the repository; `--sizes 20` is the long form.
Each training runs in a file system of its own size, from a fraction of a checkpoint to four of them. What is reported:
whether it finished or paused, whether its newest checkpoint was whole at that moment and at the end, whether it went on
by itself when the file system was enlarged, and whether each step stands in the events once.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.conftest import config_of
from tui_trainer.config.toml import dump_toml
from tui_trainer.engine import train
from tui_trainer.engine.trainer import run as _imported_before_the_fork  # noqa: F401
from tui_trainer.engine.trainer.checkpoint import newest_whole
from tui_trainer.runs.events import Event, RunContinued, RunFinished, RunPaused, StepMetrics, decode
from tui_trainer.runs.journal import read_lines
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.store import create, list_checkpoints

STEPS = 12
MODEL = (
    '{model_type = "llama", hidden_size = 128, intermediate_size = 256, num_hidden_layers = 2, '
    "num_attention_heads = 4, num_key_value_heads = 2, max_position_embeddings = 256}"
)
PATIENCE = 240.0
SILENCE = 15.0
ENOUGH = 256 << 20


@dataclass(frozen=True)
class Outcome:
    """What became of one training.

    Attributes:
        how: "finished", "paused" or "ended".
        is_whole: whether its newest checkpoint, if any, was whole then and at the end.
        goes_on: whether it came to its end once there was space.
        has_all_steps: whether each step stands in the events exactly once.
    """

    how: str
    is_whole: bool
    goes_on: bool
    has_all_steps: bool

    @property
    def is_good(self) -> bool:
        """Whether nothing was lost."""
        return self.how != "ended" and self.is_whole and self.goes_on and self.has_all_steps


@contextmanager
def small_disk(size: int) -> Iterator[Path]:
    """A file system of `size` bytes."""
    with tempfile.TemporaryDirectory() as name:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", name], check=True)
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", "-l", name], check=True)


def events(layout: RunLayout) -> list[Event]:
    """What the run wrote so far."""
    return [event for line in read_lines(layout.events) if (event := decode(line)) is not None]


def begin(folder: Path) -> tuple[RunLayout, int]:
    """Start a training in a process of its own; returns its run and its pid."""
    config = config_of(
        f"training.max_steps={STEPS}",
        "training.save_steps=3",
        "training.save_total_limit=2",
        f"model.from_scratch={MODEL}",
    )
    layout = create("disk", dump_toml(config.config.model_dump()), {}, root=folder)
    child = os.fork()
    if not child:
        with Path(os.devnull).open("w") as silent:
            os.dup2(silent.fileno(), 1)
            os.dup2(silent.fileno(), 2)
        os._exit(train.main([str(layout.root)]))
    return layout, child


def is_over(child: int) -> bool:
    """Whether the training's process has ended."""
    return os.waitpid(child, os.WNOHANG)[0] == child


def newest_is_whole(layout: RunLayout) -> bool:
    """Whether the newest published checkpoint is whole; true where there is none."""
    published = list_checkpoints(layout)
    return not published or newest_whole(layout)[0] == published[-1].path


def observe(size: int) -> Outcome:
    """Train on a disk of one size, then enlarge it."""
    with small_disk(size) as folder:
        layout, child = begin(folder)
        deadline, last, count, over = time.monotonic() + PATIENCE, time.monotonic(), -1, False
        while not (over := is_over(child)):
            found = events(layout)
            if len(found) != count:
                count, last = len(found), time.monotonic()
            has_begun = any(isinstance(event, StepMetrics) for event in found)
            if any(isinstance(event, RunPaused) for event in found) or time.monotonic() > deadline:
                break
            if has_begun and time.monotonic() - last > SILENCE:
                break  # so full that it cannot even say so
            time.sleep(0.1)
        is_whole = newest_is_whole(layout)
        has_finished = any(isinstance(event, RunFinished) for event in events(layout))
        how = "finished" if has_finished else "ended" if over else "paused"
        subprocess.run(["mount", "-o", f"remount,size={ENOUGH}", str(folder)], check=True)
        while not over and time.monotonic() < deadline + PATIENCE:
            over = is_over(child)
            time.sleep(0.1)
        if not over:
            os.kill(child, 9)
            os.waitpid(child, 0)
        found = events(layout)
        steps = [event.step for event in found if isinstance(event, StepMetrics)]
        if how == "paused" and not any(isinstance(event, RunContinued) for event in found):
            print("    it never said that it goes on")
        return Outcome(
            how,
            is_whole and newest_is_whole(layout),
            any(isinstance(event, RunFinished) for event in found),
            steps == list(range(1, STEPS + 1)),
        )


def checkpoint_bytes() -> int:
    """Size of a checkpoint of this training."""
    with small_disk(ENOUGH) as folder:
        layout, child = begin(folder)
        os.waitpid(child, 0)
        return list_checkpoints(layout)[-1].bytes


def main() -> int:
    """Measure; returns 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, default=4)
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        print("only root may mount a file system of its own size", file=sys.stderr)
        return 3
    os.environ["OMP_NUM_THREADS"] = "1"
    whole = checkpoint_bytes()
    print(f"a checkpoint has {whole / 1e6:.2f} MB; sizes from 0.02 to 4 times that; n = {arguments.sizes}")
    good = 0
    for number in range(arguments.sizes):
        size = int(whole * (0.02 + 3.98 * number / max(arguments.sizes - 1, 1))) // 4096 * 4096
        outcome = observe(size)
        good += outcome.is_good
        print(f"  {size / whole:4.2f} of a checkpoint: {outcome}", flush=True)
    print(f"finished or paused, newest checkpoint whole, went on, no step lost: {good}/{arguments.sizes}")
    return 0 if good == arguments.sizes else 1


if __name__ == "__main__":
    raise SystemExit(main())
