"""Rules for precision and memory: what the hardware computes in, and kernels that need a GPU."""

from __future__ import annotations

from collections.abc import Iterator

from tui_trainer.config.launch import effective_precision, fsdp_settings
from tui_trainer.config.rules.facts import Facts, error, warning
from tui_trainer.config.schema import RunConfig
from tui_trainer.errors import Problem


def contradictions(config: RunConfig, _: Facts) -> Iterator[Problem]:
    """Two precisions at once."""
    training, mixed = config.training, config.launch.mixed_precision
    if training.bf16 and training.fp16:
        yield error("training.fp16", "cannot be had together with training.bf16", "set one to false", "training.bf16")
    if training.bf16_full_eval and training.fp16_full_eval:
        yield error(
            "training.fp16_full_eval",
            "cannot be had together with bf16_full_eval",
            "set one to false",
            "training.bf16_full_eval",
        )
    for name, is_set in (("bf16", training.bf16), ("fp16", training.fp16)):
        if is_set and mixed is not None and mixed != name:
            yield error(
                "launch.mixed_precision",
                f"is {mixed}, and training.{name} is true",
                "leave out one of them",
                f"training.{name}",
            )


def hardware(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Whether the hardware computes in what is asked for."""
    precision, training = effective_precision(config), config.training
    key = "launch.mixed_precision" if config.launch.mixed_precision else f"training.{precision}"
    has_gpu = bool(facts.num_gpus) and not training.use_cpu
    if has_gpu and facts.has_bf16 is False and precision == "bf16":
        yield error(key, "the GPUs here do not compute in bfloat16", "set training.fp16 instead", "training.fp16")
    if has_gpu and facts.has_bf16 is False and config.model.dtype == "bfloat16":
        yield error("model.dtype", "the GPUs here do not compute in bfloat16", 'set "float32"')
    if has_gpu and facts.has_bf16 is False and training.tf32:
        yield error("training.tf32", "the GPUs here have no TF32, which came with Ampere", "leave it out")
    if has_gpu and facts.has_bf16 is False and config.model.attn_implementation == "flash_attention_2":
        yield error(
            "model.attn_implementation", "flash_attention_2 has no kernels for the GPUs here", 'set it to "auto"'
        )
    if not facts.is_without_gpu(config):
        return
    if precision == "fp16":
        yield error(key, "float16 needs a GPU", "set it to false" if "fp16" in key else 'set "no"')
    if precision == "bf16" and not training.use_cpu:
        yield error(
            key,
            "there is no GPU, and on a CPU bfloat16 has to be asked for",
            "set training.use_cpu = true too; float32 is often faster on a CPU",
            "training.use_cpu",
        )
    if training.tf32:
        yield error("training.tf32", "needs a GPU since Ampere", "leave it out")
    if training.use_liger_kernel:
        yield error("training.use_liger_kernel", "needs a GPU", "set it to false")


def checkpointing(config: RunConfig, _: Facts) -> Iterator[Problem]:
    """Two ways to keep few activations, or one that cannot work."""
    training = config.training
    fsdp = fsdp_settings(training)
    if training.fsdp and fsdp.get("activation_checkpointing") and training.activation_checkpointing:
        yield error(
            "training.activation_checkpointing",
            "is set beside that of fsdp_config",
            "keep the one in training.fsdp_config",
            "training.fsdp_config",
        )
    if training.fsdp and fsdp.get("activation_checkpointing") and config.lora is not None and config.lora.dropout:
        yield error(
            "lora.dropout",
            "is drawn anew when fsdp_config computes activations again: the gradients would be of another draw",
            "set it to 0, or training.activation_checkpointing instead of that of fsdp_config",
            "training.fsdp_config",
            "training.activation_checkpointing",
        )
    if training.activation_checkpointing and training.use_cache:
        yield warning(
            "training.use_cache",
            "is turned off by activation checkpointing",
            "set it to false",
            "training.activation_checkpointing",
        )
    if training.activation_checkpointing_kwargs and not training.activation_checkpointing:
        yield warning(
            "training.activation_checkpointing_kwargs",
            "has no effect without training.activation_checkpointing",
            "set that to true, or leave this out",
            "training.activation_checkpointing",
        )


def evaluation(config: RunConfig, _: Facts) -> Iterator[Problem]:
    """Settings that the library looks at only where it evaluates without training."""
    for name in ("bf16_full_eval", "fp16_full_eval", "eval_accumulation_steps"):
        if getattr(config.training, name):
            yield warning(
                f"training.{name}", "has no effect: a run evaluates with the weights as it trains them", "leave it out"
            )


RULES = (contradictions, hardware, checkpointing, evaluation)
