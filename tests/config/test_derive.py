"""The run plan against the numbers of a real `transformers.Trainer`."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tui_trainer.config.derive import RunPlan, batches_per_epoch, plan_run
from tui_trainer.config.schema import RunConfig


def _config(data: dict[str, Any] | None = None, **training: Any) -> RunConfig:
    return RunConfig.model_validate({"training": training, "data": data or {}})


def _trainer(folder: Path, config: RunConfig, num_rows: int) -> Any:
    """A real Trainer over a linear model that learns `num_rows` rows."""
    import torch
    from transformers import Trainer, TrainingArguments

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def forward(self, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"loss": self.layer(input_ids).square().mean()}

    values = config.training.to_training_arguments() | {"use_cpu": True}
    arguments = TrainingArguments(output_dir=str(folder), disable_tqdm=True, **values)
    rows: Any = [{"input_ids": torch.ones(1)}] * num_rows
    return Trainer(Model(), args=arguments, train_dataset=rows, eval_dataset=rows)


BATCHING: list[dict[str, Any]] = [
    {},
    {"gradient_accumulation_steps": 3},
    {"gradient_accumulation_steps": 50},
    {"dataloader_drop_last": True, "gradient_accumulation_steps": 2},
    {"num_train_epochs": 1.5},
    {"num_train_epochs": 0.3, "gradient_accumulation_steps": 2},
    {"max_steps": 7},
    {"max_steps": 40, "gradient_accumulation_steps": 4},
    {"warmup_steps": 0.1, "logging_steps": 0.07, "save_steps": 0.25, "eval_strategy": "steps", "eval_steps": 0.2},
    {"warmup_steps": 3, "logging_steps": 5, "save_steps": 9, "eval_strategy": "steps"},
    {"train_sampling_strategy": "sequential", "per_device_train_batch_size": 1},
    {"train_sampling_strategy": "batch_rebalance", "gradient_accumulation_steps": 2, "per_device_train_batch_size": 3},
]


@pytest.mark.parametrize("training", BATCHING, ids=str)
@pytest.mark.parametrize("num_rows", [13, 64, 100])
def test_plan_equals_a_real_trainer(training: dict[str, Any], num_rows: int, tmp_path: Path) -> None:
    from transformers import TrainerState

    config = _config(**({"per_device_train_batch_size": 4} | training))
    trainer = _trainer(tmp_path, config, num_rows)
    loader = trainer.get_train_dataloader()
    epochs, per_epoch, rows, _, batch, in_epoch, total = trainer.set_initial_training_values(trainer.args, loader)
    state: Any = TrainerState()
    state.compute_steps(trainer.args, total)

    plan = plan_run(config, num_rows, world_size=1)
    assert (plan.num_epochs, plan.steps_per_epoch, plan.max_steps) == (epochs, per_epoch, total)
    assert (plan.num_train_rows, plan.effective_batch_size, plan.batches_per_epoch) == (rows, batch, in_epoch)
    assert plan.warmup_steps == trainer.args.get_warmup_steps(total)
    assert (plan.logging_steps, plan.save_steps) == (state.logging_steps, state.save_steps)
    if config.training.eval_strategy == "steps":
        assert plan.eval_steps == state.eval_steps


@pytest.mark.parametrize("world_size", [2, 3, 8])
@pytest.mark.parametrize("num_rows", [1, 13, 64, 100])
@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("split_batches", [False, True])
def test_batches_of_every_process_equal_those_of_accelerate(
    world_size: int, num_rows: int, drop_last: bool, split_batches: bool
) -> None:
    import torch
    from accelerate.data_loader import prepare_data_loader
    from torch.utils.data import DataLoader, TensorDataset

    batch_size = 24 if split_batches else 4
    rows = TensorDataset(torch.zeros(num_rows))
    lengths = {
        len(
            prepare_data_loader(
                DataLoader(rows, batch_size=batch_size, shuffle=True, drop_last=drop_last),
                num_processes=world_size,
                process_index=rank,
                split_batches=split_batches,
            )
        )
        for rank in range(world_size)
    }
    config = _config(
        per_device_train_batch_size=batch_size,
        dataloader_drop_last=drop_last,
        accelerator_config={"split_batches": split_batches},
    )
    assert lengths == {batches_per_epoch(config.training, num_rows, world_size)}


@pytest.mark.parametrize("world_size", [1, 2, 5])
@pytest.mark.parametrize(
    "training", [{}, {"max_steps": 7}, {"num_train_epochs": 2.4, "gradient_accumulation_steps": 3}]
)
def test_steps_of_several_processes_equal_those_of_a_real_trainer(
    world_size: int, training: dict[str, Any], tmp_path: Path
) -> None:
    import torch
    from accelerate.data_loader import prepare_data_loader
    from torch.utils.data import DataLoader, TensorDataset

    config = _config(per_device_train_batch_size=4, **training)
    trainer = _trainer(tmp_path, config, 1)
    loader = prepare_data_loader(
        DataLoader(TensorDataset(torch.zeros(77)), batch_size=4), num_processes=world_size, process_index=0
    )
    arguments = SimpleNamespace(
        **{
            name: getattr(trainer.args, name)
            for name in ("max_steps", "num_train_epochs", "gradient_accumulation_steps")
        },
        world_size=world_size,
    )
    epochs, per_epoch, _, _, batch, in_epoch, total = trainer.set_initial_training_values(arguments, loader)
    plan = plan_run(config, 77, world_size)
    assert (plan.num_epochs, plan.steps_per_epoch, plan.max_steps) == (epochs, per_epoch, total)
    assert (plan.effective_batch_size, plan.batches_per_epoch) == (batch, in_epoch)


COUNTED: list[dict[str, Any]] = [
    {"eval_strategy": "steps", "eval_steps": 4, "save_steps": 5},
    {"eval_strategy": "steps", "eval_steps": 5, "save_steps": 5, "eval_on_start": True},
    {"eval_strategy": "steps", "eval_steps": 3, "eval_delay": 7, "save_strategy": "no"},
    {"eval_strategy": "steps", "eval_steps": 3, "eval_delay": 14.5, "save_steps": 100},
    {"eval_strategy": "epoch", "save_strategy": "epoch"},
    {"eval_strategy": "epoch", "save_strategy": "epoch", "num_train_epochs": 2.5, "eval_delay": 2.4},
    {"eval_strategy": "epoch", "save_strategy": "epoch", "num_train_epochs": 2.5, "eval_delay": 2.5},
    {"eval_strategy": "epoch", "save_strategy": "epoch", "max_steps": 12, "eval_delay": 2.35},
    {"eval_strategy": "epoch", "save_strategy": "epoch", "max_steps": 10},
    {"eval_strategy": "no", "eval_on_start": True, "save_steps": 0.3},
    {"eval_strategy": "steps", "eval_steps": 0.21, "save_steps": 0.5, "gradient_accumulation_steps": 2},
    {"eval_strategy": "steps", "eval_steps": 4, "save_steps": 4, "save_total_limit": 2},
    {
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "max_steps": 4,
        "gradient_accumulation_steps": 2,
        "eval_delay": 1.39,
    },
]


@pytest.mark.parametrize("training", COUNTED, ids=str)
def test_counts_equal_what_a_real_run_does(training: dict[str, Any], tmp_path: Path) -> None:
    from transformers import TrainerCallback

    class Counter(TrainerCallback):
        def __init__(self) -> None:
            self.evals = self.checkpoints = 0

        def on_evaluate(self, *_: Any, **__: Any) -> None:
            self.evals += 1

        def on_save(self, *_: Any, **__: Any) -> None:
            self.checkpoints += 1

    config = _config(None, **({"per_device_train_batch_size": 4, "logging_strategy": "no"} | training))
    trainer, counter = _trainer(tmp_path, config, 20), Counter()
    trainer.add_callback(counter)
    trainer.train()

    plan = plan_run(config, 20, world_size=1)
    assert plan.max_steps == trainer.state.global_step
    assert (plan.num_evals, plan.num_checkpoints) == (counter.evals, counter.checkpoints)
    assert plan.num_kept_checkpoints == len(list(tmp_path.glob("checkpoint-*")))


def test_streamed_rows_make_one_long_epoch(tmp_path: Path) -> None:
    config = _config({"streaming": True}, max_steps=30, save_steps=10, warmup_steps=0.1)
    plan = plan_run(config, None, 2)
    assert (plan.steps_per_epoch, plan.max_steps, plan.num_epochs) == (30, 30, None)
    assert (plan.num_train_rows, plan.warmup_steps, plan.num_checkpoints) == (None, 3, 3)


def test_what_depends_on_unknown_rows_is_unknown() -> None:
    plan = plan_run(_config(save_steps=0.5), None, 1)
    unknown = {name for name in RunPlan.__dataclass_fields__ if getattr(plan, name) is None}
    assert unknown == {
        "num_train_rows",
        "batches_per_epoch",
        "steps_per_epoch",
        "max_steps",
        "num_epochs",
        "warmup_steps",
        "eval_steps",
        "save_steps",
        "num_checkpoints",
        "num_kept_checkpoints",
        "max_num_tokens",
    }
    assert plan.effective_batch_size == 8


def test_tokens_are_bounded_by_max_length() -> None:
    plan = plan_run(_config({"max_length": 100}, per_device_train_batch_size=4, num_train_epochs=2), 10, 1)
    assert plan.max_num_tokens == 2 * math.ceil(10 / 4) * 4 * 100
