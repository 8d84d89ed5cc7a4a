"""Runs are made private, found by what users call them, and listed although some are damaged."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tui_trainer.errors import MachineError, UsageError
from tui_trainer.runs.files import read_json, write_json
from tui_trainer.runs.layout import RunLayout, checkpoint_step
from tui_trainer.runs.status import State, read_status
from tui_trainer.runs.store import (
    create,
    find_checkpoint,
    find_run,
    left_checkpoints,
    list_checkpoints,
    list_runs,
    read_run,
    split_checkpoint,
)


def with_checkpoints(layout: RunLayout, *steps: int) -> RunLayout:
    for step in steps:
        layout.checkpoint(step).mkdir()
        (layout.checkpoint(step) / "weights").write_bytes(b"x" * step)
    return layout


def test_a_new_run(tmp_path: Path) -> None:
    layout = create("first", "name = 'first'\n", {"parent": None, "argv": ["a"]}, root=tmp_path / "store")
    assert layout.config.read_text() == "name = 'first'\n"
    info = read_json(layout.run)
    assert info is not None
    assert (info["id"], info["name"], info["argv"]) == (layout.id, "first", ["a"])
    assert abs(info["created"] - time.time()) < 60
    assert read_status(layout).state is State.QUEUED
    for path in (layout.root, *layout.root.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_store_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match="cannot be written"):
        create("x", "", {}, root=tmp_path / "file" / "store")


def test_the_newest_run_comes_first_and_damaged_ones_do_not_hide_the_rest(tmp_path: Path) -> None:
    layouts = [create(name, "", {}, root=tmp_path) for name in ("a", "b", "c")]
    for age, layout in enumerate(layouts):
        write_json(layout.run, (read_json(layout.run) or {}) | {"created": 1000.0 + age})
    layouts[1].run.write_text("{torn")
    layouts[0].status.unlink()
    (tmp_path / "no-run").mkdir()
    (tmp_path / "file").write_text("")
    runs = list_runs(tmp_path)
    assert [run.id for run in runs] == [layouts[2].id, layouts[0].id, layouts[1].id]
    assert runs[2].name == layouts[1].id
    assert runs[1].status.state is State.LOST
    assert list_runs(tmp_path / "nothing") == []


def test_a_run_is_found_by_all_its_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = create("alpha", "", {}, root=tmp_path)
    other = create("beta", "", {}, root=tmp_path)
    for reference in (layout.id, "alpha", "al", layout.id[:-1], str(layout.root)):
        assert find_run(reference, tmp_path).root == layout.root
    monkeypatch.chdir(tmp_path)
    assert find_run(f"./{other.id}").root == other.root
    monkeypatch.setenv("TUI_TRAINER_RUNS", str(tmp_path))
    assert find_run("beta").root == other.root


def test_of_several_runs_of_a_name_the_newest_is_meant(tmp_path: Path) -> None:
    old, new = (create("same", "", {}, root=tmp_path) for _ in range(2))
    write_json(old.run, (read_json(old.run) or {}) | {"created": 1.0})
    assert find_run("same", tmp_path) == new
    with pytest.raises(UsageError, match="2 runs begin with 'sam'"):
        find_run("sam", tmp_path)


@pytest.mark.parametrize("reference", ["nothing", "", "~nobody-of-that-name/x", "a\0b", "x" * 5000, "../..", "/"])
def test_what_is_no_run(tmp_path: Path, reference: str) -> None:
    create("alpha", "", {}, root=tmp_path)
    with pytest.raises(UsageError, match="there is no run"):
        find_run(reference, tmp_path)


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("alpha", ("alpha", "latest")),
        ("alpha@120", ("alpha", "120")),
        ("alpha@best", ("alpha", "best")),
        ("runs/a@b@latest", ("runs/a@b", "latest")),
        ("user@host", ("user@host", "latest")),
    ],
)
def test_checkpoint_references(reference: str, parts: tuple[str, str]) -> None:
    assert split_checkpoint(reference) == parts


def test_checkpoints(tmp_path: Path) -> None:
    layout = with_checkpoints(create("alpha", "", {}, root=tmp_path), 5, 40, 1_000_000)
    (layout.checkpoints / "step-oops").mkdir()
    (layout.checkpoints / "step-000007").write_text("a file")
    layout.latest.symlink_to(layout.checkpoint(40))
    write_json(layout.checkpoints / "best.json", {"step": 40})
    assert [(found.step, found.bytes) for found in list_checkpoints(layout)] == [(5, 5), (40, 40), (10**6, 10**6)]
    assert find_checkpoint(layout).step == 10**6
    assert find_checkpoint(layout, "best").step == 40
    assert find_checkpoint(layout, "5").path == layout.checkpoint(5)
    with pytest.raises(UsageError, match="no checkpoint '6'; it has 5, 40, 1000000"):
        find_checkpoint(layout, "6")


def test_a_run_without_checkpoint(tmp_path: Path) -> None:
    layout = create("alpha", "", {}, root=tmp_path)
    with pytest.raises(UsageError, match="no checkpoint yet"):
        find_checkpoint(layout)
    assert checkpoint_step(Path("step-000012")) == 12
    assert checkpoint_step(Path("step-")) is None
    assert read_run(layout).name == "alpha"


def test_where_the_checkpoints_of_a_branch_that_was_left_are(tmp_path: Path) -> None:
    layout = create("x", "", {}, root=tmp_path)
    layout.checkpoint(4).mkdir()
    for branch in ("2", "10", "notes"):
        (layout.superseded / branch / "step-000008").mkdir(parents=True)
    with pytest.raises(UsageError, match="a branch that the run left") as caught:
        find_checkpoint(layout, "8")
    assert str(layout.superseded / "10" / "step-000008") in caught.value.remedy
    assert f"--resume {layout.id}@8" in caught.value.remedy
    (layout.superseded / "2" / "step-000004").mkdir()
    assert [(found.step, found.path.parent.name) for found in left_checkpoints(layout)] == [(8, "10")]
    with pytest.raises(UsageError, match=r"no checkpoint '12'; it has 4$"):
        find_checkpoint(layout, "12")


def test_the_best_of_a_run_that_was_not_evaluated_where_it_was_saved(tmp_path: Path) -> None:
    layout = create("x", "", {}, root=tmp_path)
    layout.checkpoint(4).mkdir()
    with pytest.raises(UsageError, match="none was saved at the step of an evaluation") as caught:
        find_checkpoint(layout, "best")
    assert "one of 4" in caught.value.remedy
