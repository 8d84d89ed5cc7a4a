"""What the supervisor writes down: states, numbers, reasons, the final event, restarts."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.procs.conftest import Bench, eventually
from tui_trainer.errors import MachineError, UsageError
from tui_trainer.procs.spawn import start_existing
from tui_trainer.procs.stop import report, request_stop, wait_until_over
from tui_trainer.runs import control
from tui_trainer.runs.events import Alert, Event, RunFailed, RunFinished, RunStopped, decode
from tui_trainer.runs.journal import read_lines
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.status import RunStatus, State, read_status

pytestmark = pytest.mark.e2e


def events(layout: RunLayout) -> list[Event]:
    return [event for line in read_lines(layout.events) if (event := decode(line)) is not None]


def journal(layout: RunLayout) -> list[dict[str, Any]]:
    return [json.loads(line) for line in read_lines(layout.supervisor_log)]


def ended(layout: RunLayout) -> RunStatus:
    start_existing(layout)
    assert wait_until_over(layout, 30)
    return read_status(layout)


PYTHON = Path(sys.executable).name[:15]
"""What the kernel calls a process of this interpreter."""


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def test_run_to_the_end(bench: Bench) -> None:
    layout = bench.run({"FAKE_STEPS": "5"})
    status = ended(layout)
    assert status.state is State.FINISHED
    assert (status.step, status.max_steps, status.epoch, status.exit_code) == (5, 5, 0.5, 0)
    assert status.loss == pytest.approx(0.2)
    assert isinstance(events(layout)[-1], RunFinished)
    assert sum(isinstance(event, RunFinished) for event in events(layout)) == 1
    assert [entry["type"] for entry in journal(layout)] == ["started", "exited"]


def test_stop_saves_at_a_step_border(bench: Bench) -> None:
    layout = bench.started()
    assert request_stop(layout, by="me")
    assert wait_until_over(layout, 30)
    status = read_status(layout)
    assert (status.state, status.reason, status.exit_code) == (State.STOPPED, "requested", 0)
    kinds = [event.type for event in events(layout)][-3:]
    assert kinds == ["ControlApplied", "CheckpointSaved", "RunStopped"]
    asked = next(entry for entry in journal(layout) if entry["type"] == "asked")
    assert asked["by"] == "me"
    assert "terminated" not in [entry["type"] for entry in journal(layout)]


def test_waiting_for_the_end_gives_up_in_time(bench: Bench) -> None:
    layout = bench.started()
    assert not wait_until_over(layout, 0.2)
    request_stop(layout)
    assert wait_until_over(layout, 30)


def test_pause_and_continue_are_states(bench: Bench) -> None:
    layout = bench.started()
    control.send(layout, "pause")
    # the fake trainer acknowledges and goes on, so that the next step makes it running again
    eventually(lambda: any(event.type == "ControlApplied" for event in events(layout)))
    eventually(lambda: read_status(layout).state is State.RUNNING)


@pytest.mark.parametrize(
    ("crash", "reason"),
    [
        ("gpu", "gpu_out_of_memory"),
        ("nan", "nan"),
        ("disk", "disk_full"),
        ("data", "data"),
        ("SIGKILL", "killed"),
        ("SIGSEGV", "library_error"),
        ("exit", "library_error"),
    ],
)
def test_failure_is_explained_and_the_end_is_in_the_events(bench: Bench, crash: str, reason: str) -> None:
    layout = bench.run({"FAKE_CRASH": crash})
    status = ended(layout)
    assert (status.state, status.reason) == (State.FAILED, reason)
    assert status.remedy
    last = events(layout)[-1]
    assert isinstance(last, RunFailed)
    assert (last.reason, last.step, last.seq) == (reason, status.step, len(events(layout)) - 1)
    assert last.message


def test_command_that_does_not_exist(bench: Bench) -> None:
    layout = bench.run(argv=("/no/such/program",))
    with pytest.raises(MachineError, match="cannot be started"):
        start_existing(layout)
    assert wait_until_over(layout, 10)
    assert read_status(layout).state is State.FAILED
    assert isinstance(events(layout)[-1], RunFailed)


def test_directory_without_launch_order(bench: Bench) -> None:
    layout = bench.run()
    layout.launch.write_text("{torn")
    with pytest.raises(UsageError, match="does not say what to start"):
        start_existing(layout)


def test_command_gets_its_environment_and_leaves_no_secret_in_files(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_canary0123456789canary")
    code = "import os, sys; print(len(os.environ['HF_TOKEN']), os.environ['ADDED'], sys.stdin.read())"
    layout = bench.run({"ADDED": "yes"}, argv=python(code))
    ended(layout)
    assert layout.train_log.read_text() == "25 yes \n"
    for path in layout.root.rglob("*"):
        assert path.is_dir() or b"canary" not in path.read_bytes()


def test_everything_is_readable_by_its_owner_only(bench: Bench) -> None:
    layout = bench.run(argv=python("open('made-by-the-run', 'w')"))
    ended(layout)
    (bench.root / "made-by-the-run").rename(layout.root / "made-by-the-run")
    modes = {path.name: path.stat().st_mode & 0o077 for path in layout.root.rglob("*")}
    assert {"train.log", "events.jsonl", "status.json", "lock", "made-by-the-run"} <= set(modes)
    assert not any(modes.values()), modes


def test_the_command_has_no_terminal_and_default_signals(bench: Bench) -> None:
    code = (
        "import os, signal\n"
        "print(os.getsid(0) == os.getpid(), signal.getsignal(signal.SIGHUP) is signal.SIG_DFL,"
        " signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL, len(signal.pthread_sigmask(signal.SIG_BLOCK, [])),"
        " [name for name in os.listdir('/proc/self/fd') if int(name) > 3])"
    )
    layout = bench.run(argv=python(code))
    ended(layout)
    assert layout.train_log.read_text() == "True True True 0 []\n"


def test_much_output_never_blocks_the_run(bench: Bench) -> None:
    layout = bench.run(argv=python("print('x' * 5_000_000); import sys; print('y' * 5_000_000, file=sys.stderr)"))
    ended(layout)
    assert layout.train_log.stat().st_size == 10_000_002


def test_start_again_forgets_the_orders_of_the_last_time(bench: Bench) -> None:
    layout = bench.started()
    request_stop(layout)
    assert wait_until_over(layout, 30)
    control.send(layout, "stop")
    num_before = len(events(layout))
    start_existing(layout)
    bench.await_work(layout)
    assert bench.goes_on(layout)
    assert not layout.stop_request.exists()
    assert "discarded" in [entry["type"] for entry in journal(layout)]
    request_stop(layout)
    assert wait_until_over(layout, 30)
    assert sum(isinstance(event, RunStopped) for event in events(layout)) == 2
    assert [event.seq for event in events(layout)] == list(range(len(events(layout))))
    assert len(events(layout)) > num_before


def test_failure_that_may_pass_is_tried_again_as_often_as_allowed(bench: Bench) -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    layout = bench.run(argv=python(code), max_restarts=2)
    status = ended(layout)
    assert [entry["type"] for entry in journal(layout)] == [
        "started",
        "restarted",
        "started",
        "restarted",
        "started",
        "exited",
    ]
    assert (status.state, status.restarts, status.max_restarts) == (State.FAILED, 2, 2)
    assert [event.type for event in events(layout)] == ["Alert", "Alert", "RunFailed"]
    alert = events(layout)[1]
    assert isinstance(alert, Alert)
    assert alert.message == "ended by the signal SIGKILL; starts again now from its last checkpoint (restart 2 of 2)"


def test_restart_is_announced_and_a_stop_meanwhile_ends_the_run(bench: Bench) -> None:
    layout = bench.run(argv=python("raise RuntimeError('NCCL error: unhandled')"), max_restarts=3, restart_delay=60)
    start_existing(layout)
    eventually(lambda: read_status(layout).restarts == 1)
    status = read_status(layout)
    assert (status.state, status.reason) == (State.STARTING, "nccl")
    assert "starts again in 60 s" in status.message
    assert request_stop(layout)
    assert wait_until_over(layout, 10)
    status = read_status(layout)
    assert (status.state, status.reason) == (State.FAILED, "nccl")
    assert [entry["type"] for entry in journal(layout)] == ["started", "restarted", "exited"]


def test_failure_that_will_not_pass_is_not_tried_again(bench: Bench) -> None:
    layout = bench.run(argv=python("raise MemoryError"), max_restarts=2)
    assert ended(layout).reason == "out_of_memory"
    assert "restarted" not in [entry["type"] for entry in journal(layout)]


def test_survivors_are_named_while_they_live(bench: Bench) -> None:
    layout = bench.started()
    survivors = report(layout).survivors
    assert len(survivors) == 3
    assert all(survivor.description.startswith(PYTHON) for survivor in survivors)
    assert not report(layout).is_over


def test_run_that_ended_is_not_stopped_again(bench: Bench) -> None:
    layout = bench.run({"FAKE_STEPS": "2"})
    ended(layout)
    assert not request_stop(layout)
    assert not layout.stop_request.exists()


def test_current_folder_of_the_user_does_not_shadow_python(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("json.py", "signal.py", "ctypes.py"):
        (tmp_path / name).write_text("raise SystemExit('shadowed')")
    monkeypatch.chdir(tmp_path)
    assert ended(bench.run({"FAKE_STEPS": "2"})).state is State.FINISHED


START_IN_GROUP = """
import os, sys
from pathlib import Path
from tui_trainer.procs.spawn import start_existing
from tui_trainer.runs.layout import RunLayout
Path(sys.argv[1], "cgroup.procs").write_text(str(os.getpid()))
start_existing(RunLayout(Path(sys.argv[2])))
"""


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group whose processes may have 150 MB in all."""
    for parent, limit in (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
        (Path("/sys/fs/cgroup"), "memory.max"),
    ):
        group = parent / f"tui-trainer-test-{os.getpid()}"
        try:
            group.mkdir()
            (group / limit).write_text("150000000")
        except OSError:
            with contextlib.suppress(OSError):
                group.rmdir()
            continue
        yield group
        eventually(lambda group=group: not (group / "cgroup.procs").read_text())  # type: ignore[misc]
        group.rmdir()
        return
    pytest.skip("no control group can be made here")


