"""Rules for the loop: steps, schedule, optimiser, evaluations, checkpoints, data workers."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from tui_trainer.config.derive import RunPlan, plan_run
from tui_trainer.config.launch import num_processes
from tui_trainer.config.optimisers import BITSANDBYTES, OPTIMISERS
from tui_trainer.config.rules.facts import Facts, error, warning
from tui_trainer.config.schedule import METRIC_DRIVEN, WITHOUT_WARMUP, schedule_problem
from tui_trainer.config.schema import RunConfig
from tui_trainer.errors import Problem

METRICS = ("loss", "eval_loss", "exact_match", "eval_exact_match")
"""What an evaluation measures, under the names that `metric_for_best_model` may give it."""

_PLAUSIBLE_RATES = {"lora": (1e-5, 5e-3), "full": (1e-7, 1e-3), "scratch": (1e-5, 2e-2)}
"""Lowest and highest learning rate that was seen to work, for Adam and its kin."""
_RATE_REMEDIES = {
    "lora": "1e-4 to 5e-4 is usual for an adapter",
    "full": "1e-5 to 5e-5 is usual for all weights of a trained model",
    "scratch": "1e-4 for large new models, up to 5e-3 for tiny ones",
}


def _plan(config: RunConfig, facts: Facts) -> RunPlan:
    return plan_run(config, facts.num_train_rows, num_processes(config, facts.num_gpus or 0))


def steps(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Numbers of steps that cannot be, or that the run never reaches."""
    training = config.training
    if training.max_steps == 0:
        yield error("training.max_steps", "is 0, which would train one step", "set -1 for whole epochs, or more steps")
    for name, strategy, steps in (
        ("logging", training.logging_strategy, training.logging_steps),
        ("eval", training.eval_strategy, training.eval_steps or training.logging_steps),
        ("save", training.save_strategy, training.save_steps),
    ):
        if strategy == "steps" and steps > 1 and steps != int(steps):
            yield error(
                f"training.{name}_steps", f"is {steps:g}: a number above 1 counts whole steps", f"set {steps:.0f}"
            )
    plan = _plan(config, facts)
    if not plan.max_steps:
        return
    for name, interval, what in (
        ("logging_steps", plan.logging_steps, "nothing is logged on the way"),
        ("eval_steps", plan.eval_steps, "only the end is evaluated"),
        ("save_steps", plan.save_steps, "only the end is saved"),
    ):
        if interval is not None and interval > plan.max_steps:
            yield warning(
                f"training.{name}", f"{interval} is beyond the run's {plan.max_steps} steps: {what}", "lower it"
            )


