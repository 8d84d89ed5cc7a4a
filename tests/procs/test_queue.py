"""Whose turn it is: order, room, moves, the dead, and real supervisors that wait for each other."""

from __future__ import annotations

import itertools
import json
import os
import signal
from pathlib import Path

import pytest

from tests.procs.conftest import Bench, eventually
from tui_trainer.errors import RefusedError
from tui_trainer.procs import hardware
from tui_trainer.procs.orders import LaunchOrder
from tui_trainer.procs.queue import Queue, Turn, visible_devices
from tui_trainer.procs.removal import remove_run
from tui_trainer.procs.spawn import start_existing
from tui_trainer.procs.stop import request_stop, wait_until_over
from tui_trainer.runs.files import read_json
from tui_trainer.runs.identity import boot_id
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.status import State, read_status
from tui_trainer.runs.store import create

ALL_CORES = LaunchOrder(("x",), num_cpus=10_000)


class Line:
    """A queue in a folder of its own, with runs whose supervisor is this process."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "queue"
        self.queue = Queue(self.folder)
        self.root = root / "runs"
        self.orders: dict[str, LaunchOrder] = {}

    def join(self, name: str, order: LaunchOrder = ALL_CORES) -> RunLayout:
        layout = create(name, "", {}, root=self.root)
        self.orders[layout.id] = order
        self.queue.join(layout, order)
        return layout

    def look(self, layout: RunLayout) -> Turn:
        return self.queue.look(layout, self.orders[layout.id])

    def names(self) -> list[str]:
        return [entry.layout.id.partition("-")[0] for entry in self.queue.waiting()]

    @property
    def file(self) -> Path:
        return next(self.folder.glob("*.json"))


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return Line(tmp_path)


def four_gpus(monkeypatch: pytest.MonkeyPatch, folder: Path, *used_mebibytes: int) -> None:
    """A driver that tells of GPUs with so much memory in use."""
    rows = [f"{at}, GPU-{at}, 8.0, A100, 40960, {used}, 0" for at, used in enumerate(used_mebibytes)]
    program = folder / "nvidia-smi"
    program.write_text("#!/bin/sh\ncat <<END\n" + "\n".join(rows) + "\nEND\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert len(hardware.detect_gpus()) == len(used_mebibytes)


def test_first_come_first_served(line: Line) -> None:
    first, second = line.join("first"), line.join("second")
    waits = line.look(second)
    assert (waits.is_mine, waits.place, waits.message) == (
        False,
        2,
        f"waits for {first.id}, which is before it in the queue",
    )
    assert line.look(first).is_mine
    waits = line.look(second)
    assert (waits.is_mine, waits.place) == (False, 1)
    assert f"{first.id} is at work" in waits.message
    line.queue.leave(first)
    assert line.look(second).is_mine


def test_small_runs_share_the_cores_but_do_not_overtake(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui_trainer.procs.queue.usable_cpus", lambda: 4)
    cores = {"one": 2, "large": 3, "two": 2}
    one, large, two = (line.join(name, LaunchOrder(("x",), num_cpus=count)) for name, count in cores.items())
    assert line.look(one).is_mine
    assert line.look(large).message == f"waits for 3 of 4 cores; {one.id} is at work"
    assert not line.look(two).is_mine, "it would fit, but another run waits before it"
    line.queue.leave(large)
    assert line.look(two).is_mine


def test_gpus_are_given_out_once(line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    four_gpus(monkeypatch, tmp_path, 10, 10, 10, 10)
    runs = [line.join(name, LaunchOrder(("x",), num_gpus=gpus)) for name, gpus in (("a", 1), ("b", 2), ("c", 2))]
    assert [line.look(run).gpu_ids for run in runs] == [(0,), (1, 2), ()]
    assert line.look(runs[2]).message.startswith("waits for 2 GPUs, 1 of 4 are free")
    line.queue.leave(runs[0])
    assert line.look(runs[2]).gpu_ids == (0, 3)
    assert visible_devices((0, 3)) == {"CUDA_VISIBLE_DEVICES": "0,3", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def test_gpu_that_somebody_else_uses_is_not_free(line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    four_gpus(monkeypatch, tmp_path, 30_000, 10)
    run, exact = (line.join("a", LaunchOrder(("x",), num_gpus=2)), LaunchOrder(("x",), num_gpus=1, gpu_ids=(1,)))
    assert line.look(run).message.endswith("others use GPU 0")
    line.queue.leave(run)
    assert line.look(line.join("b", exact)).gpu_ids == (1,)
    assert "waits for GPU 1" in line.look(line.join("c", exact)).message


def test_move(line: Line) -> None:
    runs = [line.join(name) for name in "abc"]
    assert line.queue.move(runs[2], 1) == 1
    assert line.names() == ["c", "a", "b"]
    assert line.queue.move(runs[2], 99) == 3
    assert line.names() == ["a", "b", "c"]
    line.queue.leave(runs[1])
    with pytest.raises(RefusedError, match="does not wait"):
        line.queue.move(runs[1], 1)


def test_runs_of_dead_supervisors_and_other_boots_are_left_out(line: Line) -> None:
    first, second = line.join("first"), line.join("second")
    document = json.loads(line.file.read_text())
    document["entries"][0]["boot_id"] = boot_id()[::-1]
    line.file.write_text(json.dumps(document))
    assert line.names() == ["second"]
    assert line.look(second).is_mine
    assert line.look(first).place == 1


@pytest.mark.parametrize(
    "garbage", ["", "{torn", "[]", '{"entries": 7}', '{"entries": [7, {}, {"run": 5, "pid": "x"}]}', "\0" * 100]
)
def test_garbage_in_the_file_is_as_good_as_none(line: Line, garbage: str) -> None:
    run = line.join("run")
    line.file.write_text(garbage)
    assert line.queue.entries() == []
    assert line.look(run).is_mine
    assert [entry.layout.id for entry in line.queue.entries()] == [run.id]


def queued(bench: Bench, behaviour: dict[str, str] | None = None) -> RunLayout:
    layout = bench.run(behaviour, num_cpus=10_000)
    start_existing(layout, queued=True)
    return layout


@pytest.mark.e2e
def test_runs_start_one_after_the_other(bench: Bench) -> None:
    runs = [queued(bench, {"FAKE_STEPS": "10"}) for _ in range(3)]
    for run in runs:
        eventually(lambda run=run: read_status(run).state is State.FINISHED)  # type: ignore[misc]
        eventually(lambda run=run: '"exited"' in run.supervisor_log.read_text())  # type: ignore[misc]
    spans = [_span(run) for run in runs]
    assert [end < start for (_, end), (start, _) in itertools.pairwise(spans)] == [True, True]


def _span(layout: RunLayout) -> tuple[float, float]:
    """When the command of a run was started, and when it was over."""
    entries = [json.loads(line) for line in layout.supervisor_log.read_text().splitlines()]
    times = {entry["type"]: entry["t"] for entry in entries}
    return times["started"], times["exited"]


@pytest.mark.e2e
def test_waiting_run_says_what_it_waits_for_and_can_be_taken_out(bench: Bench) -> None:
    first = bench.run(num_cpus=10_000)
    start_existing(first)  # without the queue, and yet it holds the cores
    second = queued(bench)
    eventually(lambda: f"{first.id} is at work" in read_status(second).message)
    status = read_status(second)
    assert (status.state, status.queue_place) == (State.QUEUED, 1)
    with pytest.raises(RefusedError, match="going on already"):
        start_existing(second)
    with pytest.raises(RefusedError, match="waits in the queue"):
        remove_run(second)
    assert request_stop(second)
    assert wait_until_over(second, 10)
    status = read_status(second)
    assert (status.state, status.reason, status.queue_place) == (State.STOPPED, "cancelled", 0)
    assert not Queue().waiting()
    assert remove_run(second) > 0


@pytest.mark.e2e
def test_waiting_run_whose_supervisor_is_gone_is_lost_and_can_be_queued_again(bench: Bench) -> None:
    first = bench.run(num_cpus=10_000)
    start_existing(first)
    second = queued(bench)
    eventually(lambda: read_status(second).state is State.QUEUED)
    os.kill(int((read_json(second.status) or {})["pid"]), signal.SIGKILL)
    eventually(lambda: read_status(second).state is State.LOST)
    assert f"runs queue add {second.id}" in read_status(second).remedy
    assert not Queue().waiting()
    start_existing(second, queued=True)
    eventually(lambda: read_status(second).state is State.QUEUED)
    request_stop(first, now=True)
    bench.await_work(second)
    assert bench.goes_on(second)
