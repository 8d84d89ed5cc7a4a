"""Fault injection: trainings that are killed again and again must come to the weights of one that was not.

    python tests/bench/kills.py kills --ranks 1 --count 200      kill -9 at random moments, half of them aimed at saves
    python tests/bench/kills.py kills --ranks 2 --count 50       the same with two ranks, one of which or all are killed
    python tests/bench/kills.py commands --count 50              50 runs, 5 kills each, with live learning rates
    python tests/bench/kills.py rewinds --count 50               back to an older one, then kill, 50 times

`--set KEY=VALUE` changes the configuration of all, as `--set data.streaming=true`; `short` does a little of all of it.

The real training process (`tui_trainer.engine.train`) on a real run directory, forked from a process that has loaded
the libraries, so that a start takes a second. Every round prints a line; the last line says what was counted. Exit code
1 if anything is not as it should be. A short form of it is `tests/e2e/test_kills.py`.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from tui_trainer.config.resolve import Layer, Resolved, Values, resolve, typed_values
from tui_trainer.config.toml import dump_toml, parse_document
from tui_trainer.engine.trainer import mailbox
from tui_trainer.engine.trainer.command_log import read_log
from tui_trainer.engine.trainer.mailbox import Agreement, Mailbox
from tui_trainer.engine.trainer.manifest import verify_checkpoint
from tui_trainer.procs.start import create_run
from tui_trainer.runs.control import Command, send
from tui_trainer.runs.events import RunFinished, RunResumed, StepMetrics, decode
from tui_trainer.runs.files import write_bytes
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.resume_order import ResumeOrder
from tui_trainer.runs.store import list_checkpoints

CONFIG = """
name = "kills"
[model]
tokenizer_name_or_path = "builtin:bytes"
[model.from_scratch]
model_type = "llama"
hidden_size = 48
intermediate_size = 96
num_hidden_layers = 2
num_attention_heads = 4
num_key_value_heads = 2
max_position_embeddings = 256
attention_dropout = 0.1
[data]
path = "demo:dates"
max_length = 128
max_samples = 90
[training]
use_cpu = true
max_steps = 24
save_steps = 3
per_device_train_batch_size = 4
gradient_accumulation_steps = 2
learning_rate = 1e-3
lr_scheduler_type = "cosine"
warmup_steps = 4
[launch]
num_processes = 1
"""
STEPS = 24
PATIENCE = 600.0


def configuration(*assignments: str) -> Resolved:
    """The configuration of the runs that are killed."""
    return resolve([Values(Layer.FILE, parse_document(CONFIG, "kills.toml")), typed_values(assignments)])


def free_port() -> int:
    """A port nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Start:
    """One start of a run: a forked process a rank, no supervisor.

    Args:
        layout: the run.
        num_ranks: how many processes train together.
        prepare: called in each process before it trains.
    """

    def __init__(self, layout: RunLayout, num_ranks: int, prepare: Callable[[], None] = lambda: None) -> None:
        self.layout = layout
        self._left_before = _identity(layout.staging)
        port = free_port() if num_ranks > 1 else 0
        self.pids = [self._fork(rank, num_ranks, port, prepare) for rank in range(num_ranks)]
        self.codes: dict[int, int] = {}

    def _fork(self, rank: int, size: int, port: int, prepare: Callable[[], None]) -> int:
        if pid := os.fork():
            return pid
        code = 70
        try:
            log = os.open(self.layout.train_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            if size > 1:
                world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
                os.environ.update({name: str(value) for name, value in world.items()})
                os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
            from tui_trainer.engine.train import main

            prepare()
            code = main([str(self.layout.root)])
        finally:
            sys.stdout.flush()
            os._exit(code)

    @property
    def is_saving(self) -> bool:
        """Whether a save of this start is half done; what an earlier kill left behind is none."""
        return _identity(self.layout.staging) not in (None, self._left_before)

    def left(self) -> list[int]:
        """The processes that live."""
        for pid in self.pids:
            if pid not in self.codes:
                found, status = os.waitpid(pid, os.WNOHANG)
                if found:
                    self.codes[pid] = os.waitstatus_to_exitcode(status)
        return [pid for pid in self.pids if pid not in self.codes]

    def kill(self, pids: Sequence[int]) -> None:
        """Kill some processes without a word; the others may end as they do when one is gone, then they go too."""
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 2.0
        while self.left() and time.monotonic() < deadline:
            time.sleep(0.01)
        for pid in self.left():
            os.kill(pid, signal.SIGKILL)
        while self.left():
            time.sleep(0.005)

    def wait(self) -> bool:
        """Wait for the end; returns whether all ranks ended well."""
        deadline = time.monotonic() + PATIENCE
        while self.left():
            if time.monotonic() > deadline:
                self.kill(self.left())
                return False
            time.sleep(0.01)
        return set(self.codes.values()) == {0}


@dataclass
class Killer:
    """Kills starts at random moments.

    Attributes:
        generator: what makes them random.
        num_kills: kills so far.
        num_in_saves: those of them that left a save half done.
        save_seconds: how long the last save took that was seen from its beginning to its end.
    """

    generator: random.Random
    num_kills: int = 0
    num_in_saves: int = 0
    save_seconds: float = 0.03

    def strike(self, start: Start, meanwhile: Callable[[], None] = lambda: None) -> bool:
        """Kill a start after some steps or in a save; returns False if the run had come to its end before."""
        at_save = self.generator.random() < 0.6
        target = steps_made(start.layout) + self.generator.randint(1, 6)
        deadline = time.monotonic() + PATIENCE
        save_began: float | None = None
        while start.left() and time.monotonic() < deadline:
            meanwhile()
            is_saving = start.is_saving
            if steps_made(start.layout) >= target and (is_saving or not at_save):
                time.sleep(self.generator.uniform(0, self.save_seconds if at_save else 0.05))
                break
            if is_saving and save_began is None:
                save_began = time.monotonic()
            elif not is_saving and save_began is not None:
                self.save_seconds, save_began = time.monotonic() - save_began, None
            time.sleep(0.0005)
        alive = start.left()
        if not alive:
            return False
        everybody = len(alive) == 1 or self.generator.random() < 0.5
        start.kill(alive if everybody else [self.generator.choice(alive)])
        if is_finished(start.layout):
            return False
        self.num_kills += 1
        self.num_in_saves += start.is_saving
        return True


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_ino, status.st_ctime_ns


def steps_made(layout: RunLayout) -> int:
    """How many rows of metrics stand in the file."""
    try:
        return layout.events.read_bytes().count(b'"StepMetrics"')
    except OSError:
        return 0


def is_finished(layout: RunLayout) -> bool:
    """Whether the last word of a run is that it came to its end, and nobody ordered it back since."""
    order = ResumeOrder.read(layout)
    if order is not None and not order.is_done:
        return False
    lines = layout.events.read_bytes().splitlines() if layout.events.is_file() else []
    return bool(lines) and isinstance(decode(lines[-1]), RunFinished)


def digest(layout: RunLayout, step: int = STEPS) -> str:
    """Digest of the weights in a checkpoint."""
    path = layout.checkpoint(step) / "model.safetensors"
    return sha256(path.read_bytes()).hexdigest() if path.is_file() else "no checkpoint"


def numbers(layout: RunLayout) -> dict[int, tuple[Any, ...]]:
    """What the row that counts says of each step."""
    rows: dict[int, tuple[int, tuple[Any, ...]]] = {}
    for event in step_rows(layout):
        row = (event.loss, event.learning_rate, event.grad_norm, event.epoch, event.num_input_tokens)
        if event.step not in rows or event.attempt >= rows[event.step][0]:
            rows[event.step] = (event.attempt, row)
    return {step: row for step, (_, row) in rows.items()}


def step_rows(layout: RunLayout) -> Iterator[StepMetrics]:
    """All rows of metrics."""
    for line in layout.events.read_bytes().split(b"\n"):
        event = decode(line)
        if isinstance(event, StepMetrics):
            yield event


def complaints(layout: RunLayout, expected: RunLayout) -> list[str]:
    """What is wrong with a run that was killed, compared with one that was not."""
    found = []
    if digest(layout) != digest(expected):
        found.append("the weights differ")
    torn = [line for line in layout.events.read_bytes().split(b"\n") if line and decode(line) is None]
    if torn:
        found.append(f"{len(torn)} torn lines")
    seen = [(event.step, event.attempt) for event in step_rows(layout)]
    if len(seen) != len(set(seen)):
        found.append("doubled rows")
    mine, theirs = numbers(layout), numbers(expected)
    if missing := theirs.keys() - mine.keys():
        found.append(f"lost rows: {sorted(missing)}")
    if others := [step for step in mine if step in theirs and mine[step] != theirs[step]]:
        found.append(f"other numbers at {others[:5]}")
    return found


@dataclass
class Bench:
    """What all rounds share.

    Attributes:
        root: where runs are made.
        num_ranks: processes that train together.
        killer: kills.
        assignments: what is set in all runs.
        ends: monotonic time after which no new round begins.
        failures: what went wrong.
        num_rounds: how many runs were judged.
    """

    root: Path
    num_ranks: int
    killer: Killer
    assignments: Sequence[str] = ()
    ends: float = math.inf
    failures: list[str] = field(default_factory=list)
    num_rounds: int = 0

    def run(self, *assignments: str) -> RunLayout:
        """A new run, not started."""
        ranks = f"launch.num_processes={self.num_ranks}"
        return create_run(configuration(ranks, *self.assignments, *assignments), argv=["kills"], root=self.root)

    @property
    def is_late(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() > self.ends

    def to_the_end(self, layout: RunLayout, prepare: Callable[[], None] = lambda: None) -> bool:
        """Let a run come to its end; returns whether it did."""
        is_well = is_finished(layout) or Start(layout, self.num_ranks, prepare).wait()
        if not is_well:
            end = layout.train_log.read_text("utf-8", "replace")[-1500:]
            self.fail(layout, f"did not come to its end:\n{end}")
        return is_well

    def fail(self, layout: RunLayout, why: str) -> None:
        """Note a failure; its run stays on the disk."""
        self.failures.append(f"{layout.id}: {why}")
        print(f"FAILED {layout.id}: {why}", flush=True)

    def judge(self, layout: RunLayout, expected: RunLayout) -> None:
        """Compare a run with the one it should equal; what is as it should be is cleared away."""
        self.num_rounds += 1
        wrong = complaints(layout, expected)
        if wrong:
            self.fail(layout, "; ".join(wrong))
        else:
            shutil.rmtree(layout.root)


def kills(bench: Bench, count: int) -> None:
    """Kill runs until that was done often enough; each may be killed up to six times before it ends."""
    expected = bench.run()
    bench.to_the_end(expected)
    number = 0
    while bench.killer.num_kills < count and not bench.is_late:
        layout, number = bench.run(), number + 1
        for _ in range(min(6, count - bench.killer.num_kills)):
            if not bench.killer.strike(Start(layout, bench.num_ranks)):
                break
        if bench.to_the_end(layout):
            bench.judge(layout, expected)
        killer = bench.killer
        print(f"run {number}: {killer.num_kills} kills, {killer.num_in_saves} in a save", flush=True)


def commands(bench: Bench, count: int, num_kills: int = 5) -> None:
    """Change the learning rate of runs again and again while they are killed, and compare with the log of it."""
    generator, replayed = bench.killer.generator, 0
    for number in range(1, count + 1):
        if bench.is_late:
            return
        layout = bench.run("lr_scheduler_type=linear")
        for _ in range(num_kills):
            moments = sorted(steps_made(layout) + generator.randint(0, 3) for _ in range(2))

            def meanwhile(moments: list[int] = moments, layout: RunLayout = layout) -> None:
                if moments and steps_made(layout) >= moments[0]:
                    moments.pop(0)
                    send(layout, "set", {"learning_rate": f"x{generator.choice((0.5, 0.8, 1.25, 2)):g}"}, by="kills")

            if not bench.killer.strike(Start(layout, bench.num_ranks, _look_at_every_step), meanwhile):
                break
        if not bench.to_the_end(layout):
            continue
        told = read_log(layout)
        reference = bench.run("lr_scheduler_type=linear")
        bench.to_the_end(reference, lambda told=told: _obey(told))  # type: ignore[misc]
        text = layout.events.read_text()
        replayed += text.count('"replayed":true')
        bench.judge(layout, reference)
        shutil.rmtree(reference.root)
        print(f"run {number}: {len(told)} commands took effect, {replayed} carried out again so far", flush=True)


def _look_at_every_step() -> None:
    """Let the trainer look for commands so often that steps of milliseconds meet some."""
    vars(mailbox).update(POLL_SECONDS=0.0, TALK_SECONDS=0.0)


def _obey(told: list[tuple[int, Command]]) -> None:
    """Let commands reach the trainer at their steps, as if they had been sent so, in this process."""

    def receive(_: Mailbox, step: int, *__: Any, **___: Any) -> Agreement:
        return Agreement([command for at, command in told if at == step])

    setattr(Mailbox, "receive", receive)  # noqa: B010 - the type checker would take it for a mistake


def rewinds(bench: Bench, count: int) -> None:
    """Go back to an older checkpoint with another learning rate, kill, go on: it must be the new branch that does."""
    first = bench.run()
    bench.to_the_end(first)
    steps = [checkpoint.step for checkpoint in list_checkpoints(first)][:-2]
    expected: dict[int, RunLayout] = {}
    for number in range(1, count + 1):
        if bench.is_late:
            return
        step = bench.killer.generator.choice(steps)
        layout = _copy(first, bench.root / f"rewound-{number}")
        before = {digest(layout, found.step) for found in list_checkpoints(layout)}
        _branch(bench, layout, step)
        if step not in expected:
            expected[step] = _copy(layout, bench.root / f"branch-{step}")
            bench.to_the_end(expected[step])
        while not bench.killer.strike(Start(layout, bench.num_ranks)):
            layout = _copy(first, bench.root / f"{layout.id}-again")
            _branch(bench, layout, step)
        if (order := ResumeOrder.read(layout)) is None or not order.is_done:
            bench.fail(layout, "the order to go back was not carried out")
        newest = list_checkpoints(layout)[-1].step
        bench.to_the_end(layout)
        resumed = [
            event for line in layout.events.read_bytes().split(b"\n") if isinstance(event := decode(line), RunResumed)
        ]
        if resumed[-1].step != newest or verify_checkpoint(layout.checkpoint(newest)):
            bench.fail(layout, f"went on from {resumed[-1].step}, not from {newest}")
        after = {sha256(path.read_bytes()).hexdigest() for path in layout.checkpoints.rglob("model.safetensors")}
        if not before <= after:
            bench.fail(layout, "a checkpoint of the old branch is gone")
        print(f"{number}: back to {step}, killed, went on from {resumed[-1].step}", flush=True)
        bench.judge(layout, expected[step])


def _copy(layout: RunLayout, target: Path) -> RunLayout:
    shutil.copytree(layout.root, target, symlinks=True)
    return RunLayout(target)


def _branch(bench: Bench, layout: RunLayout, step: int) -> None:
    """Order a run back to a step and give it another learning rate from there on."""
    ranks = f"launch.num_processes={bench.num_ranks}"
    config = configuration(ranks, *bench.assignments, "learning_rate=3e-4").config
    write_bytes(layout.config, dump_toml(config.model_dump(mode="json")).encode())
    ResumeOrder(step).write(layout)


def short(bench: Bench, count: int) -> None:
    """A little of all."""
    kills(bench, count)
    commands(bench, 1, num_kills=2)
    rewinds(bench, 1)


MODES: dict[str, Callable[[Bench, int], None]] = {
    "kills": kills,
    "commands": commands,
    "rewinds": rewinds,
    "short": short,
}


def load_everything(assignments: Sequence[str] = ()) -> None:
    """Load what a training loads, once, before anything is forked; prepare the data that all runs share."""
    import tui_trainer.engine.trainer.run  # noqa: F401
    from tui_trainer.engine.data.prepare import prepare_data
    from tui_trainer.engine.models.load import load_model_for_training
    from tui_trainer.engine.models.tokenizer import load_tokenizer

    config = configuration(*assignments).config
    tokenizer = load_tokenizer(config.model)
    prepare_data(config, tokenizer)
    model: Any = load_model_for_training(config, tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
    gc.collect()
    gc.freeze()  # what is loaded by now is not looked through again by every start


def main(words: Sequence[str]) -> int:
    """Run one of the modes; returns 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=MODES)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--set", dest="assignments", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no new round after that long")
    given = parser.parse_args(words)
    root = Path(tempfile.mkdtemp(prefix="kills-"))
    os.environ.update(TUI_TRAINER_HOME=str(root / "home"), OMP_NUM_THREADS="1", ACCELERATE_USE_CPU="true")
    load_everything(given.assignments)
    started = time.monotonic()
    bench = Bench(root / "runs", given.ranks, Killer(random.Random(given.seed)), given.assignments)
    bench.ends = started + 60 * given.minutes
    MODES[given.mode](bench, given.count)
    summary = {
        "mode": given.mode,
        "count": given.count,
        "ranks": given.ranks,
        "seed": given.seed,
        "runs": bench.num_rounds,
        "kills": bench.killer.num_kills,
        "kills_in_a_save": bench.killer.num_in_saves,
        "failures": len(bench.failures),
        "seconds": round(time.monotonic() - started),
    }
    print(json.dumps(summary), flush=True)
    if not bench.failures:
        shutil.rmtree(root)
    else:
        print(f"what failed lies in {root}", flush=True)
    return int(bool(bench.failures))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