def test_out_of_memory_is_told_from_a_kill(bench: Bench, small_group: Path) -> None:
    layout = bench.run(argv=python("held = b'x' * 600_000_000"))
    command = [sys.executable, "-c", START_IN_GROUP, str(small_group), str(layout.root)]
    subprocess.run(command, check=True)
    assert wait_until_over(layout, 30)
    status = read_status(layout)
    assert (status.state, status.reason, status.exit_code) == (State.FAILED, "out_of_memory", -9)


def fill(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as filler:
        while filler.write(b"x" * 4096):
            pass


def test_a_full_disk_does_not_end_the_supervisor(bench: Bench, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs a small file system of its own, which only root may mount")
    small = tmp_path / "small"
    small.mkdir()
    if os.system(f"mount -t tmpfs -o size=256k tmpfs {small} 2>/dev/null") != 0:
        pytest.skip("no file system can be mounted here")
    try:
        on_small = Bench(small / "runs")
        layout = on_small.run({"FAKE_IGNORE_CONTROL": "1"}, argv=python("import time; time.sleep(4)"))
        start_existing(layout)
        fill(small / "filler")
        eventually(lambda: not on_small.processes(layout))
        (small / "filler").unlink()
        assert wait_until_over(layout, 30)
        assert read_status(layout).state is State.FAILED
        assert isinstance(events(layout)[-1], RunFailed)
        on_small.close()
    finally:
        os.system(f"umount -l {small}")
