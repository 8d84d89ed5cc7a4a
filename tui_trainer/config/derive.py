"""The numbers that follow from a configuration: batches, steps, warm-up, checkpoints, as `transformers.Trainer` counts.

Sources: `Trainer.set_initial_training_values` and `DefaultFlowCallback` of transformers 5.23, the lengths of
accelerate's sharded dataloaders. A test compares every number with a real `Trainer`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tui_trainer.config.schedule import num_warmup_steps
from tui_trainer.config.schema import RunConfig
from tui_trainer.config.training import TrainingConfig


@dataclass(frozen=True)
class RunPlan:
    """What a run will do, in numbers; None where it follows from a number of rows that is not known.

    Attributes:
        world_size: processes that train together.
        effective_batch_size: rows of one update, over all processes and accumulated batches.
        num_train_rows: prepared rows to train on; with packing, packed rows.
        batches_per_epoch: batches one process computes in one epoch.
        steps_per_epoch: updates in one epoch. For streamed rows the whole run counts as one epoch.
        max_steps: updates of the whole run.
        num_epochs: epochs begun, the last one perhaps cut short.
        warmup_steps: updates of the warm-up.
        logging_steps: updates between two points of the curves; None if the curves have none in between.
        eval_steps: updates between evaluations; None if they do not go by steps.
        save_steps: updates between checkpoints; None if they do not go by steps.
        num_evals: evaluations of the whole run.
        num_checkpoints: checkpoints written; with `save_strategy = "best"` the most that can be written.
        num_kept_checkpoints: checkpoints on disk at the end, after `save_total_limit`.
        max_num_tokens: tokens of the whole run if every row had `max_length` of them.
    """

    world_size: int
    effective_batch_size: int
    num_train_rows: int | None
    batches_per_epoch: int | None
    steps_per_epoch: int | None
    max_steps: int | None
    num_epochs: int | None
    warmup_steps: int | None
    logging_steps: int | None
    eval_steps: int | None
    save_steps: int | None
    num_evals: int | None
    num_checkpoints: int | None
    num_kept_checkpoints: int | None
    max_num_tokens: int | None


def plan_run(config: RunConfig, num_train_rows: int | None, world_size: int) -> RunPlan:
    """The plan of a run.

    Args:
        config: the run's configuration.
        num_train_rows: rows after preparation (filtered, split, packed); None if unknown.
        world_size: processes that train together.
    """
    training = config.training
    rows = None if config.data.streaming else num_train_rows
    batches = None if rows is None else batches_per_epoch(training, rows, world_size)
    steps = _Steps.of(training, batches)
    effective = training.per_device_train_batch_size * training.gradient_accumulation_steps * world_size
    if _accelerator_options(training).get("split_batches"):
        effective //= world_size
    evals = _num_evals(training, steps)
    checkpoints = _num_checkpoints(training, steps, evals)
    return RunPlan(
        world_size=world_size,
        effective_batch_size=effective,
        num_train_rows=rows,
        batches_per_epoch=batches,
        steps_per_epoch=steps.per_epoch,
        max_steps=steps.total,
        num_epochs=steps.epochs,
        warmup_steps=None if steps.total is None else num_warmup_steps(training, steps.total),
        logging_steps=_interval(training.logging_strategy, training.logging_steps, steps.total),
        eval_steps=_interval(training.eval_strategy, _eval_steps(training), steps.total),
        save_steps=_interval(training.save_strategy, training.save_steps, steps.total),
        num_evals=evals,
        num_checkpoints=checkpoints,
        num_kept_checkpoints=_num_kept(config, checkpoints, steps.total),
        max_num_tokens=None if steps.total is None else steps.total * effective * config.data.max_length,
    )


def batches_per_epoch(training: TrainingConfig, num_rows: int, world_size: int) -> int:
    """Batches that one process (the one with most) computes in one epoch of `num_rows` rows.

    Source: `len()` of what `accelerate.data_loader.prepare_data_loader` returns.
    """
    batch_size, drop_last = training.per_device_train_batch_size, training.dataloader_drop_last
    if training.train_sampling_strategy == "batch_rebalance":
        accumulation = training.gradient_accumulation_steps
        return _parts(num_rows, batch_size * accumulation * world_size, drop_last) * accumulation
    batches = _parts(num_rows, batch_size, drop_last)
    options = _accelerator_options(training)
    if options.get("split_batches"):
        return batches
    return _parts(batches, world_size, drop_last)


def resumed_max_steps(
    max_steps: int, num_train_epochs: float, *, step: int, epoch: int, updates_left: int, updates_per_epoch: int
) -> int:
    """Updates of a whole run that goes on, perhaps in batches of another size than before.

    Args:
        max_steps: `training.max_steps`; above 0 it is the answer.
        num_train_epochs: `training.num_train_epochs`.
        step: updates done.
        epoch: epochs gone through.
        updates_left: updates that are left of the present epoch, as batches are now.
        updates_per_epoch: updates of an epoch, as batches are now.
    """
    if max_steps > 0:
        return max_steps
    if step + updates_left == (epoch + 1) * updates_per_epoch:
        return math.ceil(num_train_epochs * updates_per_epoch)
    return step + max(updates_left + math.ceil((num_train_epochs - epoch - 1) * updates_per_epoch), 0)


def _parts(whole: int, size: int, drop_last: bool) -> int:
    return whole // size if drop_last else math.ceil(whole / size)


def _accelerator_options(training: TrainingConfig) -> Mapping[str, Any]:
    """The settings of accelerate that stand in the configuration; those of a file are not looked at."""
    options = training.accelerator_config
    return options if isinstance(options, Mapping) else {}


@dataclass(frozen=True)
class _Steps:
    """Updates of an epoch and of the run, and the epochs begun."""

    per_epoch: int | None
    total: int | None
    epochs: int | None
    last_epoch: float
    """How much of the last epoch is gone through, above 0 and at most 1."""

    @classmethod
    def of(cls, training: TrainingConfig, batches: int | None) -> _Steps:
        if batches is None:
            known = training.max_steps if training.max_steps > 0 else None
            return cls(known, known, None, 1.0)
        accumulation = training.gradient_accumulation_steps
        per_epoch = max(math.ceil(batches / accumulation), 1)
        if training.max_steps >= 0:
            total, epochs = training.max_steps, math.ceil(training.max_steps / per_epoch)
        else:
            total = math.ceil(training.num_train_epochs * per_epoch)
            epochs = math.ceil(training.num_train_epochs)
        rest = total - (epochs - 1) * per_epoch
        return cls(per_epoch, total, epochs, min(1.0, rest * accumulation / max(batches, 1)))


def _eval_steps(training: TrainingConfig) -> float:
    return training.logging_steps if training.eval_steps is None else training.eval_steps


def _interval(strategy: str, steps: float, max_steps: int | None) -> int | None:
    """A number of steps as it is, or below 1 as a share of the run; None if the strategy does not go by steps."""
    if strategy != "steps" or (steps < 1 and max_steps is None):
        return None
    return math.ceil((max_steps or 0) * steps) if steps < 1 else int(steps)


def _num_evals(training: TrainingConfig, steps: _Steps) -> int | None:
    at_start = int(training.eval_on_start)
    if training.eval_strategy == "no":
        return at_start
    if steps.total is None:
        return None
    if training.eval_strategy == "epoch":
        return None if steps.epochs is None else at_start + _epoch_ends(steps, training.eval_delay)
    return at_start + _step_ends(
        steps.total, _interval("steps", _eval_steps(training), steps.total), training.eval_delay
    )


def _num_checkpoints(training: TrainingConfig, steps: _Steps, evals: int | None) -> int | None:
    if training.save_strategy == "no":
        return 0
    if training.save_strategy == "best":
        return evals
    if training.save_strategy == "epoch":
        return None if steps.epochs is None else _epoch_ends(steps)
    if steps.total is None:
        return None
    return _step_ends(steps.total, _interval("steps", training.save_steps, steps.total))


def _num_kept(config: RunConfig, checkpoints: int | None, max_steps: int | None) -> int | None:
    """The limit counts the best checkpoint in, except that the newest one stays beside it, and those kept for good."""
    training, every = config.training, config.upkeep.keep_every_steps
    limit = training.save_total_limit
    if checkpoints is None or limit is None:
        return checkpoints
    limit = max(limit, 2) if training.load_best_model_at_end else limit
    return min(checkpoints, limit + ((max_steps or 0) // every if every else 0))


def _step_ends(max_steps: int, interval: int | None, delay: float = 0) -> int:
    """Multiples of the interval in a run, and its last step; none before `delay`."""
    if not interval:
        return 0
    last = max(max_steps, 1)
    before = math.ceil(delay / interval) if delay > 0 else 1
    multiples = max(0, last // interval - before + 1)
    return multiples + int(last % interval != 0 and delay <= last)


def _epoch_ends(steps: _Steps, delay: float = 0) -> int:
    """Ends of epochs in a run, the last one perhaps cut short; none before `delay` epochs."""
    whole = (steps.epochs or 0) - 1
    return sum(delay <= end for end in (*range(1, whole + 1), whole + steps.last_epoch)) if whole >= 0 else 0
