"""What a resume would do, before it does anything: what is restored, what differs, the learning rate before and after.

A pure function of what a checkpoint holds and the configuration it is to go on with. Shown by `tui-trainer train
--resume`, `tui-trainer runs resume` and the Resume screen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tui_trainer.config.course import Course
from tui_trainer.config.derive import batches_per_epoch, plan_run, resumed_max_steps
from tui_trainer.config.resolve import Layer, Values, resolve
from tui_trainer.config.resuming import MEANING, OTHER_OPTIMISER, Difference, Effect, differences
from tui_trainer.config.schedule import METRIC_DRIVEN, learning_rate_at, schedule_problem
from tui_trainer.config.schema import RunConfig
from tui_trainer.config.toml import Document
from tui_trainer.config.training import TrainingConfig
from tui_trainer.errors import ConfigurationError
from tui_trainer.runs.checkpoint_state import CheckpointState
from tui_trainer.runs.files import whole_number

VERSION = 1
_CURVE_POINTS = 240
_SAME_RATE = 0.01
"""Share of the rate from which on a change counts as a jump."""

Rates = tuple[tuple[int, float], ...]
"""Steps and the learning rate of the update after them."""


@dataclass(frozen=True)
class CheckpointFacts:
    """What is known of a checkpoint and its run besides its state.

    Attributes:
        run: id of the run.
        has_optimiser: whether the checkpoint holds optimiser and scheduler.
        random_ranks: how many ranks' random numbers it holds.
        last_step: the last step that the run made, after the checkpoint or at it.
        is_finished: whether the run came to its end.
        versions: of the libraries it was trained with.
        skipped: what is wrong with newer checkpoints that are passed over.
        is_left: it belongs to a branch that the run left when it went back.
    """

    run: str
    has_optimiser: bool = True
    random_ranks: int = 1
    last_step: int = 0
    is_finished: bool = False
    versions: Mapping[str, str] | None = None
    skipped: tuple[str, ...] = ()
    is_left: bool = False


@dataclass(frozen=True)
class Part:
    """A part of a training that has to go on.

    Attributes:
        name: what it is.
        is_exact: whether it goes on as if nothing had happened.
        note: how.
    """

    name: str
    is_exact: bool
    note: str


@dataclass(frozen=True)
class ResumePlan:
    """What going on from a checkpoint means.

    Attributes:
        run: id of the run that the checkpoint belongs to.
        step: its step.
        is_new_run: whether it goes on as another run, or as the same.
        max_steps_before: steps of the run as it was planned.
        max_steps: steps of the run that goes on; None if nobody can know them yet.
        lacks_end: the run was ended before its last word, even if after its last step.
        is_left: the checkpoint belongs to a branch that the run left, so that only another run can go on with it.
        parts: what is restored.
        differences: what is not as it was, what forbids to go on first.
        warnings: what the user should know.
        rates_before: the learning rate as it was planned.
        rates: the learning rate from here on.
    """

    run: str
    step: int
    is_new_run: bool
    max_steps_before: int
    max_steps: int | None
    lacks_end: bool
    is_left: bool
    parts: tuple[Part, ...]
    differences: tuple[Difference, ...]
    warnings: tuple[str, ...]
    rates_before: Rates
    rates: Rates

    @property
    def refused(self) -> list[Difference]:
        """What forbids to go on, unless it is forced."""
        return [difference for difference in self.differences if difference.effect is Effect.REFUSED]

    @property
    def is_exact(self) -> bool:
        """Whether it computes, bit by bit, what the run would have computed."""
        touched = {difference.effect for difference in self.differences} - {Effect.OUTSIDE}
        return not touched and all(part.is_exact for part in self.parts)

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.has_no_steps_left and not self.lacks_end

    @property
    def has_no_steps_left(self) -> bool:
        """Whether all steps are done."""
        return self.max_steps is not None and self.step >= self.max_steps

    @property
    def verdict(self) -> str:
        """What there is to say of it, in a few words."""
        if self.is_finished:
            return "nothing is left to do"
        if self.has_no_steps_left:
            return "all steps are done; the end of the run is made good"
        if self.is_left and not self.is_new_run:
            return "only as a run of its own"
        if self.refused:
            return "refused unless forced"
        return "goes on bit by bit as if nothing had happened" if self.is_exact else "goes on, but not as it would have"

    def to_dict(self) -> dict[str, Any]:
        """The plan as a JSON object."""
        return {
            "version": VERSION,
            "run": self.run,
            "step": self.step,
            "new_run": self.is_new_run,
            "max_steps": {"before": self.max_steps_before, "now": self.max_steps},
            "exact": self.is_exact,
            "finished": self.is_finished,
            "refused": [difference.key for difference in self.refused],
            "parts": [asdict(part) for part in self.parts],
            "differences": [
                {**asdict(difference), "note": difference.note or MEANING[difference.effect]}
                for difference in self.differences
            ],
            "warnings": list(self.warnings),
            "learning_rate": {"before": [list(point) for point in self.rates_before], "now": list(self.rates)},
        }


def plan_resume(
    state: CheckpointState,
    config: RunConfig,
    facts: CheckpointFacts,
    *,
    world_size: int,
    versions: Mapping[str, str],
    is_new_run: bool,
) -> ResumePlan:
    """Work out what going on means.

    Args:
        state: what the checkpoint holds of its run.
        config: the configuration to go on with.
        facts: what else is known of the checkpoint.
        world_size: processes that would train together.
        versions: of the libraries installed now.
        is_new_run: whether it goes on as another run.
    """
    found = list(differences(state.config, config.model_dump(mode="json")))
    if state.world_size != world_size:
        note = "the order of the rows goes on, shared by another number of processes"
        found.append(Difference("processes", state.world_size, world_size, Effect.INEXACT, note))
    changed = {difference.key for difference in found}
    planned = _max_steps(state, config, world_size)
    moved = _moved_course(state)
    course = moved if moved is not None and moved.end == planned else Course.planned(planned or 0)
    max_steps = planned if course is not moved else whole_number(state.settings.get("max_steps"))
    before = _config_of(state)
    course_before = moved or Course.planned(state.max_steps)
    rates_before = _rates(before.training, state, 0, course_before, has_new_peak=False) if before else ()
    has_new_peak = "training.learning_rate" in changed
    rates = _rates(config.training, state, state.step, course, has_new_peak=has_new_peak) if max_steps else ()
    lacks_end = not (facts.is_finished or is_new_run)
    return ResumePlan(
        run=facts.run,
        step=state.step,
        is_new_run=is_new_run,
        max_steps_before=state.max_steps,
        max_steps=max_steps,
        lacks_end=lacks_end,
        is_left=facts.is_left,
        parts=tuple(_parts(state, facts, changed, world_size, is_new_run=is_new_run)),
        differences=tuple(found),
        warnings=(
            *facts.skipped,
            *_about_branch(state, facts, is_new_run=is_new_run),
            *(() if lacks_end else _about_end(state, max_steps)),
            *_about_rates(state, rates_before, rates),
            *_about_versions(facts, versions),
        ),
        rates_before=rates_before,
        rates=rates,
    )


def _config_of(state: CheckpointState) -> RunConfig | None:
    try:
        return resolve([Values(Layer.FILE, Document("checkpoint", dict(state.config)))]).config
    except ConfigurationError:
        return None


def _max_steps(state: CheckpointState, config: RunConfig, world_size: int) -> int | None:
    """Steps of the run that goes on; None if the number of rows is not known."""
    position, training = state.position, config.training
    if training.max_steps > 0:
        return training.max_steps
    if position is None or not position.num_rows:
        return None
    plan = plan_run(config, position.num_rows, world_size)
    if plan.steps_per_epoch is None:
        return None
    batches = batches_per_epoch(training, position.num_rows - position.num_done, world_size)
    return resumed_max_steps(
        training.max_steps,
        training.num_train_epochs,
        step=state.step,
        epoch=position.epoch,
        updates_left=math.ceil(batches / training.gradient_accumulation_steps),
        updates_per_epoch=plan.steps_per_epoch,
    )


def _moved_course(state: CheckpointState) -> Course | None:
    """The course of a run whose end was moved by hand."""
    course = state.settings.get("course")
    if not isinstance(course, Mapping) or "max_steps" not in state.settings:
        return None
    try:
        return Course.restored(course["end"], course["knots"])
    except (KeyError, TypeError, ValueError):
        return None


def _rates(
    training: TrainingConfig, state: CheckpointState, start: int, course: Course, *, has_new_peak: bool
) -> Rates:
    """The curve of a schedule from one step to the end of a course; empty if nobody can know it."""
    end, length = int(course.knots[-1][0]), int(course.end)
    if schedule_problem(training, length) or not training.learning_rate:
        return ()
    peak = training.learning_rate if has_new_peak else state.learning_rate or training.learning_rate
    factor = peak / training.learning_rate
    stride = max((end - start) // _CURVE_POINTS, 1)
    steps = sorted({*range(start, end + 1, stride), *({state.step} if start <= state.step <= end else ()), end})
    return tuple(
        (step, factor * learning_rate_at(training, int(course.position(step)), length))
        for step in steps
        if step >= start
    )


def _parts(
    state: CheckpointState, facts: CheckpointFacts, changed: set[str], world_size: int, *, is_new_run: bool
) -> Iterator[Part]:
    yield Part("weights", True, f"of step {state.step}")
    is_same_optimiser = not changed & {"training.optim", "training.optim_args", "training.optim_target_modules"}
    has_optimiser = facts.has_optimiser and is_same_optimiser
    why = "the checkpoint holds none" if not facts.has_optimiser else "another one"
    yield Part("optimiser", has_optimiser, "with all it knows of the gradients" if has_optimiser else f"afresh: {why}")
    yield Part("schedule", facts.has_optimiser, f"{state.step} updates on")
    has_random = facts.random_ranks >= world_size and state.world_size == world_size
    note = "of every process" if has_random else f"new ones: the checkpoint was made by {state.world_size} processes"
    yield Part("random numbers", has_random, note)
    yield _rows(state, changed)
    yield Part("accumulation", True, "checkpoints lie between updates: no gradient is half gathered")
    yield _settings(state, changed)
    later = facts.last_step - state.step
    if is_new_run:
        metrics = f"begin at step {state.step}; those before stay with {facts.run}"
    elif later > 0:
        metrics = f"those of the {later} later steps stay in the file, superseded"
    else:
        metrics = "go on"
    yield Part("metrics", True, metrics)


def _rows(state: CheckpointState, changed: set[str]) -> Part:
    position = state.position
    if any(key.startswith("data.") for key in changed):
        return Part("rows", False, "may be others; then they are begun from the first one")
    if position is None:
        return Part("rows", "processes" not in changed, "batches are counted: only as many and as large ones fit")
    if changed & {"training.seed", "training.data_seed", "training.train_sampling_strategy"}:
        return Part("rows", False, "in another order from here on")
    if position.stream is not None:
        return Part("rows", True, f"of the stream, after {position.num_done}")
    where = f"epoch {position.epoch + 1}, after row {position.num_done} of {position.num_rows}"
    return Part("rows", True, f"{where}, without reading those before again")


def _settings(state: CheckpointState, changed: set[str]) -> Part:
    kept = {name: value for name, value in state.settings.items() if f"training.{name}" not in changed}
    lost = [name for name in state.settings if name not in kept]
    told = {name: value for name, value in kept.items() if isinstance(value, (int, float, str))}
    words = [f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in told.items()]
    notes = [f"stay as set by hand: {', '.join(words)}"] if words else []
    notes += [f"set by hand before, overruled by the configuration: {', '.join(lost)}"] if lost else []
    return Part("commands", True, "; ".join(notes) or "none were set by hand")


def _about_branch(state: CheckpointState, facts: CheckpointFacts, *, is_new_run: bool) -> Iterator[str]:
    if facts.is_left:
        left = f"checkpoint {state.step} belongs to a branch that {facts.run} left when it went back"
        how = "as a run of its own it goes on as that branch would have"
        yield f"{left}: {how}" if is_new_run else f"{left}, whose later steps others have replaced: {how}"


def _about_end(state: CheckpointState, max_steps: int | None) -> Iterator[str]:
    if max_steps is not None and state.step >= max_steps:
        yield (
            f"the run has done all its {max_steps} steps: "
            "it needs a higher training.max_steps or training.num_train_epochs to go on"
        )


def _about_rates(state: CheckpointState, rates_before: Rates, rates: Rates) -> Iterator[str]:
    old, new = dict(rates_before).get(state.step), dict(rates).get(state.step)
    if old is not None and new is not None and abs(new - old) > _SAME_RATE * max(old, new):
        yield f"the learning rate jumps from {old:.3g} to {new:.3g} at step {state.step}"
    if _is_metric_driven(state.config):
        yield "the schedule follows the evaluation: nobody can draw its curve beforehand"


def _about_versions(facts: CheckpointFacts, versions: Mapping[str, str]) -> Iterator[str]:
    others = [
        f"{name} {version}, now {versions[name]}"
        for name, version in (facts.versions or {}).items()
        if versions.get(name, version) != version
    ]
    if others:
        yield f"trained with other versions, so that the last bits may differ: {', '.join(others)}"


def _is_metric_driven(config: Mapping[str, Any]) -> bool:
    training = config.get("training")
    return isinstance(training, Mapping) and training.get("lr_scheduler_type") in METRIC_DRIVEN


def refusal_of(plan: ResumePlan) -> str:
    """Why a plan is refused, in a sentence; empty if it is not."""
    reasons = [f"{difference.key} differs ({difference.note})" for difference in plan.refused]
    optimiser = next(part for part in plan.parts if part.name == "optimiser")
    if not optimiser.is_exact and not any(difference.note == OTHER_OPTIMISER for difference in plan.refused):
        reasons.append(f"the optimiser would start {optimiser.note}")
    return "; ".join(reasons)
