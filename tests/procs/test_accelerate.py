"""The same properties with the real `accelerate launch` between supervisor and ranks, which are fake."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.procs.conftest import HERE, Bench
from tui_trainer.config.launch import launch_command
from tui_trainer.config.resolve import resolve, typed_values
from tui_trainer.procs.orders import LaunchOrder
from tui_trainer.procs.proctree import ProcessKey
from tui_trainer.procs.spawn import start_existing
from tui_trainer.procs.stop import report, request_stop, wait_until_over
from tui_trainer.runs.files import write_bytes
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.status import State, rank_processes, read_status

pytestmark = [pytest.mark.e2e, pytest.mark.parametrize("num_ranks", [1, 2])]


def launched(bench: Bench, num_ranks: int, **knobs: str) -> RunLayout:
    """A run whose ranks are at work under accelerate."""
    layout = bench.run()
    config = resolve([typed_values([f"launch.num_processes={num_ranks}", "training.use_cpu=true"])]).config
    program = (str(HERE / "fake_trainer.py"),)
    command = launch_command(config, layout.root, num_gpus=0, num_cpus=2, program=program)
    for name, text in command.files.items():
        write_bytes(layout.root / name, text.encode())
    env = {**command.env, "FAKE_RANKS": str(num_ranks), **knobs}
    LaunchOrder(command.argv, env, str(bench.root), grace_seconds=3).write(layout)
    start_existing(layout)
    bench.await_work(layout, num_ranks)
    return layout


def launcher_of(bench: Bench, layout: RunLayout) -> ProcessKey:
    supervisor = bench.supervisor(layout)
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    key = ProcessKey.of(int(children[0]))
    assert key is not None
    return key


def test_stop_and_save_leaves_nothing(bench: Bench, num_ranks: int) -> None:
    layout = launched(bench, num_ranks)
    sessions = {os.getsid(rank.pid) for rank in rank_processes(layout)}
    if num_ranks > 1:
        assert sessions == {rank.pid for rank in rank_processes(layout)}, "torchrun gives each rank its own session"
    request_stop(layout)
    assert wait_until_over(layout, 60)
    assert report(layout).survivors == ()
    status = read_status(layout)
    assert (status.state, status.reason) == (State.STOPPED, "requested")


def test_ranks_that_ignore_everything_are_killed(bench: Bench, num_ranks: int) -> None:
    layout = launched(bench, num_ranks, FAKE_IGNORE_TERM="1", FAKE_IGNORE_CONTROL="1", FAKE_LOADER="1")
    request_stop(layout, now=True)
    assert wait_until_over(layout, 60)
    assert bench.processes(layout) == set()
    assert read_status(layout).state is State.STOPPED


def test_orphans_of_a_killed_launcher_are_ended(bench: Bench, num_ranks: int) -> None:
    layout = launched(bench, num_ranks, FAKE_LOADER="1")
    launcher_of(bench, layout).send(signal.SIGKILL)
    assert wait_until_over(layout, 60)
    assert bench.processes(layout) == set()
    assert read_status(layout).reason == "killed"


def test_a_killed_rank_is_explained(bench: Bench, num_ranks: int) -> None:
    layout = launched(bench, num_ranks)
    os.kill(rank_processes(layout)[-1].pid, signal.SIGKILL)
    assert wait_until_over(layout, 60)
    assert bench.processes(layout) == set()
    status = read_status(layout)
    assert (status.state, status.reason, status.message) == (State.FAILED, "killed", "ended by the signal SIGKILL")
