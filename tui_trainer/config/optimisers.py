"""The optimisers that `training.optim` may name and the memory of each; read by `memory` and the rules.

The names are those of `transformers.training_args.OptimizerNames` (5.23); a test holds them against the installed one.
"""

from __future__ import annotations

ADAM = 8.0
"""Two float32 numbers a weight."""

OPTIMISERS: dict[str, float] = {
    "adamw_torch": ADAM,
    "adamw_torch_fused": ADAM,
    "adamw_torch_xla": ADAM,
    "adamw_torch_npu_fused": ADAM,
    "adafactor": 0.05,
    "adamw_anyprecision": ADAM,
    "adamw_torch_4bit": 1.0,
    "adamw_torch_8bit": 2.0,
    "ademamix": 12.0,
    "sgd": 0.0,
    "adagrad": 4.0,
    "adamw_bnb_8bit": 2.0,
    "adamw_8bit": 2.0,
    "ademamix_8bit": 3.0,
    "lion_8bit": 1.0,
    "lion_32bit": 4.0,
    "paged_adamw_32bit": ADAM,
    "paged_adamw_8bit": 2.0,
    "paged_ademamix_32bit": 12.0,
    "paged_ademamix_8bit": 3.0,
    "paged_lion_32bit": 4.0,
    "paged_lion_8bit": 1.0,
    "rmsprop": 4.0,
    "rmsprop_bnb": 4.0,
    "rmsprop_bnb_8bit": 1.0,
    "rmsprop_bnb_32bit": 4.0,
    "galore_adamw": 2.0,
    "galore_adamw_8bit": 0.5,
    "galore_adafactor": 0.5,
    "galore_adamw_layerwise": 2.0,
    "galore_adamw_8bit_layerwise": 0.5,
    "galore_adafactor_layerwise": 0.5,
    "lomo": 0.0,
    "adalomo": 0.05,
    "grokadamw": 12.0,
    "schedule_free_radam": ADAM,
    "schedule_free_adamw": ADAM,
    "schedule_free_sgd": 4.0,
    "apollo_adamw": 1.0,
    "apollo_adamw_layerwise": 1.0,
    "stable_adamw": ADAM,
}
"""Bytes of state a trained float32 weight. Those of GaLore and APOLLO depend on their rank and are rough."""

FOLLOWS_WEIGHTS = ("adamw_torch", "adamw_torch_fused", "adamw_torch_xla", "adagrad", "rmsprop", "sgd")
"""PyTorch's own optimisers keep their state in the type of the weights."""

BITSANDBYTES = (
    *(name for name in OPTIMISERS if name.startswith(("paged_", "ademamix", "lion_", "rmsprop_bnb"))),
    "adamw_bnb_8bit",
    "adamw_8bit",
)
"""Optimisers of the package bitsandbytes."""
