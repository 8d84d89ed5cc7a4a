"""What it means for a run that goes on when its configuration is not the one its checkpoint was trained with.

Pure data: a table from dotted keys to what a change of them does. Read by the planner (`procs.resume_plan`), which
shows it, and by the trainer, which refuses what cannot be meant. A test holds the table against the field catalogue.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tui_trainer.config.catalogue import section_keys


class Effect(StrEnum):
    """What becomes of a value that changed."""

    REFUSED = "refused"
    APPLIED = "applied"
    INEXACT = "inexact"
    OUTSIDE = "outside"


MEANING: dict[Effect, str] = {
    Effect.REFUSED: "makes it another training: refused unless forced",
    Effect.APPLIED: "takes effect from the next step on",
    Effect.INEXACT: "computes the same by other arithmetic: not bit by bit the same",
    Effect.OUTSIDE: "does not touch what is computed",
}


@dataclass(frozen=True)
class Difference:
    """A value that changed.

    Attributes:
        key: dotted key, or a word as "data" for what no key tells.
        old: the value the checkpoint was trained with.
        new: the value now.
        effect: what becomes of it.
        note: a sentence; for a refusal what happens if it is forced.
    """

    key: str
    old: Any
    new: Any
    effect: Effect
    note: str


OTHER_MODEL = "the checkpoint's weights would be loaded into another model, and fit it or not"
OTHER_ROWS = "the rows are others: they would be begun from the first one"
OTHER_ORDER = "the order of the rows is another: some of this epoch would come twice, others not at all"
OTHER_FILES = "the checkpoint's files can be read only the way they were written: refused even then"
OTHER_OPTIMISER = "the optimiser would start afresh, without what it knows of the gradients"

REFUSED: dict[str, str] = {
    **dict.fromkeys(
        (
            "stage",
            "model.name_or_path",
            "model.tokenizer_name_or_path",
            "model.revision",
            "model.dtype",
            "model.quantization",
            "model.from_scratch",
            "lora",
            "lora.r",
            "lora.alpha",
            "lora.target_modules",
            "lora.modules_to_save",
            "lora.use_dora",
            "lora.use_rslora",
            "lora.bias",
            "lora.init_lora_weights",
        ),
        OTHER_MODEL,
    ),
    **dict.fromkeys(
        (
            f"data.{name}"
            for name in (
                "path",
                "name",
                "data_files",
                "split",
                "revision",
                "sources",
                "format",
                "columns",
                "template",
                "template_kwargs",
                "system",
                "train_on",
                "keep_reasoning",
                "max_length",
                "truncation",
                "packing",
                "add_special_tokens",
                "eval_split",
                "max_samples",
                "shuffle",
                "streaming",
                "shuffle_buffer",
                "allow_preference_as_sft",
            )
        ),
        OTHER_ROWS,
    ),
    **dict.fromkeys(
        ("training.seed", "training.data_seed", "training.train_sampling_strategy"),
        OTHER_ORDER,
    ),
    **dict.fromkeys(("training.optim", "training.optim_args", "training.optim_target_modules"), OTHER_OPTIMISER),
}

_NEW_CURVE = "the curve of the learning rate is another from here on"
_NEW_BATCH = "the order of the rows goes on in batches of another size"

APPLIED: dict[str, str] = {
    "training.learning_rate": "the new peak of the schedule; rates set by hand before are overruled",
    **dict.fromkeys(
        (
            f"training.{name}"
            for name in ("lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "max_steps", "num_train_epochs")
        ),
        _NEW_CURVE,
    ),
    **dict.fromkeys(("training.per_device_train_batch_size", "training.gradient_accumulation_steps"), _NEW_BATCH),
    **dict.fromkeys(
        (
            "lora.dropout",
            *(
                f"training.{name}"
                for name in (
                    "weight_decay",
                    "adam_beta1",
                    "adam_beta2",
                    "adam_epsilon",
                    "max_grad_norm",
                    "label_smoothing_factor",
                    "neftune_noise_alpha",
                    "dataloader_drop_last",
                    "average_tokens_across_devices",
                    "ignore_data_skip",
                    "auto_find_batch_size",
                    "accelerator_config",
                    "metric_for_best_model",
                    "greater_is_better",
                    "load_best_model_at_end",
                    "eval_strategy",
                    "eval_steps",
                    "eval_delay",
                    "eval_on_start",
                    "logging_strategy",
                    "logging_steps",
                    "logging_first_step",
                    "save_strategy",
                    "save_steps",
                    "save_total_limit",
                    "save_only_model",
                    "save_on_each_node",
                )
            ),
        ),
        "",
    ),
}

_SPREAD = ("training.fsdp", "training.deepspeed")
"""What writes checkpoints in files of its own; to begin or to end with it makes them unreadable."""

INEXACT = frozenset(
    {
        "model.attn_implementation",
        "launch.mixed_precision",
        "launch.num_processes",
        "launch.num_machines",
        *(
            f"training.{name}"
            for name in (
                "bf16",
                "fp16",
                "tf32",
                "activation_checkpointing",
                "activation_checkpointing_kwargs",
                "torch_compile",
                "torch_compile_backend",
                "torch_compile_mode",
                "use_liger_kernel",
                "liger_kernel_config",
                "use_cpu",
                "fsdp",
                "fsdp_config",
                "deepspeed",
                "full_determinism",
                "dataloader_num_workers",
                "dataloader_persistent_workers",
            )
        ),
    }
)


def effect_of(key: str) -> tuple[Effect, str]:
    """What a change of a dotted key does, and a note on it."""
    if key in REFUSED:
        return Effect.REFUSED, REFUSED[key]
    if key in APPLIED:
        return Effect.APPLIED, APPLIED[key]
    return (Effect.INEXACT if key in INEXACT else Effect.OUTSIDE), ""


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
    """The values that differ between two configurations, those that forbid going on first.

    Args:
        old: the configuration of a checkpoint, as `RunConfig.model_dump(mode="json")` gives it.
        new: the configuration it is to go on with.
    """
    before, after = dict(_flat(old)), dict(_flat(new))
    found = []
    for key in [*after, *(key for key in before if key not in after)]:
        if before.get(key) != after.get(key) and key != "name":
            effect, note = effect_of(key)
            if key in _SPREAD and bool(before.get(key)) != bool(after.get(key)):
                effect, note = Effect.REFUSED, OTHER_FILES
            found.append(Difference(key, before.get(key), after.get(key), effect, note))
    ranks = list(Effect)
    return sorted(found, key=lambda difference: ranks.index(difference.effect))


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if key in section_keys() and isinstance(value, Mapping):
            yield from _flat(value, f"{key}.")
        else:
            yield key, value
