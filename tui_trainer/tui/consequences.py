"""What the draft would do, in words and a curve: the right side of the Args screen. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tui_trainer.config.checks import Facts
from tui_trainer.config.derive import RunPlan, plan_run
from tui_trainer.config.launch import num_processes
from tui_trainer.config.memory import MemoryEstimate, ModelShape, checkpoint_bytes, estimate_memory
from tui_trainer.config.schedule import learning_rate_at, schedule_problem
from tui_trainer.procs.facts import have_bf16, installed_packages
from tui_trainer.runs.series import Series
from tui_trainer.tui import format as fmt
from tui_trainer.tui.feeds.dataset import DatasetState

if TYPE_CHECKING:
    from tui_trainer.config.schema import RunConfig
    from tui_trainer.procs.machine import MachineReading

_CURVE_POINTS = 240


@dataclass(frozen=True)
class Consequences:
    """What follows from a configuration on this machine with this dataset."""

    plan: RunPlan
    facts: Facts
    memory: MemoryEstimate | None
    checkpoint_bytes: int | None
    rate: Series


def consequences(config: RunConfig, dataset: DatasetState, reading: MachineReading | None) -> Consequences:
    """Everything the Args screen shows beside the fields."""
    gpus = reading.gpus if reading else ()
    num_gpus = len(gpus) if reading else None
    world_size = num_processes(config, num_gpus or 0)
    rows = _num_train_rows(config, dataset)
    plan = plan_run(config, rows, world_size)
    shape = ModelShape.from_dict(dataset.shape) if dataset.shape else None
    facts = Facts(
        num_gpus=num_gpus,
        gpu_indices=tuple(gpu.index for gpu in gpus),
        has_bf16=have_bf16(gpus),
        packages=installed_packages(),
        gpu_memory_bytes=tuple(gpu.memory_total for gpu in gpus if gpu.memory_total),
        memory_bytes=reading.memory_available if reading else None,
        free_disk_bytes=reading.disk_free if reading else None,
        num_train_rows=rows,
        longest=(dataset.verdict or {}).get("longest"),
        model_shape=shape,
    )
    on_cpu = facts.is_without_gpu(config)
    return Consequences(
        plan=plan,
        facts=facts,
        memory=estimate_memory(config, shape, world_size, on_cpu=on_cpu, longest=facts.longest) if shape else None,
        checkpoint_bytes=checkpoint_bytes(config, shape) if shape else None,
        rate=_rate_curve(config, plan.max_steps or 1000),
    )


def _num_train_rows(config: RunConfig, dataset: DatasetState) -> int | None:
    """Rows that would be trained on: as judged, else as far as it is known before they are prepared."""
    judged = (dataset.verdict or {}).get("num_train_rows")
    if isinstance(judged, int):
        return judged
    if dataset.num_rows is None or config.data.packing:
        return None
    rows = min(dataset.num_rows, config.data.max_samples or dataset.num_rows)
    share = config.data.eval_split
    return rows - math.ceil(rows * share) if isinstance(share, float) else rows


def _rate_curve(config: RunConfig, max_steps: int) -> Series:
    series = Series()
    if schedule_problem(config.training, max_steps):
        return series  # the checks say what is wrong with it
    stride = max(max_steps // _CURVE_POINTS, 1)
    for step in range(0, max_steps + 1, stride):
        series.append(step, learning_rate_at(config.training, step, max_steps))
    return series


def lines(
    config: RunConfig, result: Consequences, dataset: DatasetState, reading: MachineReading | None
) -> Iterator[tuple[str, str]]:
    """Name and value of each consequence."""
    training, plan = config.training, result.plan
    accumulation, world = training.gradient_accumulation_steps, plan.world_size
    parts = f"{training.per_device_train_batch_size} × {accumulation} accumulated × {world}"
    yield "batch", f"{plan.effective_batch_size} rows = {parts} {'processes' if world != 1 else 'process'}"
    rows = plan.num_train_rows
    packed = " packed, about" if config.data.packing else ""
    yield "rows", f"{packed} {fmt.count(rows)}".strip() if rows is not None else "not known yet: open the data (1)"
    if plan.max_steps is not None:
        per_epoch = f", {fmt.count(plan.steps_per_epoch)} an epoch" if plan.steps_per_epoch else ""
        yield "steps", f"{fmt.count(plan.max_steps)}{per_epoch}"
        yield "warm-up", f"{fmt.count(plan.warmup_steps or 0)} steps"
    yield from _token_lines(dataset, plan)
    yield from _memory_lines(result, reading)
    if plan.num_evals:
        yield "evaluations", fmt.count(plan.num_evals)
    yield from _disk_lines(result)


def _token_lines(dataset: DatasetState, plan: RunPlan) -> Iterator[tuple[str, str]]:
    verdict = dataset.verdict or {}
    tokens, trained = verdict.get("num_tokens"), verdict.get("num_trained_tokens")
    if isinstance(tokens, int) and isinstance(trained, int):
        epochs = plan.num_epochs or 1
        share = f"{trained / max(tokens, 1):.0%} trained"
        yield "tokens", f"{fmt.count(tokens)} an epoch, {share}, about {fmt.count(tokens * epochs)} in all"


def _memory_lines(result: Consequences, reading: MachineReading | None) -> Iterator[tuple[str, str]]:
    memory = result.memory
    if memory is None:
        yield "memory", "not known: the model's sizes are not read yet"
        return
    free = f" of {fmt.size(_memory_free(result, reading))} free" if reading else ""
    parts = {
        "weights": memory.weights,
        "gradients": memory.gradients,
        "optimiser": memory.optimizer,
        "activations": memory.activations,
        "logits": memory.logits,
    }
    shares = ", ".join(f"{name} {fmt.size(value)}" for name, value in parts.items() if value)
    yield "memory", f"about {fmt.size(memory.total)} a process{free}: {shares}"


def _memory_free(result: Consequences, reading: MachineReading | None) -> float | None:
    if reading is None:
        return None
    if result.facts.num_gpus:
        return min((gpu.memory_total or 0) - (gpu.memory_used or 0) for gpu in reading.gpus)
    return reading.memory_available


def _disk_lines(result: Consequences) -> Iterator[tuple[str, str]]:
    if result.checkpoint_bytes is None or not result.plan.num_kept_checkpoints:
        return
    kept = result.plan.num_kept_checkpoints
    total = kept * result.checkpoint_bytes
    free = result.facts.free_disk_bytes
    left = f" of {fmt.size(free)} free" if free is not None else ""
    yield "checkpoints", f"{kept} × {fmt.size(result.checkpoint_bytes)} = {fmt.size(total)}{left}"
