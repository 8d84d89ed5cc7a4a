"""Fields of `[training]` that say what happens around the updates: evaluation, logging, checkpoints, parallelism, hub.

Names and defaults are those of `transformers.TrainingArguments` (5.23); a test holds them against the installed one.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from tui_trainer.config.section import Section, knob

LogLevel = Literal["debug", "info", "warning", "error", "critical", "passive"]


class EvaluationFields(Section):
    """When the run measures itself and what it writes down."""

    group: ClassVar[str] = "Evaluation and logging"

    eval_strategy: Literal["no", "steps", "epoch"] = knob(
        "no", "When to evaluate: never, every eval_steps, or after each epoch."
    )
    eval_steps: float | None = knob(
        None, "Updates between evaluations; below 1 a share of the run; without it logging_steps.", unit="steps", gt=0
    )
    eval_delay: float = knob(0, "Epochs or steps before the first evaluation.", ge=0, expert=True)
    eval_on_start: bool = knob(
        False, "Evaluate (and sample) before the first update, so that one sees where the run began."
    )
    logging_strategy: Literal["no", "steps", "epoch"] = knob(
        "steps", "When loss and learning rate are written.", expert=True
    )
    logging_steps: float = knob(
        1,
        "Updates between two points of the curves; below 1 a share of the run. The loss is the mean since the "
        "last point.",
        unit="steps",
        gt=0,
    )
    logging_first_step: bool = knob(False, "Write the first step too.", expert=True)
    report_to: str | list[str] = knob("none", "Trackers to report to as well, as wandb or tensorboard.")
    project: str = knob("huggingface", "Project name for the tracker.", expert=True)
    trackio_space_id: str | None = knob(None, "Space for live logging by trackio.", expert=True)
    trackio_bucket_id: str | None = knob(None, "Bucket of that Space.", expert=True)
    trackio_static_space_id: str | Literal[False] | None = knob(
        None, "Read-only Space for links that stay.", expert=True
    )
    log_level: LogLevel = knob("passive", "How much the libraries write to the log.", expert=True)
    log_level_replica: LogLevel = knob("warning", "The same for the other processes.", expert=True)
    seed: int = knob(42, "Start of all random numbers of the run.", ge=0)
    data_seed: int | None = knob(None, "Start of the row order, if it is to differ from seed.", ge=0, expert=True)
    full_determinism: bool = knob(False, "Only deterministic kernels: repeatable on a GPU, slower.", expert=True)
    debug: str = knob("", "underflow_overflow looks for the layer in which numbers overflow.", expert=True)
    skip_memory_metrics: bool = knob(
        True, "Leave out the library's own memory report, which slows training.", expert=True
    )


class CheckpointFields(Section):
    """What is kept of the run, and how often."""

    group: ClassVar[str] = "Checkpoints"

    save_strategy: Literal["no", "steps", "epoch", "best"] = knob(
        "steps",
        "When to save: never, every save_steps, after each epoch, or at each best evaluation. The end is always "
        "saved, except with no.",
    )
    save_steps: float = knob(500, "Updates between checkpoints; below 1 a share of the run.", unit="steps", gt=0)
    save_total_limit: int | None = knob(None, "Keep only this many checkpoints, the newest ones and the best.", ge=1)
    save_only_model: bool = knob(False, "Leave out the optimiser: a third of the size, but the run cannot be resumed.")
    save_on_each_node: bool = knob(False, "Save on every machine, for machines without a common disk.", expert=True)
    load_best_model_at_end: bool = knob(False, "End with the best checkpoint instead of the last.")
    metric_for_best_model: str | None = knob(
        None, "What best means, as eval_loss or eval_exact_match; without it the loss."
    )
    greater_is_better: bool | None = knob(
        None, "Whether more of it is better; without it no for a loss, yes for the rest.", expert=True
    )
    ignore_data_skip: bool = knob(False, "On resume begin the data anew instead of where it was.", expert=True)
    restore_callback_states_from_checkpoint: bool = knob(
        False, "On resume restore the library's callbacks too.", expert=True
    )


class ParallelFields(Section):
    """How the work is spread over devices."""

    group: ClassVar[str] = "Parallel"

    use_cpu: bool = knob(False, "Train on the CPU even where there is a GPU.")
    fsdp: bool | str | None = knob(
        None,
        "Spread weights, gradients and optimiser over the GPUs (fully sharded data parallel): true, or the "
        "former option string.",
    )
    fsdp_config: dict[str, Any] | str | None = knob(
        None, "Its settings, as {version = 2, reshard_after_forward = true}."
    )
    deepspeed: dict[str, Any] | str | None = knob(
        None, "DeepSpeed settings or the path of its JSON file. Needs the package deepspeed."
    )
    accelerator_config: dict[str, Any] | str | None = knob(
        None, "Settings of accelerate, as {split_batches = true}.", expert=True
    )
    ddp_backend: Literal["nccl", "gloo", "mpi", "xccl", "hccl", "cncl", "mccl"] | None = knob(
        None, "How processes talk; without it nccl on GPUs, gloo on the CPU.", expert=True
    )
    ddp_find_unused_parameters: bool | None = knob(None, "Look for weights a step did not use.", expert=True)
    ddp_bucket_cap_mb: int | None = knob(
        None, "Size of the buckets in which gradients are exchanged.", unit="MiB", ge=1, expert=True
    )
    ddp_broadcast_buffers: bool | None = knob(None, "Keep buffers equal on all processes.", expert=True)
    ddp_static_graph: bool | None = knob(None, "Promise that every step uses the same weights.", expert=True)
    ddp_timeout: int = knob(1800, "How long processes wait for each other.", unit="s", ge=1, expert=True)


class HubFields(Section):
    """What is uploaded. The token comes from `hf auth login` or HF_TOKEN, never from a file of ours."""

    group: ClassVar[str] = "Hub"

    push_to_hub: bool = knob(False, "Upload the model to the hub when it is saved.")
    hub_model_id: str | None = knob(None, "Repository to upload to, as name/model.")
    hub_private_repo: bool | None = knob(None, "Whether a new repository is private.")
    hub_strategy: Literal["end", "every_save", "checkpoint", "all_checkpoints"] = knob(
        "every_save", "What is uploaded, and when.", expert=True
    )
    hub_always_push: bool = knob(False, "Upload even while the previous upload goes on.", expert=True)
    hub_revision: str | None = knob(None, "Branch to upload to.", expert=True)
