"""The schema against the installed `transformers.TrainingArguments`: fields, defaults and permitted names."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tui_trainer.config.catalogue import ALIASES, catalogue
from tui_trainer.config.checks import Facts, check_config
from tui_trainer.config.optimisers import BITSANDBYTES, FOLLOWS_WEIGHTS, OPTIMISERS
from tui_trainer.config.schema import RunConfig
from tui_trainer.config.training import RESERVED, TrainingConfig

OURS = {"logging_steps"}
"""Fields whose default differs on purpose: a curve wants every step."""


def _library_fields() -> dict[str, Any]:
    from transformers import TrainingArguments

    return {field.name: field for field in dataclasses.fields(TrainingArguments)}


def test_every_field_is_known_or_reserved() -> None:
    aliases = {alias.rpartition(".")[2] for alias in ALIASES if alias.startswith("training.")}
    known = {*TrainingConfig.model_fields, *RESERVED, *aliases}
    unknown = set(_library_fields()) - known
    assert unknown == set()


def test_no_field_is_made_up() -> None:
    made_up = (set(TrainingConfig.model_fields) | set(RESERVED)) - set(_library_fields())
    assert made_up == set()
    assert not set(TrainingConfig.model_fields) & set(RESERVED)


def test_defaults_are_those_of_the_library() -> None:
    from transformers import TrainingArguments

    used = TrainingArguments(use_cpu=True)  # some defaults are made on the way
    ours = TrainingConfig()
    for name, field in _library_fields().items():
        if name not in TrainingConfig.model_fields or name in OURS:
            continue
        made = None if field.default_factory is dataclasses.MISSING else field.default_factory()
        default = field.default if made is None else made
        value = getattr(ours, name)
        assert value in (default, getattr(used, name)) or (value, default) == ("none", None), name


def test_the_arguments_are_accepted_by_the_library(tmp_path: Any) -> None:
    from transformers import TrainingArguments

    values = TrainingConfig().to_training_arguments() | {"use_cpu": True}
    arguments = TrainingArguments(output_dir=str(tmp_path), **values)
    assert arguments.logging_steps == 1
    assert arguments.max_steps == -1
    assert arguments.report_to == []


@pytest.mark.parametrize(
    ("field", "enumeration"),
    [
        ("lr_scheduler_type", "SchedulerType"),
        ("eval_strategy", "IntervalStrategy"),
        ("save_strategy", "SaveStrategy"),
        ("hub_strategy", "HubStrategy"),
    ],
)
def test_choices_are_those_of_the_library(field: str, enumeration: str) -> None:
    from transformers import trainer_utils

    members = {member.value for member in getattr(trainer_utils, enumeration)}
    assert set(catalogue()[f"training.{field}"].choices) == members


def test_optimisers_are_those_of_the_library() -> None:
    from transformers import trainer_optimizer
    from transformers.training_args import OptimizerNames

    assert set(OPTIMISERS) == {member.value for member in OptimizerNames}
    assert set(BITSANDBYTES) == {member.value for member in trainer_optimizer._BITSANDBYTES_OPTIMIZERS}
    assert set(FOLLOWS_WEIGHTS) < set(OPTIMISERS)


@pytest.mark.parametrize("name", ["adamw_torch", "adamw_torch_fused", "adagrad", "sgd", "rmsprop", "adafactor"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_memory_of_an_optimiser_is_what_it_allocates(name: str, dtype: str) -> None:
    import torch
    from transformers import Trainer, TrainingArguments

    kind, values = Trainer.get_optimizer_cls_and_kwargs(TrainingArguments(use_cpu=True, optim=name))
    weights = torch.nn.Parameter(torch.ones(400, 300, dtype=getattr(torch, dtype)))
    optimizer = kind([weights], **values)
    weights.grad = torch.ones_like(weights)
    optimizer.step()
    state = [each for each in optimizer.state[weights].values() if torch.is_tensor(each)]
    held = sum(each.numel() * each.element_size() for each in state) / weights.numel()
    expected = OPTIMISERS[name] * (weights.element_size() / 4 if name in FOLLOWS_WEIGHTS else 1)
    assert held == pytest.approx(expected, abs=0.06)


REFUSED: list[dict[str, Any]] = [
    {"eval_strategy": "steps", "save_strategy": "epoch", "load_best_model_at_end": True},
    {"eval_strategy": "steps", "eval_steps": 10, "save_steps": 15, "load_best_model_at_end": True},
    {"eval_strategy": "steps", "eval_steps": 0.2, "save_steps": 0.3, "load_best_model_at_end": True},
    {"eval_strategy": "steps", "eval_steps": 0.1, "save_steps": 10, "load_best_model_at_end": True},
    {"eval_strategy": "steps", "eval_steps": 2.5},
    {"logging_steps": 1.5},
    {"save_steps": 10.5},
    {"bf16": True, "fp16": True},
    {"bf16_full_eval": True, "fp16_full_eval": True},
    {"lr_scheduler_type": "reduce_lr_on_plateau"},
    {"lr_scheduler_type": "greedy"},
    {"dataloader_prefetch_factor": 2},
    {"optim": "adamw"},
    {"tf32": True},
]


@pytest.mark.parametrize("training", REFUSED, ids=str)
def test_what_the_library_refuses_is_found_before(training: dict[str, Any], tmp_path: Any) -> None:
    from transformers import TrainingArguments

    config = RunConfig.model_validate({"training": training | {"use_cpu": True}})
    with pytest.raises(ValueError, match=r"\w"):
        TrainingArguments(output_dir=str(tmp_path), **config.training.to_training_arguments())
    keys = {f"training.{name}" for name in training}
    found = [problem for problem in check_config(config, Facts(num_gpus=0)) if problem.severity == "error"]
    assert [problem for problem in found if keys & {problem.key, *problem.keys}], found


ACCEPTED: list[dict[str, Any]] = [
    {"eval_strategy": "steps", "eval_steps": 10, "save_steps": 20, "load_best_model_at_end": True},
    {"eval_strategy": "steps", "eval_steps": 0.1, "save_steps": 0.3, "load_best_model_at_end": True},
    {"eval_strategy": "epoch", "save_strategy": "best", "load_best_model_at_end": True},
    {"eval_strategy": "epoch", "lr_scheduler_type": "greedy"},
    {"dataloader_prefetch_factor": 2, "dataloader_num_workers": 1},
    {"bf16": True},
]


@pytest.mark.parametrize("training", ACCEPTED, ids=str)
def test_what_the_library_takes_is_not_refused(training: dict[str, Any], tmp_path: Any) -> None:
    from transformers import TrainingArguments

    tree = {"training": training | {"use_cpu": True}, "data": {"path": "a", "eval_split": "test"}}
    config = RunConfig.model_validate(tree | {"model": {"name_or_path": "b"}})
    TrainingArguments(output_dir=str(tmp_path), **config.training.to_training_arguments())
    assert [problem for problem in check_config(config, Facts(num_gpus=0)) if problem.severity == "error"] == []
