"""Processes are found wherever they hide, and only the one meant is signalled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.procs.conftest import eventually
from tui_trainer.procs import lock
from tui_trainer.procs.proctree import MARK, ProcessKey, descendants, describe, marked, session_members
from tui_trainer.runs.identity import ProcessIdentity, start_time
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.status import RunStatus, State, write_status
from tui_trainer.runs.store import create

FAMILY = """
import os, subprocess, sys, time
code = "import os, time; os.setsid(); print('ready', flush=True); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
print(child.pid, child.stdout.readline().decode().strip(), flush=True)
time.sleep(600)
"""


def start(code: str, **environment: str) -> tuple[subprocess.Popen[bytes], bytes]:
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ, **environment})
    assert process.stdout is not None
    return process, process.stdout.readline()


def end(process: subprocess.Popen[bytes]) -> None:
    for key in descendants(process.pid):
        key.send(signal.SIGKILL)
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_family_is_found_across_sessions(tmp_path: Path) -> None:
    link = tmp_path / "link"
    (tmp_path / "run").mkdir()
    link.symlink_to(tmp_path / "run")
    process, line = start(FAMILY, **{MARK: str(tmp_path / "run")})
    child = int(line.split()[0])
    assert {key.pid for key in descendants(process.pid)} == {child}
    assert {key.pid for key in marked(tmp_path / "run")} == {process.pid, child}
    assert marked(link) == marked(tmp_path / "run")
    assert marked(tmp_path) == set()
    assert {key.pid for key in session_members(child)} == {child}
    assert describe(ProcessKey(child, 0)).startswith(Path(sys.executable).name[:15])
    end(process)


def test_signal_hits_the_process_that_is_meant_and_no_other() -> None:
    process, _ = start("import time; print(flush=True); time.sleep(600)")
    key = ProcessKey.of(process.pid)
    assert key is not None
    assert not ProcessKey(key.pid, key.start_time - 1).send(signal.SIGKILL)
    assert process.poll() is None
    assert key.send(signal.SIGKILL)
    process.wait()
    assert not key.send(signal.SIGKILL)
    assert not key.is_alive
    assert ProcessKey.of(key.pid) is None
    assert describe(key) == "gone"
    end(process)


def test_zombie_is_gone_unless_its_threads_go_on() -> None:
    code = (
        "import ctypes, threading, time\n"
        "threading.Thread(target=time.sleep, args=(600,)).start()\n"
        "print(flush=True)\n"
        "ctypes.CDLL(None).pthread_exit(None)"
    )
    process, _ = start(code)
    stat = Path(f"/proc/{process.pid}/stat")
    eventually(lambda: stat.read_text().rpartition(")")[2].split()[0] == "Z")
    assert start_time(process.pid) is not None
    os.kill(process.pid, signal.SIGKILL)
    eventually(lambda: start_time(process.pid) is None)
    end(process)


def test_lock_has_one_holder_and_a_look_does_not_take_it(tmp_path: Path) -> None:
    layout = create("locked", "", {}, root=tmp_path)
    assert not lock.is_held(layout)
    descriptor = lock.acquire(layout)
    assert descriptor is not None
    assert lock.is_held(layout)
    assert lock.acquire(layout) is None
    os.close(descriptor)
    assert not lock.is_held(layout)


def test_looks_at_a_free_lock_never_refuse_a_holder(tmp_path: Path) -> None:
    layout = create("locked", "", {}, root=tmp_path)
    layout.lock.touch()
    has_ended = threading.Event()

    def look() -> None:
        while not has_ended.is_set():
            lock.is_held(layout)

    watchers = [threading.Thread(target=look) for _ in range(3)]
    for watcher in watchers:
        watcher.start()
    try:
        for _ in range(100):
            descriptor = lock.acquire(layout)
            assert descriptor is not None
            os.close(descriptor)
    finally:
        has_ended.set()
        for watcher in watchers:
            watcher.join()


def test_without_a_lock_file_nobody_holds_the_run(tmp_path: Path) -> None:
    assert not lock.is_held(RunLayout(tmp_path / "nothing"))


@pytest.mark.parametrize("is_holder_alive", [True, False])
def test_where_the_file_system_has_no_locks_the_recorded_process_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_holder_alive: bool
) -> None:
    def unsupported(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", unsupported)
    layout = create("locked", "", {}, root=tmp_path)
    layout.lock.touch()
    process, _ = start("import time; print(flush=True); time.sleep(600)")
    write_status(layout, RunStatus(layout.id, State.RUNNING, process=ProcessIdentity.of(process.pid)))
    if not is_holder_alive:
        process.kill()
        process.wait()
    assert lock.is_held(layout) is is_holder_alive
    assert (lock.acquire(layout) is None) is is_holder_alive
    end(process)
