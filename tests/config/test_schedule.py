"""Every learning-rate shape against the installed transformers, update for update."""

from __future__ import annotations

import inspect
from itertools import product
from typing import Any

import pytest

from tui_trainer.config.catalogue import catalogue
from tui_trainer.config.schedule import (
    METRIC_DRIVEN,
    WITHOUT_WARMUP,
    learning_rate_at,
    num_warmup_steps,
    schedule_arguments,
    schedule_problem,
)
from tui_trainer.config.training import TrainingConfig

ARGUMENTS: dict[str, list[dict[str, Any]]] = {
    "linear": [{}],
    "cosine": [{}, {"num_cycles": 1.5}],
    "cosine_with_restarts": [{}, {"num_cycles": 3}],
    "polynomial": [{}, {"power": 2.0, "lr_end": 1e-6}],
    "constant": [{}, {"ignored": 1}],
    "constant_with_warmup": [{}, {"ignored": 1}],
    "inverse_sqrt": [{}, {"timescale": 7}],
    "reduce_lr_on_plateau": [{}, {"patience": 2}],
    "cosine_with_min_lr": [{"min_lr": 1e-5}, {"min_lr_rate": 0.1, "num_cycles": 0.75}],
    "cosine_warmup_with_min_lr": [
        {"min_lr": 1e-5},
        {"min_lr_rate": 0.1},
        {"min_lr_rate": 0.2, "warmup_lr_rate": 0.3},
        {"min_lr_rate": 0.2, "warmup_lr_rate": 0.0, "num_cycles": 1.0},
    ],
    "warmup_stable_decay": [
        {"num_decay_steps": 5},
        {"num_decay_steps": 4, "num_stable_steps": 3, "decay_type": "linear"},
        {"num_decay_steps": 6, "decay_type": "1-sqrt", "warmup_type": "1-sqrt", "min_lr_ratio": 0.1},
        {"num_decay_steps": 6, "warmup_type": "cosine", "num_cycles": 0.25},
    ],
    "greedy": [{}, {"patience": 2}],
}


def _training(**values: Any) -> TrainingConfig:
    return TrainingConfig.model_validate(values)


def _library_rates(training: TrainingConfig, max_steps: int, count: int) -> list[float]:
    """The rates that transformers sets for the first `count` updates."""
    import torch
    from transformers import TrainingArguments
    from transformers.optimization import get_scheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=training.learning_rate)
    arguments = TrainingArguments(warmup_steps=training.warmup_steps, use_cpu=True)
    scheduler = get_scheduler(
        training.lr_scheduler_type,
        optimizer,
        num_warmup_steps=arguments.get_warmup_steps(max_steps),
        num_training_steps=max_steps,
        scheduler_specific_kwargs=training.lr_scheduler_kwargs,
    )
    rates = []
    for _ in range(count):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if training.lr_scheduler_type not in METRIC_DRIVEN:
            scheduler.step()
    return rates


def test_every_shape_of_the_schema_is_covered() -> None:
    shapes = catalogue()["training.lr_scheduler_type"].choices
    assert set(shapes) == set(ARGUMENTS)


@pytest.mark.parametrize("shape", ARGUMENTS)
def test_rates_equal_those_of_transformers(shape: str) -> None:
    for arguments, warmup, max_steps in product(ARGUMENTS[shape], (0, 1, 4, 0.1, 0.33), (1, 7, 20)):
        training = _training(
            lr_scheduler_type=shape,
            lr_scheduler_kwargs=arguments or None,
            warmup_steps=warmup,
            learning_rate=3e-4,
        )
        if schedule_problem(training, max_steps):
            assert shape == "polynomial"
            continue
        ours = [learning_rate_at(training, step, max_steps) for step in range(max_steps + 3)]
        assert ours == pytest.approx(_library_rates(training, max_steps, max_steps + 3), rel=1e-12, abs=1e-18)


def test_the_first_update_after_a_warm_up_has_the_peak() -> None:
    training = _training(warmup_steps=4, learning_rate=1e-3)
    assert learning_rate_at(training, 0, 20) == 0.0
    assert learning_rate_at(training, 4, 20) == 1e-3


@pytest.mark.parametrize("warmup", [0, 0.03, 0.5, 0.999, 1, 2.7, 400])
def test_warm_up_steps_equal_those_of_transformers(warmup: float) -> None:
    from transformers import TrainingArguments

    for max_steps in (1, 7, 1000):
        expected = TrainingArguments(warmup_steps=warmup, use_cpu=True).get_warmup_steps(max_steps)
        assert num_warmup_steps(_training(warmup_steps=warmup), max_steps) == expected


def test_arguments_are_those_of_the_library() -> None:
    from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION

    generic = {"optimizer", "num_warmup_steps", "num_training_steps", "last_epoch", "kwargs"}
    functions: Any = TYPE_TO_SCHEDULER_FUNCTION
    for shape, function in functions.items():
        if shape.value in METRIC_DRIVEN:
            continue
        assert set(schedule_arguments(shape.value)) == set(inspect.signature(function).parameters) - generic


@pytest.mark.parametrize("shape", sorted(WITHOUT_WARMUP))
def test_shapes_without_warm_up_begin_at_the_peak(shape: str) -> None:
    assert learning_rate_at(_training(lr_scheduler_type=shape, warmup_steps=10, learning_rate=1e-3), 0, 20) == 1e-3


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("linear", {"num_cycles": 2}, "has no argument num_cycles; it takes none"),
    ("cosine", {"min_lr": 1e-6}, "has no argument min_lr; it takes num_cycles"),
    ("cosine_with_min_lr", {}, "needs one of"),
    ("cosine_with_min_lr", {"min_lr": 1e-6, "min_lr_rate": 0.1}, "needs one of"),
    ("warmup_stable_decay", {}, "needs num_decay_steps"),
    ("warmup_stable_decay", {"num_decay_steps": 3, "decay_type": "steep"}, "decay_type must be"),
    ("polynomial", {"lr_end": 1.0}, "must be below the learning rate"),
    ("cosine", {"num_cycles": "two"}, "cannot be computed"),
    ("inverse_sqrt", {"timescale": 0}, "cannot be computed"),
]


@pytest.mark.parametrize(("shape", "arguments", "message"), REFUSED)
def test_what_transformers_refuses_is_refused_with_words(shape: str, arguments: dict[str, Any], message: str) -> None:
    training = _training(lr_scheduler_type=shape, lr_scheduler_kwargs=arguments)
    assert message in schedule_problem(training)
    with pytest.raises(ValueError, match=r"\w"):
        learning_rate_at(training, 0, 10)
    with pytest.raises((ValueError, TypeError, ZeroDivisionError)):
        _library_rates(training, 10, 2)


def test_polynomial_with_nothing_but_warm_up_is_refused() -> None:
    training = _training(lr_scheduler_type="polynomial", warmup_steps=10)
    assert "shorter than the run" in schedule_problem(training, 10)
    assert schedule_problem(training, 11) == ""
