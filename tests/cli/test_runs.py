"""`tui-trainer runs` on runs that lie on the disk; no process is started."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import CONFIG, Call, made_run
from tui_trainer.errors import ExitCode
from tui_trainer.procs import lock
from tui_trainer.procs.orders import LaunchOrder
from tui_trainer.procs.queue import Queue
from tui_trainer.runs import control
from tui_trainer.runs.events import (
    CheckpointSaved,
    ControlApplied,
    EvalMetrics,
    Progress,
    RunFailed,
    RunFinished,
    RunStarted,
    RunStopped,
    StepMetrics,
)
from tui_trainer.runs.files import read_json, write_json
from tui_trainer.runs.journal import JournalWriter
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.status import State

STARTED = RunStarted(
    max_steps=10,
    num_epochs=1.0,
    num_rows=80,
    num_trainable_parameters=5,
    num_parameters=50,
    world_size=1,
    device="cpu",
)
WHOLE = (
    Progress(task="loading"),
    STARTED,
    StepMetrics(step=1, loss=2.0, learning_rate=1e-4, tokens_per_second=1000.0, step_seconds=0.1),
    EvalMetrics(step=10, extra={"eval_loss": 1.5, "eval_runtime": 3.0}),
    CheckpointSaved(step=10, path="x", bytes=2048, seconds=0.1),
    StepMetrics(step=10, loss=1.25),
)


def finished(store: Path, name: str = "alpha", **changes: Any) -> RunLayout:
    return made_run(
        store, name, State.FINISHED, *WHOLE, RunFinished(step=10), step=10, max_steps=10, loss=1.25, **changes
    )


def failed(store: Path, name: str = "broken", reason: str = "nan") -> RunLayout:
    end = RunFailed(step=3, reason=reason, message="the loss is \x1b[31mNaN", remedy="Lower the rate.")
    return made_run(
        store, name, State.FAILED, STARTED, end, step=3, reason=reason, message=end.message, remedy=end.remedy
    )


def live(store: Path, name: str = "going") -> RunLayout:
    return made_run(store, name, State.RUNNING, STARTED, StepMetrics(step=2, loss=1.0), step=2, max_steps=10)


def test_list(call: Call, store: Path) -> None:
    printed = call("runs")
    assert (printed.code, printed.out) == (0, "")
    assert "No runs" in printed.err
    layouts = [finished(store), failed(store), live(store)]
    printed = call("runs", "list")
    for layout in layouts:
        assert layout.id in printed.out
    assert "failed (nan)" in printed.out
    assert "1.25" in printed.out
    assert call("runs").out == printed.out
    assert call("runs", "--json").json()["runs"] == call("runs", "list", "--json").json()["runs"]
    document = call("runs", "list", "--json").json()
    assert document["version"] == 1
    assert {run["id"]: run["state"] for run in document["runs"]} == {
        layouts[0].id: "finished",
        layouts[1].id: "failed",
        layouts[2].id: "running",
    }


def test_show(call: Call, store: Path) -> None:
    layout = failed(store)
    printed = call("runs", "show", "broken")
    assert "nan: the loss is ␛[31mNaN" in printed.out
    assert "Lower the rate." in printed.out
    assert "torch 2.13" in printed.out
    document = call("runs", "show", layout.id, "--json").json()
    assert document["run"]["name"] == "broken"
    assert document["status"]["reason"] == "nan"
    assert document["checkpoints"] == []
    assert call("runs", "show", "nothing").code == ExitCode.USAGE


def test_show_tells_whole_checkpoints_from_damaged_ones(call: Call, store: Path) -> None:
    from tui_trainer.engine.trainer.manifest import write_manifest

    layout = finished(store)
    for step in (5, 10, 15):
        layout.checkpoint(step).mkdir()
        (layout.checkpoint(step) / "weights").write_bytes(b"w" * step)
        write_manifest(layout.checkpoint(step), step)
    write_json(layout.checkpoints / "best.json", {"step": 5})
    (layout.checkpoint(10) / "weights").write_bytes(b"short")
    (layout.checkpoint(15) / "weights").write_bytes(b"W" * 15)

    def verified(*options: str) -> dict[int, bool]:
        checkpoints = call("runs", "show", "alpha", "--json", *options).json()["checkpoints"]
        assert [checkpoint["step"] for checkpoint in checkpoints if checkpoint["is_best"]] == [5]
        assert set(checkpoints[0]) == {"step", "path", "bytes", "verified", "is_best"}
        return {checkpoint["step"]: checkpoint["verified"] for checkpoint in checkpoints}

    assert verified() == {5: True, 10: False, 15: True}
    assert verified("--verify") == {5: True, 10: False, 15: False}
    printed = call("runs", "show", "alpha").out
    assert "step 5" in printed
    assert "best" in printed
    assert "damaged" in printed


def test_watch_prints_the_events_as_they_stand_in_the_file(call: Call, store: Path) -> None:
    layout = finished(store)
    printed = call("runs", "watch", "alpha", "--json")
    assert printed.code == 0
    assert printed.out == layout.events.read_text()
    assert json.loads(printed.out.splitlines()[-1])["type"] == "RunFinished"


def test_watch_for_people(call: Call, store: Path) -> None:
    finished(store)
    printed = call("runs", "watch", "alpha")
    assert printed.out == ""
    assert "80 rows, 10 steps" in printed.err
    assert "step 10: eval_loss 1.5" in printed.err
    assert "eval_runtime" not in printed.err
    assert "saved 2.0 KiB" in printed.err
    assert "finished at step 10" in printed.err


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_watch_of_a_failure(call: Call, store: Path, as_json: list[str]) -> None:
    failed(store)
    printed = call("runs", "watch", "broken", *as_json)
    assert printed.code == ExitCode.FAILED
    assert "the run failed (nan)" in printed.err
    assert "\x1b" not in printed.err
    assert not as_json or json.loads(printed.out.splitlines()[-1])["type"] == "RunFailed"


@pytest.mark.parametrize(
    ("reason", "code"),
    [("data", ExitCode.USAGE), ("hub", ExitCode.LACKING), ("gpu_out_of_memory", ExitCode.FAILED)],
)
def test_the_exit_code_tells_whose_fault_it_was(call: Call, store: Path, reason: str, code: ExitCode) -> None:
    failed(store, reason=reason)
    printed = call("runs", "watch", "broken")
    assert printed.code == code
    assert f"({reason})" in printed.err
    assert "Lower the rate." in printed.err


def test_watch_of_a_lost_run_ends_with_a_final_event_all_the_same(call: Call, store: Path) -> None:
    layout = live(store)
    write_json(layout.status, (read_json(layout.status) or {}) | {"start_time": 1})
    before = layout.events.read_bytes()
    printed = call("runs", "watch", "going", "--json")
    assert printed.code == ExitCode.FAILED
    last = json.loads(printed.out.splitlines()[-1])
    assert (last["type"], last["reason"]) == ("RunFailed", "lost")
    assert layout.events.read_bytes() == before


def test_watch_goes_on_after_an_earlier_end(call: Call, store: Path) -> None:
    made_run(store, "again", State.FINISHED, STARTED, RunStopped(step=1), STARTED, RunFinished(step=10), step=10)
    types = [json.loads(line)["type"] for line in call("runs", "watch", "again", "--json").out.splitlines()]
    assert types == ["RunStarted", "RunStopped", "RunStarted", "RunFinished"]


def test_log(call: Call, store: Path) -> None:
    layout = finished(store)
    layout.train_log.write_bytes(b"".join(b"line %d\n" % number for number in range(100)) + b"10%\r50%\r100%\n")
    assert call("runs", "log", "alpha", "-n", "2").out == "line 99\n100%\n"
    assert len(call("runs", "log", "alpha").out.splitlines()) == 50
    assert len(call("runs", "log", "alpha", "-n", "0").out.splitlines()) == 101
    assert call("runs", "log", "alpha", "--follow", "-n", "1").out == "100%\n"
    lines = call("runs", "log", "alpha", "-n", "1", "--json").out
    assert json.loads(lines) == {"text": "100%"}


def test_log_is_harmless_on_a_terminal_and_exact_in_a_pipe(call: Call, store: Path) -> None:
    layout = finished(store)
    layout.train_log.write_bytes(b"\x1b]52;c;aGVsbG8=\x07 \xc2\x9b31m\n")
    command = [sys.executable, "-m", "tui_trainer", "runs", "log", "alpha"]
    assert subprocess.run(command, capture_output=True, check=True).stdout == layout.train_log.read_bytes()
    shown = subprocess.run(["script", "-qec", " ".join(command), "/dev/null"], capture_output=True, check=True).stdout
    assert b"\x1b" not in shown
    assert b"\xc2\x9b" not in shown
    assert "␛]52".encode() in shown


def acknowledge(layout: RunLayout, **answer: Any) -> threading.Thread:
    """Behave as the trainer does when it finds a command."""

    def work() -> None:
        while not (commands := control.pending(layout)):
            pass
        with JournalWriter(layout.events) as journal:
            (command,) = commands
            control.remove(layout, command)
            journal.write(ControlApplied(step=7, command=command.name, id=command.id, **answer))

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_commands_reach_the_mailbox(call: Call, store: Path) -> None:
    layout = live(store)
    assert call("runs", "set", "going", "learning_rate=2e-5", "training.save_steps=50").code == 0
    assert call("runs", "set", "going", "learning_rate=x0.5").code == 0
    for name in ("save", "eval", "sample", "pause", "continue"):
        document = call("runs", name, "going", "--json").json()
        assert (document["command"], document["answer"]) == (name, None)
    commands = control.pending(layout)
    assert [command.name for command in commands] == ["set", "set", "save", "eval", "sample", "pause", "continue"]
    assert commands[0].arguments == {"learning_rate": 2e-5, "save_steps": 50.0}
    assert commands[1].arguments == {"learning_rate": "x0.5"}
    assert {command.by for command in commands} == {"command line"}


def test_waiting_for_an_acknowledgement(call: Call, store: Path) -> None:
    layout = live(store)
    trainer = acknowledge(layout, new={"learning_rate": 2e-5})
    document = call("runs", "set", "going", "learning_rate=2e-5", "--wait", "--json").json()
    trainer.join()
    assert document["answer"]["step"] == 7
    assert document["answer"]["new"] == {"learning_rate": 2e-5}
    trainer = acknowledge(layout, error="max_steps cannot be changed")
    printed = call("runs", "set", "going", "max_steps=3", "--wait")
    trainer.join()
    assert printed.code == ExitCode.REFUSED
    assert "max_steps cannot be changed" in printed.err


def test_the_answer_in_words_and_the_options_of_a_command(call: Call, store: Path) -> None:
    layout = live(store)
    old, new = {"max_steps": 10, "weight_decay": 0.1}, {"max_steps": 30, "schedule": "keep", "weight_decay": 0.1 * 3}
    answer = {"old": old, "new": new, "latency_seconds": 0.25}
    trainer = acknowledge(layout, **answer)
    printed = call("runs", "set", "going", "max_steps=30", "--schedule", "keep", "--wait")
    trainer.join()
    assert "set: done at step 7 after 0.2 s: max_steps 10 → 30, schedule keep, weight_decay 0.1 → 0.3" in printed.err
    assert call("runs", "set", "going", "max_steps=30", "--schedule", "keep").code == 0
    assert call("runs", "pause", "going", "--offload").code == 0
    assert [command.arguments for command in control.pending(layout)] == [
        {"max_steps": 30, "schedule": "keep"},
        {"offload": True},
    ]


@pytest.mark.parametrize("words", [["set", "alpha", "a=1"], ["save", "alpha"], ["pause", "alpha", "--wait"]])
def test_a_run_that_is_over_takes_no_commands(call: Call, store: Path, words: list[str]) -> None:
    layout = finished(store)
    printed = call("runs", *words)
    assert printed.code == ExitCode.REFUSED
    assert "the run is finished" in printed.err
    assert control.pending(layout) == []


@pytest.mark.parametrize("assignment", ["learning_rate", "=3", "learning_rate="])
def test_what_is_no_assignment(call: Call, store: Path, assignment: str) -> None:
    live(store)
    printed = call("runs", "set", "going", assignment)
    assert printed.code == ExitCode.USAGE
    assert "no assignment" in printed.err


@pytest.mark.parametrize(
    ("assignment", "why"),
    [
        ("learning_rate=fast", "a number as 1e-4"),
        ("training.save_steps=1.5", "a whole number of steps"),
        ("lora.r=8", "cannot be changed while a run goes on; learning_rate, weight_decay"),
    ],
)
def test_what_no_run_can_take_is_refused_at_once(call: Call, store: Path, assignment: str, why: str) -> None:
    layout = live(store)
    printed = call("runs", "set", "going", assignment)
    assert printed.code == ExitCode.USAGE
    assert why in printed.err
    assert control.pending(layout) == []


def test_stopping_what_is_over(call: Call, store: Path) -> None:
    finished(store)
    printed = call("runs", "stop", "alpha", "--wait")
    assert printed.code == 0
    assert "finished already" in printed.err
    document = call("runs", "stop", "alpha", "--json").json()
    assert (document["state"], document["was_live"], document["processes"]) == ("finished", False, [])


def test_diff(call: Call, store: Path) -> None:
    first = finished(store)
    second = finished(store, "beta", config=CONFIG.replace("1e-4", "3e-4") + "\n[lora]\nr = 8\n")
    assert call("runs", "diff", first.id, first.id, "--json").json()["differences"] == []
    assert call("runs", "diff", "alpha", "beta", "--json").json() == {
        "version": 1,
        "a": first.id,
        "b": second.id,
        "differences": [
            {"key": "lora.r", "a": None, "b": 8},
            {"key": "training.learning_rate", "a": 1e-4, "b": 3e-4},
        ],
    }
    printed = call("runs", "diff", "alpha", "beta").out
    assert "0.0001" in printed
    assert "none" in printed


def test_rename(call: Call, store: Path) -> None:
    layout = finished(store)
    assert call("runs", "rename", "alpha", "omega").code == 0
    assert call("runs", "show", "omega", "--json").json()["run"]["id"] == layout.id
    assert "(omega)" in call("runs").out
    for name in ("../x", "", "a b", "x" * 65, "-x"):
        assert call("runs", "rename", "omega", "--", name).code == ExitCode.USAGE


def test_rm(call: Call, store: Path) -> None:
    layout = finished(store)
    (layout.root / "big").write_bytes(b"x" * 5000)
    printed = call("runs", "rm", "alpha")
    assert printed.code == ExitCode.REFUSED
    assert "--force" in printed.err
    document = call("runs", "rm", "alpha", "--force", "--json").json()
    assert document["run"] == layout.id
    assert document["freed_bytes"] > 5000
    assert not layout.root.exists()
    assert list(store.iterdir()) == []


def test_rm_refuses_a_run_that_goes_on(call: Call, store: Path) -> None:
    layout = live(store)
    assert call("runs", "rm", "going", "--force").code == ExitCode.REFUSED
    held = finished(store)
    descriptor = lock.acquire(held)
    assert descriptor is not None
    assert call("runs", "rm", "alpha", "--force").code == ExitCode.REFUSED
    assert layout.run.exists()
    assert held.run.exists()


def test_rm_does_not_go_through_links(call: Call, store: Path, tmp_path: Path) -> None:
    layout = finished(store)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("keep")
    (layout.root / "link").symlink_to(elsewhere)
    moved = tmp_path / layout.id
    layout.root.rename(moved)
    layout.root.symlink_to(moved)
    assert call("runs", "rm", "alpha", "--force").code == ExitCode.REFUSED
    assert moved.exists()
    layout.root.unlink()
    moved.rename(layout.root)
    assert call("runs", "rm", "alpha", "--force").code == 0
    assert (elsewhere / "precious").read_text() == "keep"


def test_queue_shows_what_is_at_work_and_what_waits(call: Call, store: Path) -> None:
    assert "No run is at work" in call("runs", "queue").err
    busy, first, second = (made_run(store, name, State.QUEUED) for name in ("busy", "first", "second"))
    Queue().hold(busy, LaunchOrder(("x",), num_cpus=2))
    for layout in (first, second):
        Queue().join(layout, LaunchOrder(("x",), num_cpus=2))
    found = call("runs", "queue", "list", "--json").json()["runs"]
    assert [(run["id"], run["place"], run["num_cpus"]) for run in found] == [
        (busy.id, 0, 2),
        (first.id, 1, 2),
        (second.id, 2, 2),
    ]
    assert call("runs", "queue", "move", second.id, "1", "--json").json()["place"] == 1
    shown = call("runs", "queue").out
    assert shown.index(second.id) < shown.index(first.id)
    assert "2 cores" in shown
    refused = call("runs", "queue", "move", busy.id, "1")
    assert (refused.code, "does not wait" in refused.err) == (ExitCode.REFUSED, True)
    assert call("runs", "queue", "rm", first.id).code == ExitCode.REFUSED, "no supervisor holds it"
