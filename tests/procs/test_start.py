"""Creating and starting runs: what is recorded of them, and what is left when it fails."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.procs.conftest import HERE, Bench
from tui_trainer.config.launch import LaunchCommand
from tui_trainer.config.resolve import Resolved, resolve, typed_values
from tui_trainer.config.toml import read_document
from tui_trainer.errors import MachineError, RefusedError
from tui_trainer.procs.facts import git_commit, library_versions
from tui_trainer.procs.orders import LaunchOrder, StopOrder
from tui_trainer.procs.start import create_run, start_existing, start_run
from tui_trainer.procs.stop import request_stop, wait_until_over
from tui_trainer.runs.files import read_json
from tui_trainer.runs.status import State, read_status
from tui_trainer.runs.store import list_runs


def resolved(*assignments: str) -> Resolved:
    return resolve([typed_values(["name=trial", *assignments])])


def fake_command(*_: Any, **__: Any) -> LaunchCommand:
    return LaunchCommand((sys.executable, str(HERE / "fake_trainer.py")), {"FAKE_STEPS": "100000"}, {"extra.txt": "x"})


@pytest.fixture
def fake_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs start the fake trainer."""
    monkeypatch.setattr("tui_trainer.procs.start.launch_command", fake_command)


def test_created_run_holds_all_that_its_supervisor_needs(tmp_path: Path) -> None:
    token = "hf_canary0123456789canary"
    argv = ["tui-trainer", "train", "a.toml", "--set", f"launch.env.X_TOKEN={token}"]
    layout = create_run(resolved("training.max_steps=7"), argv=argv, parent="other", root=tmp_path)
    assert read_status(layout).state is State.QUEUED
    assert read_document(layout.config).tree["training"]["max_steps"] == 7
    info = read_json(layout.run)
    assert info is not None
    assert info["parent"] == "other"
    assert info["argv"] == [*argv[:-1], "launch.env.X_TOKEN=***"]
    assert info["versions"]["torch"]
    assert info["gpus"] == []
    assert {"git_commit", "cwd", "host", "num_cpus", "name", "id", "created"} <= set(info)
    order = LaunchOrder.read(layout)
    assert "accelerate.commands.launch" in order.argv
    assert order.argv[-1] == str(layout.root)
    assert order.cwd == str(Path.cwd())
    assert order.grace_seconds == 30.0
    assert (layout.root / "accelerate.yaml").exists()
    assert not [path for path in layout.root.rglob("*") if path.is_file() and token in path.read_text()]


@pytest.mark.e2e
def test_start_run_returns_once_a_supervisor_holds_it(bench: Bench, fake_launch: None) -> None:
    layout = start_run(resolved(), argv=["test"], root=bench.root)
    bench.layouts.append(layout)
    assert read_status(layout).state is State.STARTING
    assert (layout.root / "extra.txt").read_text() == "x"
    with pytest.raises(RefusedError, match="going on already"):
        start_existing(layout)
    bench.await_work(layout)
    assert request_stop(layout)
    assert wait_until_over(layout, 30)


@pytest.mark.e2e
def test_run_that_never_came_to_life_leaves_nothing(
    tmp_path: Path, fake_launch: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(MachineError, match="ended at once"):
        start_run(resolved(), argv=["test"], root=tmp_path)
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(MachineError, match="cannot be started"):
        start_run(resolved(), argv=["test"], root=tmp_path)
    assert list_runs(tmp_path) == []


def test_run_store_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="cannot be written"):
        create_run(resolved(), argv=[], root=tmp_path / "file")


def test_versions_are_read_without_importing() -> None:
    code = (
        "import sys\n"
        "from tui_trainer.procs.facts import library_versions\n"
        "versions = library_versions()\n"
        "import json; print(json.dumps([versions, sorted({m.split('.')[0] for m in sys.modules})]))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    versions, modules = json.loads(output)
    assert versions == library_versions()
    assert {"torch", "transformers", "datasets", "accelerate", "peft"} <= set(versions)
    assert not {"torch", "transformers", "datasets", "accelerate", "peft", "numpy"} & set(modules)


def test_git_commit(tmp_path: Path) -> None:
    assert git_commit(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    assert git_commit(tmp_path) is None
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    commit = git_commit(tmp_path)
    assert commit is not None
    assert len(commit) == 40
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    assert git_commit(inside) == commit


def test_orders_survive_the_way_through_their_files(tmp_path: Path) -> None:
    layout = create_run(resolved(), argv=[], root=tmp_path)
    order = LaunchOrder(("a", "b c"), {"X": "1"}, "/tmp", 3.5, 2)
    order.write(layout)
    assert LaunchOrder.read(layout) == order
    assert StopOrder.read(layout) is None
    StopOrder(is_now=True, by="me").write(layout)
    StopOrder(is_now=False, by="you").write(layout)
    assert StopOrder.read(layout) == StopOrder(is_now=True, by="you")
    layout.stop_request.write_text("garbage")
    assert StopOrder.read(layout) == StopOrder()
    StopOrder.withdraw(layout)
    StopOrder.withdraw(layout)
    assert StopOrder.read(layout) is None