def schedule(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Whether the learning rate's shape can be made, and reaches its peak."""
    training, plan = config.training, _plan(config, facts)
    shape = training.lr_scheduler_type
    if problem := schedule_problem(training, plan.max_steps or None):
        yield error("training.lr_scheduler_kwargs", problem, "mend it", "training.lr_scheduler_type")
    if training.warmup_steps and shape in WITHOUT_WARMUP:
        remedy = 'set "constant_with_warmup"' if shape == "constant" else "set training.warmup_steps = 0"
        yield warning("training.warmup_steps", f"has no effect with {shape}", remedy, "training.lr_scheduler_type")
    elif plan.max_steps and (plan.warmup_steps or 0) >= plan.max_steps:
        yield warning(
            "training.warmup_steps",
            f"a warm-up of {plan.warmup_steps} steps is no shorter than the run of {plan.max_steps}: the learning rate "
            "never reaches its peak",
            "set 0.03 for a thirtieth of the run",
        )
    if shape in METRIC_DRIVEN and training.eval_strategy == "no":
        yield error(
            "training.lr_scheduler_type",
            f"{shape} follows the evaluation, and there is none",
            'set training.eval_strategy = "steps" or "epoch"',
            "training.eval_strategy",
        )


def rate(config: RunConfig, _: Facts) -> Iterator[Problem]:
    """Learning rates that hardly ever work."""
    if "adam" not in config.training.optim:
        return
    kind = "lora" if config.lora is not None else "scratch" if config.model.from_scratch is not None else "full"
    lowest, highest = _PLAUSIBLE_RATES[kind]
    rate = config.training.learning_rate
    if not lowest <= rate <= highest:
        what = {"lora": "LoRA", "full": "training all weights", "scratch": "a new model"}[kind]
        fate = "will hardly move anything" if rate < lowest else "is likely to destroy the model"
        yield warning("training.learning_rate", f"{rate:g} {fate} with {what}", _RATE_REMEDIES[kind])


def optimiser(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Whether the optimiser exists and runs here."""
    name = config.training.optim
    if name not in OPTIMISERS:
        near = difflib.get_close_matches(name, OPTIMISERS, n=1, cutoff=0.5)
        remedy = f"did you mean {near[0]}?" if near else f"there are: {', '.join(OPTIMISERS)}"
        yield error("training.optim", f"there is no optimiser {name!r}", remedy)
    elif name in BITSANDBYTES and facts.is_without_gpu(config):
        yield error("training.optim", f"{name} needs an NVIDIA GPU", 'set "adamw_torch_fused"', "training.use_cpu")


def best(config: RunConfig, _: Facts) -> Iterator[Problem]:
    """Whether a best checkpoint can be told from the others, as `TrainingArguments` wants it."""
    training = config.training
    needs_best = training.load_best_model_at_end or training.save_strategy == "best"
    key = "training.load_best_model_at_end" if training.load_best_model_at_end else "training.save_strategy"
    if needs_best and training.eval_strategy == "no":
        yield error(
            key,
            "needs evaluations to tell the best checkpoint",
            'set training.eval_strategy = "steps" or "epoch"',
            "training.eval_strategy",
        )
    elif training.load_best_model_at_end and training.save_strategy != "best":
        yield from _matching_strategies(config)
    metric = training.metric_for_best_model
    if metric is not None and metric not in METRICS:
        yield error(
            "training.metric_for_best_model", f"{metric!r} is not measured here", "set eval_loss or eval_exact_match"
        )
    elif metric is not None and metric.endswith("exact_match") and not config.sampling.num_exact_match:
        yield error(
            "training.metric_for_best_model",
            f"{metric} is measured only with sampling.num_exact_match",
            "set it, or take eval_loss",
            "sampling.num_exact_match",
        )
    if metric is not None and metric.endswith("loss") and training.greater_is_better:
        yield warning("training.greater_is_better", "would keep the checkpoint with the highest loss", "leave it out")


def _matching_strategies(config: RunConfig) -> Iterator[Problem]:
    training = config.training
    keys = ("training.eval_strategy", "training.save_strategy", "training.eval_steps", "training.save_steps")
    if training.eval_strategy != training.save_strategy:
        yield error(
            "training.load_best_model_at_end",
            f"saves by {training.save_strategy} and evaluates by {training.eval_strategy}: the best could go unsaved",
            "set both strategies alike",
            *keys,
        )
    elif training.eval_strategy == "steps":
        eval_steps = training.eval_steps or training.logging_steps
        # shares of a run are compared as whole millionths, as the library does
        scale = 1_000_000 if training.save_steps < 1 and eval_steps < 1 else 1
        is_mixed = (training.save_steps < 1) != (eval_steps < 1)
        if is_mixed or (training.save_steps * scale) % (eval_steps * scale) != 0:
            yield error(
                "training.load_best_model_at_end",
                f"save_steps {training.save_steps:g} is no multiple of eval_steps {eval_steps:g}",
                "save at every evaluation",
                *keys,
            )


def workers(config: RunConfig, _: Facts) -> Iterator[Problem]:
    """Settings that only data workers have, without workers."""
    training = config.training
    if training.dataloader_num_workers > 0:
        return
    for name in ("prefetch_factor", "persistent_workers", "multiprocessing_context"):
        if getattr(training, f"dataloader_{name}"):
            yield error(
                f"training.dataloader_{name}",
                "needs processes that prepare batches",
                "set training.dataloader_num_workers, or leave it out",
                "training.dataloader_num_workers",
            )


RULES = (steps, schedule, rate, optimiser, best, workers)
