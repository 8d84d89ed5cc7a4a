"""Run directories as they should not be: each gives a sentence, and the run at work in it goes on unharmed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.procs.conftest import Bench, eventually
from tui_trainer.errors import MachineError, UsageError
from tui_trainer.procs.spawn import start_existing
from tui_trainer.procs.stop import request_stop, wait_until_over
from tui_trainer.runs import control
from tui_trainer.runs.files import read_json, write_json
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.snapshot import RunReader
from tui_trainer.runs.status import State, read_status
from tui_trainer.runs.store import create

pytestmark = pytest.mark.e2e

GARBAGE = [
    b"",
    b"\0" * 4096,
    b"{torn",
    b"[1, 2]\n",
    b'"text"\n',
    b'{"v": 1, "type": "StepMetrics", "step": "many"}\n',
    b'{"v": 99, "type": "Telepathy", "step": 3, "thought": "?"}\n',
    b'{"v": 1, "type": 7, "seq": []}\n',
    b"\xff\xfe\x9b\x1b]52;c;AA==\x07\n",
    b"[" * 100_000 + b"\n",
    b'{"pid": 1e999, "state": 7, "step": "NaN", "heartbeat": -1e308, "boot_id": [], "host": null}\n',
]


def ends_well(bench: Bench, layout: RunLayout) -> None:
    assert bench.goes_on(layout)
    eventually(lambda: read_status(layout).state is State.RUNNING)
    assert request_stop(layout)
    assert wait_until_over(layout, 30)
    assert bench.processes(layout) == set()
    assert read_status(layout).state is State.STOPPED


def test_garbage_among_the_events(bench: Bench) -> None:
    layout = bench.started()
    for garbage in GARBAGE:
        with layout.events.open("ab") as file:
            file.write(b"\n" + garbage + b"\n")
    eventually(lambda: read_status(layout).step > 3)
    reader = RunReader(layout)
    reader.advance(5.0)
    assert reader.view.num_torn >= len(GARBAGE) - 3
    assert reader.view.last is not None
    ends_well(bench, layout)


def test_garbage_for_a_status(bench: Bench) -> None:
    layout = bench.started()
    for garbage in GARBAGE:
        layout.status.write_bytes(garbage)
        status = read_status(layout)
        assert status.state in (State.LOST, State.RUNNING)
        assert status.state is State.RUNNING or status.remedy
    ends_well(bench, layout)


def test_garbage_in_the_mailbox_and_for_orders(bench: Bench) -> None:
    layout = bench.started()
    for at, garbage in enumerate(GARBAGE):
        (layout.control / f"{time.time_ns():020d}-{at:08x}.json").write_bytes(garbage)
    (layout.control / "00000000000000000001-aaaaaaaa.json").mkdir()
    os.mkfifo(layout.control / "00000000000000000002-aaaaaaaa.json")
    (layout.control / "00000000000000000003-aaaaaaaa.json").symlink_to("/etc/passwd")
    eventually(lambda: not control.pending(layout))
    for garbage in GARBAGE:
        layout.rank(5).write_bytes(garbage)
        layout.launch.write_bytes(garbage)
    ends_well(bench, layout)
    with pytest.raises(UsageError, match="does not say what to start"):
        start_existing(layout)


def test_an_order_to_stop_that_is_garbage_is_the_mildest(bench: Bench) -> None:
    layout = bench.started()
    layout.stop_request.write_bytes(b"{torn")
    assert wait_until_over(layout, 30)
    assert (read_status(layout).state, read_status(layout).reason) == (State.STOPPED, "requested")


def test_a_run_of_a_newer_version(bench: Bench) -> None:
    layout = bench.run()
    write_json(layout.launch, (read_json(layout.launch) or {}) | {"version": 99, "telepathy": True})
    with pytest.raises(UsageError, match="written by a newer tui-trainer"):
        start_existing(layout)
    newer = {"version": 99, "state": "dreaming", "step": 7, "loss": 1.5, "dream": {}}
    write_json(layout.status, newer)
    status = read_status(layout)
    assert (status.state, status.step, status.loss) == (State.LOST, 7, 1.5)


def test_a_clock_that_was_set_back(bench: Bench) -> None:
    layout = bench.started()
    status = read_json(layout.status) or {}
    write_json(layout.status, status | {"heartbeat": time.time() + 86_400})
    assert read_status(layout).state is State.RUNNING
    with layout.events.open("a") as file:
        late = {"v": 1, "seq": 10**6, "t": time.time() + 86_400, "type": "StepMetrics", "step": 2, "loss": 1.0}
        file.write(json.dumps(late) + "\n")
    command = control.send(layout, "save")
    eventually(lambda: f'"id":"{command.id}"' in layout.events.read_text())
    ends_well(bench, layout)


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[Path]:
    """A file system of its own."""
    folder.mkdir()
    if os.geteuid() != 0 or os.system(f"mount -t tmpfs -o {options} tmpfs {folder} 2>/dev/null") != 0:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        os.system(f"umount -l {folder}")


def fill_inodes(folder: Path) -> list[Path]:
    """Make files until no more can be made; returns them."""
    made = []
    try:
        for at in range(10_000):
            (folder / str(at)).touch()
            made.append(folder / str(at))
    except OSError:
        return made
    raise AssertionError("the inodes never ran out")


def test_a_full_inode_table(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "size=4m,nr_inodes=60") as small:
        bench = Bench(small / "runs")
        layout = bench.started()
        filled = fill_inodes(small)
        assert bench.goes_on(layout), "a run that can write no new file goes on"
        with pytest.raises(MachineError, match="cannot be written"):
            create("second", "", {}, root=small / "runs")
        with pytest.raises(MachineError, match="cannot be written: No space left"):
            request_stop(layout)
        for path in filled:
            path.unlink()
        ends_well(bench, layout)
        bench.close()


def test_a_disk_that_is_read_only(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "size=4m") as small:
        bench = Bench(small / "runs")
        layout = bench.run()
        assert os.system(f"mount -o remount,ro {small}") == 0
        with pytest.raises(MachineError, match="cannot be written: Read-only"):
            start_existing(layout)
        with pytest.raises(MachineError, match="cannot be written: Read-only"):
            create("second", "", {}, root=small / "runs")
        assert read_status(layout).state is State.QUEUED


STRANGER = """
import os, sys
from pathlib import Path
from tui_trainer.errors import RefusedError
from tui_trainer.runs.store import find_run, hidden_runs, list_runs
root = Path(sys.argv[1])
os.setgid(65534)
os.setuid(65534)
print(len(list_runs(root)), *hidden_runs(root))
try:
    find_run(sys.argv[2], root)
except RefusedError as error:
    print("refused:", error.what)
"""


def test_runs_of_another_user() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can act as another user")
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder) / "runs")
        layout = bench.started()
        assert (layout.root.stat().st_mode & 0o777, bench.root.stat().st_mode & 0o777) == (0o700, 0o700)
        Path(folder).chmod(0o755)
        words = told_to_a_stranger(bench.root, layout.id)[0]
        assert words.endswith("runs cannot be read: Permission denied; it belongs to root")
        bench.root.chmod(0o755)
        words = f"{layout.id} cannot be read; it belongs to root"
        assert told_to_a_stranger(bench.root, layout.id) == [f"0 {words}", f"refused: {words}"]
        ends_well(bench, layout)
        bench.close()


def told_to_a_stranger(root: Path, run: str) -> list[str]:
    command = [sys.executable, "-c", STRANGER, str(root), run]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
