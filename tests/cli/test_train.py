"""`tui-trainer train` with a fake trainer: on a terminal, in a batch job, interrupted and left alone."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import CONFIG, Call
from tui_trainer.errors import ExitCode
from tui_trainer.procs.stop import request_stop, wait_until_over
from tui_trainer.runs.files import read_json
from tui_trainer.runs.status import State, read_status
from tui_trainer.runs.store import RunRecord, list_runs

DRIVER = Path(__file__).with_name("train_driver.py")
PATIENCE = 30.0


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    path = tmp_path / "trial.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(autouse=True)
def no_rest(store: Path) -> Iterator[None]:
    """Ends every run that a test left going."""
    yield
    for record in list_runs(store):
        if request_stop(record.layout, now=True):
            assert wait_until_over(record.layout, PATIENCE)


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def only_run(store: Path) -> RunRecord:
    (record,) = list_runs(store)
    return record


def is_running(store: Path) -> bool:
    return any(record.status.state is State.RUNNING and record.status.step > 2 for record in list_runs(store))


def start(config: Path, *words: str, **knobs: str) -> subprocess.Popen[str]:
    """A batch job: no terminal anywhere."""
    return subprocess.Popen(
        [sys.executable, str(DRIVER), "train", str(config), *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **knobs},
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
    )


class Terminal:
    """The command on a terminal of its own."""

    def __init__(self, config: Path, *words: str) -> None:
        self.seen = ""
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            command = [sys.executable, str(DRIVER), "train", str(config), *words]
            os.execve(sys.executable, command, {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"})

    def type(self, text: str) -> None:
        os.write(self.descriptor, text.encode())

    def read(self) -> None:
        while select.select([self.descriptor], [], [], 0.05)[0]:
            try:
                chunk = os.read(self.descriptor, 1 << 16)
            except OSError:
                return
            self.seen += chunk.decode("utf-8", "replace")

    def await_text(self, text: str) -> None:
        def is_there() -> bool:
            self.read()
            return re.search(text, self.seen) is not None

        eventually(is_there)

    def wait(self) -> int:
        """The exit code."""
        deadline = time.monotonic() + PATIENCE
        while True:
            self.read()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.descriptor)
                return os.waitstatus_to_exitcode(status)
            assert time.monotonic() < deadline, self.seen


def test_dry_run_shows_all_and_starts_nothing(call: Call, config: Path, store: Path) -> None:
    printed = call("train", str(config), "--dry-run", "--set", "learning_rate=3e-4", "--name", "other")
    assert printed.code == 0
    assert "accelerate launch" in printed.out
    assert "learning_rate = 0.0003" in printed.out
    assert 'name = "other"' in printed.out
    document = call("train", str(config), "--dry-run", "--json").json()
    assert document["argv"][1:3] == ["-m", "accelerate.commands.launch"]
    assert set(document["files"]) >= {"config.toml", "accelerate.yaml"}
    assert list_runs(store) == []


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["missing.toml"], ExitCode.USAGE, "no such file"),
        (["no-such-preset"], ExitCode.USAGE, "no preset"),
        (["trial.toml", "--set", "learning_rat=1"], ExitCode.USAGE, "did you mean"),
        (["trial.toml", "--set", "training.learning_rate=fast"], ExitCode.USAGE, "must be a number"),
        (["trial.toml", "--name", "../x"], ExitCode.USAGE, "name"),
        (["trial.toml", "--resume", "x@3"], ExitCode.USAGE, "there is no run"),
    ],
)
def test_what_cannot_be_started(
    call: Call, config: Path, store: Path, words: list[str], code: ExitCode, message: str
) -> None:
    printed = call("train", *words)
    assert printed.code == code
    assert message in printed.err
    assert list_runs(store) == []


def test_all_problems_are_reported_as_lines_and_as_json(call: Call, config: Path) -> None:
    config.write_text(CONFIG + "nonsense = 1\nwarmup_steps = 'many'\n")
    printed = call("train", str(config))
    assert printed.code == ExitCode.USAGE
    assert f"{config}:10: training.nonsense" in printed.err
    assert f"{config}:11: training.warmup_steps" in printed.err
    error = json.loads(call("train", str(config), "--json").err)["error"]
    assert {problem["key"] for problem in error["problems"]} == {"training.nonsense", "training.warmup_steps"}


@pytest.mark.e2e
def test_batch_job_to_the_end(config: Path, store: Path) -> None:
    job = start(config, FAKE_STEPS="20")
    out, err = job.communicate(timeout=PATIENCE)
    assert (job.returncode, out) == (0, "")
    assert "20 steps" in err
    assert "finished at step 20" in err
    assert "\x1b" not in err
    info = read_json(only_run(store).layout.run)
    assert info is not None
    assert info["argv"][1:] == ["train", str(config)]


@pytest.mark.e2e
def test_json_is_the_events_up_to_the_last(config: Path, store: Path) -> None:
    job = start(config, "--json", FAKE_STEPS="20")
    out, _ = job.communicate(timeout=PATIENCE)
    assert job.returncode == 0
    assert out == only_run(store).layout.events.read_text()
    assert json.loads(out.splitlines()[-1])["type"] == "RunFinished"


@pytest.mark.e2e
def test_failure_is_exit_code_1_with_reason_and_remedy(config: Path, store: Path) -> None:
    job = start(config, "--json", FAKE_CRASH="gpu")
    out, err = job.communicate(timeout=PATIENCE)
    assert job.returncode == ExitCode.FAILED
    last = json.loads(out.splitlines()[-1])
    assert (last["type"], last["reason"]) == ("RunFailed", "gpu_out_of_memory")
    error = json.loads(err.splitlines()[-1])["error"]
    assert "gpu_out_of_memory" in error["what"]
    assert "per_device_train_batch_size" in error["remedy"]


@pytest.mark.e2e
def test_unexplained_failure_shows_the_end_of_the_log(config: Path, store: Path) -> None:
    job = start(config, FAKE_CRASH="exit")
    _, err = job.communicate(timeout=PATIENCE)
    assert job.returncode == ExitCode.FAILED
    assert "library_error" in err
    assert "Traceback" not in err


@pytest.mark.e2e
def test_detach(config: Path, store: Path) -> None:
    job = start(config, "--detach", "--json")
    out, _ = job.communicate(timeout=PATIENCE)
    record = only_run(store)
    assert json.loads(out) == {"run": record.id, "path": str(record.layout.root)}
    eventually(lambda: is_running(store))
    job = start(config, "--detach")
    out, err = job.communicate(timeout=PATIENCE)
    assert out.strip() in {record.id for record in list_runs(store)}
    assert "goes on" in err


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("number", "code", "reason"),
    [
        (signal.SIGINT, ExitCode.INTERRUPTED, "requested"),
        (signal.SIGTERM, ExitCode.PREEMPTED, "preempted"),
        (signal.SIGUSR1, ExitCode.PREEMPTED, "preempted"),
    ],
)
def test_interrupted_batch_job_stops_and_saves(
    config: Path, store: Path, number: signal.Signals, code: ExitCode, reason: str
) -> None:
    job = start(config, "--json")
    eventually(lambda: is_running(store))
    job.send_signal(number)
    out, err = job.communicate(timeout=PATIENCE)
    assert job.returncode == code
    assert "saving and stopping" in err
    status = only_run(store).status
    assert (status.state, status.reason) == (State.STOPPED, reason)
    assert [json.loads(line)["type"] for line in out.splitlines()[-2:]] == ["CheckpointSaved", "RunStopped"]


@pytest.mark.e2e
def test_a_job_that_is_started_again_goes_on_with_its_run(config: Path, store: Path) -> None:
    job = start(config, "--continue")
    eventually(lambda: is_running(store))
    job.send_signal(signal.SIGTERM)
    job.communicate(timeout=PATIENCE)
    again = start(config, "--continue")
    eventually(lambda: is_running(store))
    again.send_signal(signal.SIGINT)
    _, err = again.communicate(timeout=PATIENCE)
    assert f"going on with {only_run(store).id}" in err
    # it ended as a user wanted it, so that the next start is a new one
    job = start(config, "--continue", "--detach")
    job.communicate(timeout=PATIENCE)
    assert len(list_runs(store)) == 2


@pytest.mark.e2e
def test_second_interruption_does_not_wait_for_the_save(config: Path, store: Path) -> None:
    job = start(config, FAKE_IGNORE_CONTROL="1")
    eventually(lambda: is_running(store))
    assert job.stderr is not None
    job.send_signal(signal.SIGINT)
    while "saving" not in job.stderr.readline():
        pass
    job.send_signal(signal.SIGINT)
    job.communicate(timeout=PATIENCE)
    assert job.returncode == ExitCode.INTERRUPTED
    assert only_run(store).status.reason == "terminated"


@pytest.mark.e2e
@pytest.mark.parametrize(("answer", "state"), [("s\n", State.STOPPED), ("l\n", State.RUNNING), ("\x03", State.RUNNING)])
def test_ctrl_c_on_a_terminal_asks(config: Path, store: Path, answer: str, state: State) -> None:
    terminal = Terminal(config)
    terminal.await_text(r"training.*loss")
    eventually(lambda: is_running(store))
    terminal.type("\x03")
    terminal.await_text(r"\[s\]top and save")
    terminal.type(answer)
    assert terminal.wait() == ExitCode.INTERRUPTED
    assert read_status(only_run(store).layout).state is state
    if state is State.RUNNING:
        assert "goes on" in terminal.seen


@pytest.mark.e2e
def test_going_on_watching_after_ctrl_c(config: Path, store: Path) -> None:
    terminal = Terminal(config)
    terminal.await_text(r"training.*loss")
    terminal.type("\x03")
    terminal.await_text(r"\[s\]top and save")
    terminal.type("nonsense\n")
    terminal.await_text(r"(?s)\[s\]top and save.*\[s\]top and save")
    terminal.type("w\n")
    terminal.seen = ""
    terminal.await_text("loss")
    request_stop(only_run(store).layout)
    assert terminal.wait() == 0


@pytest.mark.e2e
def test_a_lost_terminal_leaves_the_run_running(config: Path, store: Path) -> None:
    terminal = Terminal(config)
    terminal.await_text(r"training.*loss")
    os.close(terminal.descriptor)
    os.waitpid(terminal.pid, 0)
    step = only_run(store).status.step
    eventually(lambda: only_run(store).status.step > step)
