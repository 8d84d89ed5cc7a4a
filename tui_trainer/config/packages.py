"""The packages that some settings need beside those the workbench brings; read by the rules and by `procs.facts`."""

from __future__ import annotations

from collections.abc import Iterator

from tui_trainer.config.optimisers import BITSANDBYTES
from tui_trainer.config.schema import RunConfig

Needs = tuple[str, str, tuple[str, ...]]
"""A key, its value as it is told, and packages of which one has to be there."""

_OPTIMISERS = {
    "adamw_torch_4bit": "torchao",
    "adamw_torch_8bit": "torchao",
    "adamw_anyprecision": "torchdistx",
    "adalomo": "lomo-optim",
    "lomo": "lomo-optim",
    "grokadamw": "grokadamw",
    "stable_adamw": "torch-optimi",
}
_FAMILIES = {"galore_": "galore-torch", "apollo_": "apollo-torch", "schedule_free_": "schedulefree"}

OPTIONAL = (
    "bitsandbytes",
    "deepspeed",
    "flash-attn",
    "kernels",
    "liger-kernel",
    *dict.fromkeys([*_OPTIMISERS.values(), *_FAMILIES.values()]),
)
"""All of them, as they are installed."""


def needed_packages(config: RunConfig) -> Iterator[Needs]:
    """What a configuration needs."""
    model, training = config.model, config.training
    if model.quantization is not None:
        yield "model.quantization", model.quantization, ("bitsandbytes",)
    if model.attn_implementation == "flash_attention_2":
        yield "model.attn_implementation", model.attn_implementation, ("flash-attn", "kernels")
    if training.deepspeed:
        yield "training.deepspeed", "DeepSpeed", ("deepspeed",)
    if training.use_liger_kernel:
        yield "training.use_liger_kernel", "it", ("liger-kernel",)
    if package := _of_optimiser(training.optim):
        yield "training.optim", training.optim, (package,)


def _of_optimiser(name: str) -> str | None:
    if name in BITSANDBYTES:
        return "bitsandbytes"
    family = next((package for start, package in _FAMILIES.items() if name.startswith(start)), None)
    return _OPTIMISERS.get(name, family)
