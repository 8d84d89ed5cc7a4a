"""The learning rate at every step, as `transformers` will set it; for the Args screen's curve and for the checks.

Source: `transformers.optimization.get_scheduler` (5.23). A test holds every shape against the installed library.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

from tui_trainer.config.training import TrainingConfig

METRIC_DRIVEN = frozenset({"reduce_lr_on_plateau", "greedy"})
"""Shapes that follow the evaluation, so that nobody can know them before the run. They ignore the warm-up."""

WITHOUT_WARMUP = METRIC_DRIVEN | {"constant"}
"""Shapes for which `warmup_steps` has no effect."""

Shape = Callable[..., float]
"""The rate as a share of its peak at a step; the keyword arguments are those of `lr_scheduler_kwargs`."""


def learning_rate_at(training: TrainingConfig, step: float, max_steps: int) -> float:
    """The learning rate of one update.

    For the shapes in `METRIC_DRIVEN` this is the rate they start with, the peak.

    Args:
        training: the section with rate, shape, warm-up.
        step: updates done before this one; the first update has step 0. Between two whole numbers once an end moved.
        max_steps: updates of the whole run.

    Raises:
        ValueError: the shape cannot be made from its arguments; the message is that of `schedule_problem`.
    """
    if problem := schedule_problem(training, max_steps):
        raise ValueError(problem)
    shape = _SHAPES[training.lr_scheduler_type]
    warmup = num_warmup_steps(training, max_steps)
    return training.learning_rate * shape(step, warmup, max_steps, **_arguments(training))


def num_warmup_steps(training: TrainingConfig, max_steps: int) -> int:
    """Updates of the warm-up: `warmup_steps` itself, or below 1 that share of the run, rounded up."""
    steps = training.warmup_steps
    return int(steps) if steps >= 1 else math.ceil(max_steps * steps)


def schedule_problem(training: TrainingConfig, max_steps: int | None = None) -> str:
    """Why `transformers` would refuse the shape and its arguments; empty if it takes them.

    Args:
        training: the section with rate, shape, warm-up.
        max_steps: updates of the whole run; None if unknown, then what depends on it is not checked.
    """
    name, given = training.lr_scheduler_type, training.lr_scheduler_kwargs or {}
    if name in METRIC_DRIVEN or name in ("constant", "constant_with_warmup"):
        return ""
    allowed = schedule_arguments(name)
    if unknown := [key for key in given if key not in allowed]:
        takes = f"it takes {', '.join(allowed)}" if allowed else "it takes none"
        return f"{name} has no argument {', '.join(unknown)}; {takes}"
    if name == "warmup_stable_decay" and (problem := _decay_problem(given)):
        return problem
    if name.startswith("cosine") and "min_lr" in allowed and ("min_lr" in given) == ("min_lr_rate" in given):
        return f"{name} needs one of min_lr and min_lr_rate"
    if name == "polynomial" and (problem := _polynomial_problem(training, given, max_steps)):
        return problem
    return _arithmetic_problem(training, 100 if max_steps is None else max_steps)


def schedule_arguments(name: str) -> tuple[str, ...]:
    """The names that `lr_scheduler_kwargs` may hold for a shape."""
    parameters = inspect.signature(_SHAPES[name]).parameters.values()
    return tuple(
        parameter.name
        for parameter in parameters
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and parameter.name != "peak"
    )


def _arguments(training: TrainingConfig) -> dict[str, Any]:
    """The keyword arguments of the shape: what the user gave, and the peak where the shape asks for it."""
    if training.lr_scheduler_type in ("constant", "constant_with_warmup", *METRIC_DRIVEN):
        return {}
    given = dict(training.lr_scheduler_kwargs or {})
    if "peak" in inspect.signature(_SHAPES[training.lr_scheduler_type]).parameters:
        given["peak"] = training.learning_rate
    return given


def _decay_problem(given: Mapping[str, Any]) -> str:
    if "num_decay_steps" not in given:
        return "warmup_stable_decay needs num_decay_steps, the updates in which the rate falls at the end"
    for name in ("warmup_type", "decay_type"):
        if given.get(name, "linear") not in ("linear", "cosine", "1-sqrt"):
            return f"{name} must be linear, cosine or 1-sqrt"
    return ""


def _polynomial_problem(training: TrainingConfig, given: Mapping[str, Any], max_steps: int | None) -> str:
    lr_end = given.get("lr_end", 1e-7)
    if lr_end >= training.learning_rate:
        return f"polynomial ends at lr_end = {lr_end:g}, which must be below the learning rate"
    if max_steps is not None and num_warmup_steps(training, max_steps) == max_steps:
        return "polynomial needs a warm-up shorter than the run"
    return ""


def _arithmetic_problem(training: TrainingConfig, max_steps: int) -> str:
    """Whether the shape can be computed at all: a text for a number, a division by zero."""
    warmup = num_warmup_steps(training, max_steps)
    try:
        for step in (0, warmup, max_steps - 1):
            _SHAPES[training.lr_scheduler_type](step, warmup, max_steps, **_arguments(training))
    except (ArithmeticError, TypeError, ValueError):
        return f"{training.lr_scheduler_type} cannot be computed with these arguments"
    return ""


def _rise(step: int, warmup: int) -> float:
    return step / max(1, warmup)


def _progress(step: int, warmup: int, max_steps: int) -> float:
    return (step - warmup) / max(1, max_steps - warmup)


def _wave(progress: float, cycles: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * cycles * 2.0 * progress))


def _constant(_step: int, _warmup: int, _max_steps: int) -> float:
    return 1.0


def _constant_with_warmup(step: int, warmup: int, _max_steps: int) -> float:
    return _rise(step, warmup) if step < warmup else 1.0


def _linear(step: int, warmup: int, max_steps: int) -> float:
    if step < warmup:
        return _rise(step, warmup)
    return max(0.0, (max_steps - step) / max(1, max_steps - warmup))


def _cosine(step: int, warmup: int, max_steps: int, *, num_cycles: float = 0.5) -> float:
    if step < warmup:
        return _rise(step, warmup)
    return max(0.0, _wave(_progress(step, warmup, max_steps), num_cycles))


def _cosine_with_restarts(step: int, warmup: int, max_steps: int, *, num_cycles: float = 1) -> float:
    if step < warmup:
        return _rise(step, warmup)
    progress = _progress(step, warmup, max_steps)
    return 0.0 if progress >= 1.0 else max(0.0, _wave((num_cycles * progress) % 1.0, 0.5))


def _polynomial(
    step: int, warmup: int, max_steps: int, *, lr_end: float = 1e-7, power: float = 1.0, peak: float
) -> float:
    if step < warmup:
        return _rise(step, warmup)
    if step > max_steps:
        return lr_end / peak
    remaining = 1 - (step - warmup) / (max_steps - warmup)
    return ((peak - lr_end) * math.pow(remaining, power) + lr_end) / peak


def _inverse_sqrt(step: int, warmup: int, _max_steps: int, *, timescale: int | None = None) -> float:
    if step < warmup:
        return _rise(step, warmup)
    scale = (warmup or 10_000) if timescale is None else timescale
    return 1.0 / math.sqrt((step + scale - warmup) / scale)


def _cosine_with_min_lr(
    step: int,
    warmup: int,
    max_steps: int,
    *,
    num_cycles: float = 0.5,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
    peak: float,
) -> float:
    if step < warmup:
        return _rise(step, warmup)
    floor = _floor(min_lr, min_lr_rate, peak)
    return max(0.0, _wave(_progress(step, warmup, max_steps), num_cycles) * (1 - floor) + floor)


def _cosine_warmup_with_min_lr(
    step: int,
    warmup: int,
    max_steps: int,
    *,
    num_cycles: float = 0.5,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
    warmup_lr_rate: float | None = None,
    peak: float,
) -> float:
    if step < warmup and warmup_lr_rate is None:
        return (step + 1.0) / max(1, warmup)
    if step < warmup:
        return float(warmup_lr_rate or 0.0) + (1.0 - float(warmup_lr_rate or 0.0)) * step / max(1, warmup - 1)
    floor = _floor(min_lr, min_lr_rate, peak)
    progress = (step - warmup + 1.0) / max(1.0, max_steps - warmup)
    return max(0.0, _wave(progress, num_cycles) * (1 - floor) + floor)


def _floor(min_lr: float | None, min_lr_rate: float | None, peak: float) -> float:
    return float(min_lr_rate or 0.0) if min_lr is None else min_lr / peak


def _warmup_stable_decay(
    step: int,
    warmup: int,
    max_steps: int,
    *,
    num_decay_steps: int,
    num_stable_steps: int | None = None,
    warmup_type: str = "linear",
    decay_type: str = "cosine",
    min_lr_ratio: float = 0.0,
    num_cycles: float = 0.5,
) -> float:
    stable = max_steps - warmup - num_decay_steps if num_stable_steps is None else num_stable_steps
    if step < warmup:
        factor = _rising(warmup_type, _rise(step, warmup))
    elif step < warmup + stable:
        return 1.0
    elif step < warmup + stable + num_decay_steps:
        factor = _falling(decay_type, (step - warmup - stable) / max(1, num_decay_steps), num_cycles)
    else:
        return min_lr_ratio
    return max(0.0, factor * (1.0 - min_lr_ratio) + min_lr_ratio)


def _rising(kind: str, progress: float) -> float:
    if kind == "linear":
        return progress
    return 0.5 * (1.0 - math.cos(math.pi * progress)) if kind == "cosine" else 1.0 - math.sqrt(1.0 - progress)


def _falling(kind: str, progress: float, num_cycles: float) -> float:
    if kind == "linear":
        return 1.0 - progress
    return _wave(progress, num_cycles) if kind == "cosine" else 1.0 - math.sqrt(progress)


_SHAPES: dict[str, Shape] = {
    "linear": _linear,
    "cosine": _cosine,
    "cosine_with_restarts": _cosine_with_restarts,
    "polynomial": _polynomial,
    "constant": _constant,
    "constant_with_warmup": _constant_with_warmup,
    "inverse_sqrt": _inverse_sqrt,
    "reduce_lr_on_plateau": _constant,
    "cosine_with_min_lr": _cosine_with_min_lr,
    "cosine_warmup_with_min_lr": _cosine_warmup_with_min_lr,
    "warmup_stable_decay": _warmup_stable_decay,
    "greedy": _constant,
}
