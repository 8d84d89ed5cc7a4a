"""Rules that weigh what a run needs against what the machine has: memory and disk."""

from __future__ import annotations

from collections.abc import Iterator

from tui_trainer.config.derive import plan_run
from tui_trainer.config.launch import num_processes
from tui_trainer.config.memory import checkpoint_bytes, estimate_memory
from tui_trainer.config.rules.facts import Facts, error, warning
from tui_trainer.config.schema import RunConfig
from tui_trainer.errors import Problem
from tui_trainer.units import size


def memory(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Whether the estimate is above the memory there is."""
    if facts.model_shape is None or config.launch.backend == "slurm":
        return
    on_cpu, processes = facts.is_without_gpu(config), num_processes(config, facts.num_gpus or 0)
    estimate = estimate_memory(config, facts.model_shape, processes, on_cpu=on_cpu, longest=facts.longest)
    here = max(1, processes // config.launch.num_machines)
    needed = estimate.total * here if on_cpu else estimate.total
    free = facts.memory_bytes if on_cpu else min(facts.gpu_memory_bytes, default=None)
    if free is None or needed <= free:
        return
    where = "memory" if on_cpu else "GPU memory"
    yield warning(
        "training.per_device_train_batch_size",
        f"about {size(needed)} of {where} are needed and {size(free)} are there",
        "set a smaller batch or data.max_length, activation_checkpointing, or [lora]",
        "data.max_length",
        "training.activation_checkpointing",
        "lora.r",
    )


def disk(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Whether the checkpoints fit the disk. Before an old one goes, one more is there."""
    if facts.model_shape is None or facts.free_disk_bytes is None or config.training.save_strategy == "no":
        return
    each = checkpoint_bytes(config, facts.model_shape)
    plan = plan_run(config, facts.num_train_rows, num_processes(config, facts.num_gpus or 0))
    free, keys = facts.free_disk_bytes, ("training.save_total_limit", "training.save_only_model", "training.save_steps")
    if each > free:
        message = f"one checkpoint of {size(each)} does not fit the {size(free)} that are free"
        yield error("training.save_strategy", message, "free space, or move the runs to another disk", *keys)
        return
    written, kept = plan.num_checkpoints, plan.num_kept_checkpoints
    if written is None or kept is None or (most := min(written, kept + 1) * each) <= free:
        return
    yield warning(
        "training.save_total_limit",
        f"{kept} checkpoints need about {size(most)} at a time and {size(free)} are free",
        "keep fewer of them, or free space",
        *keys[1:],
    )


RULES = (memory, disk)
