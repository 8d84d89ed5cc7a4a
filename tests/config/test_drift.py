"""The schema against the installed `transformers.TrainingArguments`: fields, defaults and permitted names."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tui_trainer.config.catalogue import ALIASES, catalogue
from tui_trainer.config.optimisers import BITSANDBYTES, FOLLOWS_WEIGHTS, OPTIMISERS
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
