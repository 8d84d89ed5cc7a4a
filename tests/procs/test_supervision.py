"""What a run survives, what a stop leaves behind, and whom nobody ever signals.

Races show only in repetition: `SUPERVISION_ROUNDS=50 pytest tests/procs/test_supervision.py` is the long form.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.procs.conftest import Bench, eventually
from tui_trainer.errors import RefusedError
from tui_trainer.procs.lock import is_held
from tui_trainer.procs.proctree import ProcessKey
from tui_trainer.procs.spawn import adopt, start_existing
from tui_trainer.procs.stop import report, request_stop, wait_until_over
from tui_trainer.runs.events import FINAL_EVENTS, decode
from tui_trainer.runs.files import write_json
from tui_trainer.runs.identity import ProcessIdentity, boot_id
from tui_trainer.runs.journal import read_lines
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.status import State, read_status

NUM_ROUNDS = int(os.environ.get("SUPERVISION_ROUNDS", "1"))
pytestmark = [pytest.mark.e2e, pytest.mark.parametrize("round_number", range(NUM_ROUNDS))]


def stop_and_expect_nothing(bench: Bench, layout: RunLayout, state: State = State.STOPPED) -> None:
    assert request_stop(layout, by="test")
    assert wait_until_over(layout, 30)
    assert report(layout).survivors == ()
    assert bench.processes(layout) == set()
    assert read_status(layout).state is state
    assert isinstance(last_event(layout), FINAL_EVENTS)


def last_event(layout: RunLayout) -> object:
    return decode(list(read_lines(layout.events))[-1])


@pytest.mark.parametrize("how", ["hang_up", "kill", "type_interrupt"])
def test_run_goes_on_without_its_front_end(bench: Bench, how: str, round_number: int) -> None:
    layout = bench.run()
    front_end = bench.front_end(layout)
    getattr(front_end, how)()
    assert bench.goes_on(layout)
    eventually(lambda: read_status(layout).state is State.RUNNING)
    stop_and_expect_nothing(bench, layout)


def test_run_goes_on_without_its_supervisor_and_can_still_be_stopped(bench: Bench, round_number: int) -> None:
    layout = bench.started()
    os.kill(bench.supervisor(layout), signal.SIGKILL)
    assert bench.goes_on(layout)
    eventually(lambda: not is_held(layout))
    assert read_status(layout).state is State.RUNNING
    with pytest.raises(RefusedError, match="processes of an earlier start"):
        start_existing(layout)
    stop_and_expect_nothing(bench, layout)


def test_adopted_run_has_a_heartbeat_again_and_ends_as_any_other(bench: Bench, round_number: int) -> None:
    layout = bench.started({"FAKE_STEPS": "60"})
    os.kill(bench.supervisor(layout), signal.SIGKILL)
    before = read_status(layout).heartbeat
    eventually(lambda: adopt(layout))
    assert not adopt(layout)
    assert wait_until_over(layout, 30)
    status = read_status(layout)
    assert status.state is State.FINISHED
    assert status.heartbeat > before
    assert status.step == 60


def test_orphans_of_a_dead_launcher_are_ended(bench: Bench, round_number: int) -> None:
    layout = bench.started({"FAKE_LOADER": "1"})
    launcher = next(key for key in bench.processes(layout) if parent_of(key.pid) == bench.supervisor(layout))
    launcher.send(signal.SIGKILL)
    assert wait_until_over(layout, 30)
    assert bench.processes(layout) == set()
    status = read_status(layout)
    assert (status.state, status.reason, status.exit_code) == (State.FAILED, "killed", -9)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_ranks_that_ignore_everything_are_killed_within_the_grace_time(bench: Bench, round_number: int) -> None:
    layout = bench.started({"FAKE_IGNORE_TERM": "1", "FAKE_IGNORE_CONTROL": "1", "FAKE_LOADER": "1"}, grace_seconds=1)
    start = time.monotonic()
    stop_and_expect_nothing(bench, layout)
    assert time.monotonic() - start < 1 + 1 + 5
    assert read_status(layout).reason == "terminated"


def test_stop_now_does_not_wait_for_a_save(bench: Bench, round_number: int) -> None:
    layout = bench.started({"FAKE_IGNORE_CONTROL": "1"}, grace_seconds=60)
    request_stop(layout)
    assert not wait_until_over(layout, 0.5)
    request_stop(layout, now=True)
    request_stop(layout)  # asking again, gently, must not soften it
    assert wait_until_over(layout, 15)
    assert bench.processes(layout) == set()


def test_of_four_starts_at_once_exactly_one_wins(bench: Bench, round_number: int) -> None:
    layout = bench.run()
    failures: list[RefusedError] = []
    barrier = threading.Barrier(4)

    def start() -> None:
        barrier.wait()
        try:
            start_existing(layout)
        except RefusedError as error:
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(failures) == 3
    bench.await_work(layout)
    assert len([key for key in bench.processes(layout) if parent_of(key.pid) == bench.supervisor(layout)]) == 1
    stop_and_expect_nothing(bench, layout)


@contextmanager
def innocent() -> Iterator[ProcessIdentity]:
    """A process that has nothing to do with any run."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    identity = ProcessIdentity.of(process.pid)
    assert identity is not None
    yield identity
    assert process.poll() is None, "an innocent process was signalled"
    process.kill()
    process.wait()


