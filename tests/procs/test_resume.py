"""The plan of a resume, and what a resume leaves on the disk before any process is started."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tui_trainer.config.resolve import Resolved, resolve, typed_values
from tui_trainer.config.resuming import Effect
from tui_trainer.config.schedule import learning_rate_at
from tui_trainer.config.schema import RunConfig
from tui_trainer.engine.trainer.manifest import verify_checkpoint, write_manifest
from tui_trainer.errors import MachineError, RefusedError, UsageError
from tui_trainer.procs import resume as module
from tui_trainer.procs.resume import check_plan, config_for, find_target, plan_for, resume_as_new_run, resume_run
from tui_trainer.procs.resume_plan import CheckpointFacts, ResumePlan, plan_resume
from tui_trainer.procs.start import create_run
from tui_trainer.runs.checkpoint_state import CheckpointState, DataPosition
from tui_trainer.runs.files import read_json
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.resume_order import ResumeOrder
from tui_trainer.runs.status import RunStatus, State, write_status

OPTIONS = (
    "name=trial",
    "model.name_or_path=somewhere",
    "data.path=rows.jsonl",
    "per_device_train_batch_size=4",
    "lr_scheduler_type=cosine",
    "training.num_train_epochs=2",
    "training.use_cpu=true",
)


def resolved(*assignments: str) -> Resolved:
    return resolve([typed_values([*OPTIONS, *assignments])])


def state(step: int = 30, **changes: Any) -> CheckpointState:
    # 100 rows in batches of 4: 25 steps an epoch
    return replace(
        CheckpointState(
            step=step,
            max_steps=50,
            fingerprint="f",
            config=resolved().config.model_dump(mode="json"),
            learning_rate=5e-5,
            position=DataPosition(epoch=1, num_done=20, num_rows=100, seed=42),
        ),
        **changes,
    )


def plan(config: RunConfig, before: CheckpointState | None = None, **changes: Any) -> ResumePlan:
    known: dict[str, Any] = {"world_size": 1, "versions": {"torch": "2"}, "is_new_run": False}
    facts = CheckpointFacts("trial-1", last_step=37, versions={"torch": "2"})
    facts = changes.pop("facts", facts)
    return plan_resume(before or state(), config, facts, **{**known, **changes})


def note(found: ResumePlan, name: str) -> str:
    return next(part.note for part in found.parts if part.name == name)


def test_an_unchanged_run_goes_on_exactly() -> None:
    found = plan(resolved().config)
    assert found.is_exact
    assert not found.differences
    assert not found.warnings
    assert found.max_steps == 50
    assert "epoch 2, after row 20 of 100" in note(found, "rows")
    assert "7 later steps" in note(found, "metrics")
    assert dict(found.rates)[30] == dict(found.rates_before)[30]
    assert found.rates[0][0] == 30
    assert found.rates[-1][0] == 50
    assert found.rates[-1][1] == pytest.approx(0, abs=1e-12)


def test_a_new_rate_and_a_longer_run_change_the_curve() -> None:
    config = resolved("learning_rate=1e-5", "training.num_train_epochs=4").config
    found = plan(config)
    assert not found.is_exact
    assert found.refused == []
    assert found.max_steps == 100
    assert dict(found.rates)[30] == pytest.approx(learning_rate_at(config.training, 30, 100))
    assert any("jumps" in warning for warning in found.warnings)
    document = found.to_dict()
    assert document["max_steps"] == {"before": 50, "now": 100}
    assert document["learning_rate"]["now"][0] == (30, pytest.approx(1e-5 * 0.7939, rel=1e-3))
    assert [entry["key"] for entry in document["differences"]] == [
        "training.num_train_epochs",
        "training.learning_rate",
    ]


def test_a_rate_set_by_hand_stays_unless_the_configuration_says_another() -> None:
    before = state(learning_rate=1e-4, settings={"learning_rate": 1e-4, "max_grad_norm": 0.5})
    kept = plan(resolved().config, before)
    assert kept.is_exact
    assert note(kept, "commands") == "stay as set by hand: learning_rate 0.0001, max_grad_norm 0.5"
    assert kept.rates[0][1] == pytest.approx(2 * dict(plan(resolved().config).rates)[30])
    overruled = plan(resolved("learning_rate=2e-5").config, before)
    assert "overruled by the configuration: learning_rate" in note(overruled, "commands")
    assert overruled.rates[0][1] == pytest.approx(0.4 * dict(plan(resolved().config).rates)[30])


def test_an_end_moved_by_hand_stays_where_it_is() -> None:
    course = {"end": 50, "knots": [[0, 0], [30, 30], [70, 50]]}
    before = state(max_steps=70, settings={"max_steps": 70, "schedule": "stretch", "course": course})
    found = plan(resolved().config, before)
    assert (found.is_exact, found.max_steps) == (True, 70)
    assert dict(found.rates)[50] == pytest.approx(learning_rate_at(resolved().config.training, 40, 50))
    assert note(found, "commands") == "stay as set by hand: max_steps 70, schedule stretch"
    # another plan in the configuration overrules it
    assert plan(resolved("training.num_train_epochs=3").config, before).max_steps == 75


def test_more_processes_share_what_is_left() -> None:
    found = plan(resolved().config, world_size=2)
    # 80 rows of this epoch in batches of 8
    assert found.max_steps == 30 + 10
    assert [part.name for part in found.parts if not part.is_exact] == ["random numbers"]
    assert [(item.key, item.effect) for item in found.differences] == [("processes", Effect.INEXACT)]


def test_the_steps_of_a_run_are_those_that_it_makes() -> None:
    larger = plan(resolved("gradient_accumulation_steps=3", "training.num_train_epochs=3").config)
    # 80 rows left of this epoch in updates of 12, then an epoch of 100
    assert larger.max_steps == 30 + 7 + 9
    fixed = plan(resolved("training.max_steps=33").config)
    assert (fixed.max_steps, fixed.is_finished) == (33, False)


@pytest.mark.parametrize(
    ("option", "key", "word"),
    [
        ("model.name_or_path=other", "model.name_or_path", "another model"),
        ("data.path=other.jsonl", "data.path", "begun from the first"),
        ("training.seed=1", "training.seed", "order"),
        ("training.optim=sgd", "training.optim", "afresh"),
        ("lora.r=4", "lora.r", "another model"),
    ],
)
def test_nonsense_is_refused_unless_forced(option: str, key: str, word: str) -> None:
    found = plan(resolved(option).config)
    assert key in [difference.key for difference in found.refused]
    with pytest.raises(RefusedError, match=word) as caught:
        check_plan(found, is_forced=False)
    assert "--force" in caught.value.remedy
    check_plan(found, is_forced=True)


def test_weights_alone_are_not_enough() -> None:
    found = plan(resolved().config, facts=CheckpointFacts("trial-1", has_optimiser=False))
    with pytest.raises(RefusedError, match="optimiser would start afresh"):
        check_plan(found, is_forced=False)


def test_a_finished_run_needs_more_steps() -> None:
    done = state(step=50, position=DataPosition(epoch=2, num_rows=100))
    ended = CheckpointFacts("trial-1", is_finished=True)
    found = plan(resolved().config, done, facts=ended)
    assert found.is_finished
    assert any("done all its 50 steps" in warning for warning in found.warnings)
    with pytest.raises(RefusedError, match="all its 50 steps"):
        check_plan(found, is_forced=True)
    assert not plan(resolved("training.num_train_epochs=3").config, done, facts=ended).is_finished
    assert plan(resolved().config, done, is_new_run=True).is_finished


def test_a_run_killed_after_its_last_step_is_brought_to_its_end() -> None:
    found = plan(resolved().config, state(step=50, position=DataPosition(epoch=2, num_rows=100)))
    assert not found.is_finished
    assert found.verdict == "all steps are done; the end of the run is made good"
    assert not found.warnings
    check_plan(found, is_forced=False)


def test_other_versions_are_told() -> None:
    assert "torch 2, now 3" in plan(resolved().config, versions={"torch": "3"}).warnings[0]


def test_a_schedule_that_follows_the_evaluation_has_no_curve() -> None:
    config = resolved("training.lr_scheduler_type=reduce_lr_on_plateau", "data.eval_split=0.1").config
    before = state(config=config.model_dump(mode="json"))
    assert any("nobody can draw" in warning for warning in plan(config, before).warnings)


def test_what_a_checkpoint_says_of_rows_it_did_not_count(tmp_path: Path) -> None:
    uncounted = plan(resolved().config, state(position=None))
    assert uncounted.max_steps is None
    assert uncounted.rates == ()
    streamed = plan(resolved().config, state(position=DataPosition(num_done=70, stream={"at": 70})))
    assert note(streamed, "rows") == "of the stream, after 70"


# On the disk


@pytest.fixture
def run(tmp_path: Path) -> RunLayout:
    """A run that ended with the checkpoints 20 and 30."""
    layout = create_run(resolved(), argv=["test"], root=tmp_path / "runs")
    for step in (20, 30):
        folder = layout.checkpoint(step)
        folder.mkdir()
        for name in ("model.safetensors", "scheduler.pt", "rng_state.pth"):
            (folder / name).write_text(f"{name} of {step}")
        state(step).write(folder)
        write_manifest(folder, step)
    write_status(layout, RunStatus(layout.id, State.FAILED, step=37))
    return layout


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[RunLayout]:
    """The runs that would have been started."""
    found: list[RunLayout] = []
    monkeypatch.setattr(module, "start_existing", lambda layout, **_: found.append(layout))
    return found


def test_a_run_goes_on_from_its_newest_whole_checkpoint(run: RunLayout) -> None:
    root = run.root.parent
    assert find_target(run.id, root).state.step == 30
    assert find_target(f"{run.id}@20", root).is_named
    (run.checkpoint(30) / "model.safetensors").write_text("cut")
    target = find_target(run.id, root)
    assert target.state.step == 20
    assert "model.safetensors has 3 bytes" in plan_for(target, config_for(target), is_new_run=False).warnings[0]
    with pytest.raises(UsageError, match="damaged"):
        find_target(f"{run.id}@30", root)
    with pytest.raises(UsageError, match="it has 20, 30"):
        find_target(f"{run.id}@25", root)
    (run.checkpoint(20) / "run_state.json").unlink()
    with pytest.raises(RefusedError, match="damaged"):
        find_target(run.id, root)


def test_the_same_run_goes_back_by_an_order(run: RunLayout, started: list[RunLayout]) -> None:
    target = find_target(f"{run.id}@20", run.root.parent)
    resume_run(target, config_for(target), argv=["tui-trainer", "runs", "resume"])
    assert started == [run]
    assert ResumeOrder.read(run) == ResumeOrder(20)
    assert run.checkpoint(30).is_dir()
    assert not list(run.root.glob("config-before-*"))
    record = (read_json(run.run) or {})["resumed"]
    assert [(entry["step"], entry["changes"]) for entry in record] == [(20, {})]


def test_the_newest_checkpoint_needs_no_order(run: RunLayout, started: list[RunLayout]) -> None:
    target = find_target(run.id, run.root.parent)
    resume_run(target, config_for(target), argv=[])
    assert ResumeOrder.read(run) is None
    assert started == [run]


def test_another_configuration_keeps_the_one_before(run: RunLayout, started: list[RunLayout]) -> None:
    before = run.config.read_text()
    target = find_target(run.id, run.root.parent)
    resume_run(target, config_for(target, ["learning_rate=1e-5", "launch.grace_seconds=77"]), argv=[])
    assert (run.root / "config-before-1.toml").read_text() == before
    assert config_for(target).config.training.learning_rate == 1e-5
    assert (read_json(run.launch) or {})["grace_seconds"] == 77
    assert (read_json(run.run) or {})["resumed"][0]["changes"]["training.learning_rate"] == [5e-5, 1e-5]


def test_a_run_that_goes_on_is_left_alone(run: RunLayout, started: list[RunLayout]) -> None:
    from tui_trainer.runs.identity import ProcessIdentity

    target = find_target(f"{run.id}@20", run.root.parent)
    write_status(run, RunStatus(run.id, State.RUNNING, process=ProcessIdentity.current()))
    with pytest.raises(RefusedError, match="is going on"):
        resume_run(target, config_for(target), argv=[])
    assert started == []
    assert ResumeOrder.read(run) is None


def test_a_checkpoint_of_a_branch_that_was_left_goes_on_as_a_new_run_only(
    run: RunLayout, started: list[RunLayout]
) -> None:
    run.superseded.mkdir()
    (run.superseded / "1").mkdir()
    run.checkpoint(30).rename(run.superseded / "1" / run.checkpoint(30).name)
    target = find_target(f"{run.id}@30", run.root.parent)
    same, other = (plan_for(target, config_for(target), is_new_run=is_new) for is_new in (False, True))
    assert (same.verdict, other.is_exact) == ("only as a run of its own", True)
    assert "a branch that" in same.warnings[0]
    with pytest.raises(RefusedError, match="a branch that the run left") as caught:
        check_plan(same, is_forced=True)
    assert f"train CONFIG --resume {run.id}@30" in caught.value.remedy
    check_plan(other, is_forced=False)
    new = resume_as_new_run(target, config_for(target), argv=[], root=run.root.parent)
    assert started == [new]
    assert verify_checkpoint(new.checkpoint(30)) == []
    assert (run.superseded / "1" / run.checkpoint(30).name).is_dir()


@pytest.mark.parametrize("has_links", [True, False])
def test_a_new_run_owns_its_first_checkpoint(
    run: RunLayout, started: list[RunLayout], has_links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(*_: Any, **__: Any) -> None:
        raise OSError(95, "Operation not supported")

    if not has_links:
        monkeypatch.setattr(os, "link", no_link)
    root = run.root.parent
    target = find_target(f"{run.id}@20", root)
    new = resume_as_new_run(target, resolved("learning_rate=1e-5"), argv=[], is_forced=True, root=root)
    assert started == [new]
    assert (read_json(new.run) or {})["parent"] == run.id
    assert ResumeOrder.read(new) == ResumeOrder(20, is_forced=True, is_done=True, parent=run.id)
    assert verify_checkpoint(new.checkpoint(20)) == []
    assert not new.staging.exists()
    for file in run.checkpoint(20).iterdir():
        file.unlink()
    assert verify_checkpoint(new.checkpoint(20)) == []


def test_a_new_run_without_room_leaves_nothing(
    run: RunLayout, started: list[RunLayout], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copytree", full)
    target = find_target(run.id, run.root.parent)
    with pytest.raises(MachineError, match="No space left"):
        resume_as_new_run(target, resolved(), argv=[], root=run.root.parent)
    assert started == []
    assert [path.name for path in run.root.parent.iterdir()] == [run.id]
