"""Fields of `[training]` that say how the weights are updated: batch, optimiser, schedule, precision and memory.

Names and defaults are those of `transformers.TrainingArguments` (5.23); a test holds them against the installed one.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from tui_trainer.config.section import Section, knob


class BatchFields(Section):
    """How many examples make a step, and how many steps a run."""

    group: ClassVar[str] = "Batch"

    per_device_train_batch_size: int = knob(
        8,
        "Examples a process computes at once. Memory grows with it; the effective batch is this x processes x "
        "accumulation.",
        ge=1,
    )
    gradient_accumulation_steps: int = knob(
        1, "Batches whose gradients are added up before one update. A larger effective batch without more memory.", ge=1
    )
    per_device_eval_batch_size: int = knob(8, "Examples a process evaluates at once.", ge=1)
    num_train_epochs: float = knob(3.0, "How often the data is gone through.", unit="epochs", gt=0)
    max_steps: int = knob(
        -1,
        "End after this many updates whatever num_train_epochs says; -1 leaves it to the epochs.",
        unit="steps",
        ge=-1,
    )
    train_sampling_strategy: Literal["random", "sequential", "group_by_length", "batch_rebalance"] = knob(
        "random",
        "Order of the rows. group_by_length puts rows of similar length together: less padding, a less random order.",
    )
    auto_find_batch_size: bool = knob(
        False, "Start again with a smaller batch after running out of memory.", expert=True
    )
    average_tokens_across_devices: bool = knob(
        True,
        "Divide the loss by the tokens of all processes, so that it does not depend on how rows are spread.",
        expert=True,
    )
    dataloader_drop_last: bool = knob(False, "Leave out the last incomplete batch of an epoch.", expert=True)
    dataloader_num_workers: int = knob(
        0, "Processes that prepare batches; 0 prepares them in the training process.", ge=0, expert=True
    )
    dataloader_pin_memory: bool = knob(
        True, "Keep batches in page-locked memory, for a faster copy to the GPU.", expert=True
    )
    dataloader_persistent_workers: bool = knob(
        False,
        "Keep the preparing processes between epochs instead of starting them anew; needs dataloader_num_workers.",
        expert=True,
    )
    dataloader_prefetch_factor: int | None = knob(
        None, "Batches each preparing process holds ready.", ge=1, expert=True
    )
    dataloader_multiprocessing_context: Literal["fork", "spawn", "forkserver"] | None = knob(
        None, "How the preparing processes are started.", expert=True
    )
    dataloader_in_order: bool = knob(True, "Deliver batches in the order they were asked for.", expert=True)


class OptimiserFields(Section):
    """How a gradient becomes an update."""

    group: ClassVar[str] = "Optimiser"

    learning_rate: float = knob(
        5e-5,
        "Size of an update at the schedule's peak. Full training: 1e-5 to 5e-5; LoRA: about ten times that; tiny "
        "new models: 1e-3 and more.",
        gt=0,
        le=10,
    )
    optim: str = knob(
        "adamw_torch_fused",
        "Optimiser. AdamW keeps two numbers a weight; adamw_8bit, paged_adamw_8bit and adafactor keep less.",
    )
    optim_args: str | None = knob(None, 'Extra arguments of the optimiser, "name=value,…".', expert=True)
    optim_target_modules: str | list[str] | None = knob(None, "Layers for GaLore and APOLLO.", expert=True)
    weight_decay: float = knob(0.0, "Pull of the weights towards zero; biases and norms are left out.", ge=0, le=10)
    adam_beta1: float = knob(0.9, "Memory of the mean gradient.", ge=0, lt=1, expert=True)
    adam_beta2: float = knob(
        0.999, "Memory of the squared gradient; 0.95 is usual for pretraining.", ge=0, lt=1, expert=True
    )
    adam_epsilon: float = knob(1e-8, "Added to the denominator of an update.", gt=0, expert=True)
    max_grad_norm: float = knob(1.0, "Longer gradients are cut to this norm; 0 turns it off.", ge=0)
    label_smoothing_factor: float = knob(0.0, "Share of the target spread over all tokens.", ge=0, lt=1, expert=True)
    neftune_noise_alpha: float | None = knob(
        None, "Noise added to the embeddings (NEFTune); 5 to 15 is usual.", gt=0, expert=True
    )


class ScheduleFields(Section):
    """How the learning rate changes from step to step."""

    group: ClassVar[str] = "Schedule"

    lr_scheduler_type: Literal[
        "linear",
        "cosine",
        "cosine_with_restarts",
        "polynomial",
        "constant",
        "constant_with_warmup",
        "inverse_sqrt",
        "reduce_lr_on_plateau",
        "cosine_with_min_lr",
        "cosine_warmup_with_min_lr",
        "warmup_stable_decay",
        "greedy",
    ] = knob("linear", "Shape of the learning rate over the run.")
    lr_scheduler_kwargs: dict[str, Any] | None = knob(
        None,
        "Arguments of the shape: {min_lr_rate = 0.1} for cosine_with_min_lr, {num_decay_steps = 100} for "
        "warmup_stable_decay.",
    )
    warmup_steps: float = knob(
        0,
        "Updates in which the rate rises from 0 to its peak; below 1 it is a share of all steps (the former "
        "warmup_ratio).",
        unit="steps",
        ge=0,
    )


class PrecisionFields(Section):
    """What is traded between memory, speed and exactness."""

    group: ClassVar[str] = "Precision and memory"

    bf16: bool = knob(
        False,
        "Compute in bfloat16, weights as they are. About half the activation memory, faster on GPUs since Ampere.",
    )
    fp16: bool = knob(False, "Compute in float16 with loss scaling, for GPUs without bfloat16.")
    tf32: bool | None = knob(None, "Allow TF32 matrix products on Ampere and later: faster, slightly less exact.")
    activation_checkpointing: bool | None = knob(
        None, "Keep few activations and compute the rest again: much less memory, about a fifth to a third slower."
    )
    activation_checkpointing_kwargs: dict[str, Any] | None = knob(
        None,
        "Its arguments: {every_n_layers = 2} keeps more, {offload = true} moves what is kept to host memory.",
        expert=True,
    )
    torch_compile: bool = knob(False, "Compile the model: a slow first step, faster ones after.")
    torch_compile_backend: str | None = knob(None, "Compiler back end.", expert=True)
    torch_compile_mode: str | None = knob(None, "Compiler mode, as max-autotune.", expert=True)
    use_liger_kernel: bool = knob(
        False, "Fused kernels of the package liger-kernel: less memory at the loss, faster. Needs a GPU."
    )
    liger_kernel_config: dict[str, bool] | None = knob(None, "Which of the fused kernels to use.", expert=True)
    use_cache: bool = knob(False, "Keep the key-value cache while training; only few adapters need it.", expert=True)
    torch_empty_cache_steps: int | None = knob(
        None, "Return unused GPU memory every so many steps; slower.", unit="steps", ge=1, expert=True
    )
    bf16_full_eval: bool = knob(False, "Evaluate with the weights in bfloat16.", expert=True)
    fp16_full_eval: bool = knob(False, "Evaluate with the weights in float16.", expert=True)
    eval_accumulation_steps: int | None = knob(
        None, "Evaluation batches before results move to the CPU.", ge=1, expert=True
    )