def test_recycled_pid_is_never_signalled(bench: Bench, round_number: int) -> None:
    layout = bench.run()
    with innocent() as stranger:
        stale = stranger.to_dict() | {"start_time": stranger.start_time - 1}
        write_json(layout.status, {"state": "running", "heartbeat": time.time(), **stale})
        write_json(layout.rank(0), stale)
        assert read_status(layout).state is State.LOST
        assert not request_stop(layout, now=True)
        start_existing(layout)
        bench.await_work(layout)
        write_json(layout.rank(7), stale)
        stop_and_expect_nothing(bench, layout)


def test_copy_of_a_running_directory_cannot_stop_the_original(bench: Bench, round_number: int) -> None:
    layout = bench.started()
    copy = RunLayout(layout.root.with_name("copy"))
    subprocess.run(["cp", "-r", str(layout.root), str(copy.root)], check=True)
    assert not request_stop(copy, now=True)
    assert bench.goes_on(layout)
    stop_and_expect_nothing(bench, layout)


def test_processes_of_another_boot_are_gone(bench: Bench, round_number: int) -> None:
    layout = bench.run()
    with innocent() as stranger:
        other_boot = stranger.to_dict() | {"boot_id": boot_id()[::-1]}
        write_json(layout.status, {"state": "running", "heartbeat": time.time(), **other_boot})
        assert read_status(layout).state is State.LOST


def test_what_a_finished_run_leaves_behind_is_ended(bench: Bench, round_number: int) -> None:
    layout = bench.run({"FAKE_STEPS": "3", "FAKE_LINGER": "1"})
    start_existing(layout)
    assert wait_until_over(layout, 30)
    assert bench.processes(layout) == set()
    assert read_status(layout).state is State.FINISHED


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_supervisor_whose_machine_is_taken_away_lets_the_run_save_first(
    bench: Bench, number: signal.Signals, round_number: int
) -> None:
    layout = bench.started()
    holder = ProcessKey.of(bench.supervisor(layout))
    assert holder is not None
    holder.send(number)
    holder.send(number)
    assert wait_until_over(layout, 30)
    status = read_status(layout)
    assert (status.state, status.reason) == (State.STOPPED, "preempted")
    assert "It saved first." in status.remedy


def test_a_shutdown_that_signals_everybody_at_once(bench: Bench, round_number: int) -> None:
    layout = bench.started()
    everybody = [*bench.processes(layout), ProcessKey.of(bench.supervisor(layout))]
    for key in everybody:
        assert key is not None
        key.send(signal.SIGTERM)
    assert wait_until_over(layout, 30)
    assert bench.processes(layout) == set()
    status = read_status(layout)
    # the ranks of the fake trainer die of the signal, as real ones may that have no time to save
    assert (status.state, status.reason) == (State.STOPPED, "preempted")
