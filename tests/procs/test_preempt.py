"""Under Slurm: the job is signalled, the run saves, the job is queued again and goes on. Slurm is scripts here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.procs.conftest import HERE, Bench, eventually
from tui_trainer.config.schema import RunConfig
from tui_trainer.config.slurm import JOB_SCRIPT, SUBMIT_SCRIPT, slurm_files
from tui_trainer.errors import ExitCode
from tui_trainer.procs.orders import LaunchOrder, StopOrder
from tui_trainer.procs.preempt import save_in_time, was_preempted
from tui_trainer.procs.proctree import MARK, mark_for
from tui_trainer.procs.spawn import start_existing
from tui_trainer.procs.stop import request_stop, wait_until_over
from tui_trainer.runs.events import RunFinished, RunStopped
from tui_trainer.runs.journal import JournalWriter
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.status import State, read_status
from tui_trainer.runs.store import create

SLURM = {
    # runs the job, again and again as long as it was asked to be queued again; its shell's pid is the job's
    "sbatch": """
        echo "4711;cluster"
        cd "{tools}"
        while :; do
            : > running
            SLURM_JOB_ID=4711 SLURM_JOB_NODELIST=localhost bash "{root}/{job}" & echo $! > shell
            wait $!; code=$?
            [ -e requeue ] || break
            rm requeue
        done
        rm running
        exit $code""",
    "scontrol": 'if [ "$1" = requeue ]; then touch "{tools}/requeue"; else echo localhost; fi',
    "srun": 'shift; exec "$@"',
    "squeue": 'if [ -e "{tools}/running" ]; then echo RUNNING; fi',
    "scancel": 'kill "$(cat "{tools}/shell")"',
}


@pytest.fixture
def job(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[RunLayout, Path]:
    """A run under Slurm whose ranks are at work, and the file with the pid of its job."""
    tools = tmp_path / "slurm"
    tools.mkdir()
    layout = bench.run()
    for name, text in SLURM.items():
        (tools / name).write_text("#!/bin/bash\n" + text.format(tools=tools, root=layout.root, job=JOB_SCRIPT))
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    config = RunConfig.model_validate({"launch": {"backend": "slurm", "grace_seconds": 10.0}})
    program = (sys.executable, str(HERE / "fake_trainer.py"))
    env = {MARK: mark_for(layout.root)}
    for name, text in slurm_files(config, layout.root, env, program, (), ()).items():
        (layout.root / name).write_text(text)
    command = ("bash", str(layout.root / SUBMIT_SCRIPT))
    LaunchOrder(command, cwd=str(bench.root), grace_seconds=10.0, requeues=True).write(layout)
    start_existing(layout)
    bench.await_work(layout)
    return layout, tools / "shell"


@pytest.mark.e2e
def test_a_job_whose_time_is_up_saves_and_goes_on(bench: Bench, job: tuple[RunLayout, Path]) -> None:
    layout, shell = job
    first = shell.read_text()
    os.kill(int(first), signal.SIGUSR1)
    eventually(lambda: shell.read_text() not in ("", first), "the job is queued again")
    eventually(lambda: layout.events.read_text().count('"RunStarted"') == 2, "the run goes on")
    eventually(lambda: read_status(layout).state is State.RUNNING)
    assert "asked to stop by preemption" in layout.events.read_text()
    assert request_stop(layout)
    assert wait_until_over(layout, 30)
    assert bench.processes(layout) == set()
    assert (read_status(layout).state, read_status(layout).reason) == (State.STOPPED, "requested")


@pytest.mark.e2e
def test_a_cancelled_job_is_not_queued_again(bench: Bench, job: tuple[RunLayout, Path]) -> None:
    layout, shell = job
    os.kill(int(shell.read_text()), signal.SIGTERM)
    assert wait_until_over(layout, 30)
    assert layout.events.read_text().count('"RunStarted"') == 1
    assert (read_status(layout).state, read_status(layout).reason) == (State.STOPPED, "preempted")


@pytest.mark.parametrize(
    ("final", "stop", "expected"),
    [
        (RunStopped(reason="asked to stop by preemption"), None, True),
        (RunStopped(reason="asked to stop by SIGTERM"), None, True),
        (RunStopped(reason="asked to stop by me"), None, False),
        (RunStopped(reason="asked to stop by SIGTERM"), StopOrder(is_now=True, by="me"), False),
        (RunStopped(reason="asked to stop by preemption"), StopOrder(by="preemption"), True),
        (RunFinished(), None, False),
    ],
)
def test_who_took_the_machine_away(final: RunStopped | RunFinished, stop: StopOrder | None, expected: bool) -> None:
    assert was_preempted(final, stop) is expected


def test_exit_code_of_the_saver(tmp_path: Path) -> None:
    layout = create("run", "", {}, root=tmp_path)
    assert save_in_time(layout, 0.0) is ExitCode.PREEMPTED
    command = [sys.executable, "-m", "tui_trainer.procs.preempt", str(layout.root), "20"]
    saver = subprocess.Popen(command)
    eventually(lambda: len(list(layout.control.glob("*.json"))) == 2)
    with JournalWriter(layout.events) as journal:
        journal.write(RunFinished(step=3))
    assert saver.wait(20) == ExitCode.DONE
