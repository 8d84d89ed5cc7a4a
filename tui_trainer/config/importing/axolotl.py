"""axolotl: the names of its YAML, its dataset types, and what it does when a key is missing.

Names and defaults are those of `axolotl.utils.schemas` and `axolotl.core.builders` (July 2026).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tui_trainer.config.importing.axolotl_data import carry_data
from tui_trainer.config.importing.axolotl_names import IDLE, KEYS, LEFT_OUT, SIGNS
from tui_trainer.config.importing.carrying import Carrier, Tool, is_count, listed, module_names, quantised, warm_up

_STAGES = {"dpo": "dpo", "kto": "kto", "orpo": "orpo", "grpo": "grpo"}
_ATTENTION = {
    "flash_attention": "flash_attention_2",
    "sdp_attention": "sdpa",
    "eager_attention": "eager",
    "flex_attention": "flex_attention",
}
_LORA = {
    "lora_r": "lora.r",
    "lora_alpha": "lora.alpha",
    "lora_dropout": "lora.dropout",
    "lora_modules_to_save": "lora.modules_to_save",
    "peft_use_dora": "lora.use_dora",
    "peft_use_rslora": "lora.use_rslora",
    "peft_init_lora_weights": "lora.init_lora_weights",
}
_LORA_MORE = ("lora_target_modules", "lora_target_linear", "lora_fan_in_fan_out", "lora_on_cpu")
_OPTIMISERS = {"ao_adamw_8bit": "adamw_torch_8bit", "ao_adamw_4bit": "adamw_torch_4bit"}
_LIGER = ("rope", "rms_norm", "swiglu", "cross_entropy", "fused_linear_cross_entropy")


def _convert(carrier: Carrier) -> None:
    carrier.name_after("wandb_name", "output_dir")
    carrier.skip("output_dir")
    _model(carrier)
    _adapter(carrier)
    stage = _stage(carrier)
    carry_data(carrier, stage)
    _batches(carrier)
    _schedule(carrier)
    _precision(carrier)
    _moments(carrier)
    _kernels(carrier)
    _spreading(carrier)
    _trackers(carrier)


def _stage(carrier: Carrier) -> str:
    method = carrier.plain("rl")
    if method in _STAGES:
        carrier.num_carried += 1
        stage = _STAGES[method]
    elif carrier.take("process_reward_model"):
        carrier.refuse("process_reward_model", ("reward_model", *_STAGES))
    elif carrier.take("reward_model"):
        stage = "reward"
    else:
        if method:
            carrier.refuse("rl", _STAGES)
        is_text = carrier.has("pretraining_dataset") or _is_all_completion(carrier.document.tree.get("datasets"))
        stage = "pretrain" if is_text else "sft"
    carrier.values["stage"] = stage
    return stage


def _is_all_completion(datasets: Any) -> bool:
    entries = [entry for entry in datasets if isinstance(entry, Mapping)] if isinstance(datasets, list) else []
    return bool(entries) and all(entry.get("type") == "completion" for entry in entries)


def _model(carrier: Carrier) -> None:
    for key, ours in _ATTENTION.items():
        if carrier.take(key):
            carrier.put("model.attn_implementation", ours, key)
    quantised(carrier)
    tokens = carrier.take("special_tokens")
    if isinstance(tokens, Mapping):
        carrier.put("data.pad_token", tokens.get("pad_token"), "special_tokens")
        if others := sorted(str(name) for name, token in tokens.items() if token and name != "pad_token"):
            carrier.change("special_tokens", f"the tokenizer's own are used for {', '.join(others)}")


def _adapter(carrier: Carrier) -> None:
    kind = carrier.plain("adapter")
    if not kind:
        carrier.skip(*_LORA, *_LORA_MORE)
        return
    if kind not in ("lora", "qlora"):
        carrier.refuse("adapter", ("lora", "qlora"))
    carrier.values["lora.r"] = 8
    carrier.num_carried += 1
    carrier.rename(_LORA)
    targets, is_linear = carrier.take("lora_target_modules"), carrier.take("lora_target_linear")
    if is_linear:
        carrier.put("lora.target_modules", "all-linear", "lora_target_linear")
    else:
        carrier.put("lora.target_modules", module_names(targets), "lora_target_modules")
    carrier.skip("lora_fan_in_fan_out", "lora_on_cpu")


def _batches(carrier: Carrier) -> None:
    micro, whole = carrier.take("micro_batch_size"), carrier.take("batch_size")
    carrier.put("training.per_device_train_batch_size", micro, "micro_batch_size")
    accumulation = carrier.take("gradient_accumulation_steps")
    if accumulation is None and isinstance(whole, int) and isinstance(micro, int):
        carrier.put("training.gradient_accumulation_steps", max(whole // micro, 1), "batch_size")
    else:
        carrier.put("training.gradient_accumulation_steps", accumulation, "gradient_accumulation_steps")
        carrier.leave("batch_size", "gradient_accumulation_steps is set too, and wins")
    carrier.default("training.per_device_train_batch_size", 1)
    carrier.put("training.per_device_eval_batch_size", carrier.take("eval_batch_size"), "eval_batch_size")
    carrier.default(
        "training.per_device_eval_batch_size",
        carrier.values["training.per_device_train_batch_size"],
        "as the training batch when nothing is said",
    )


def _schedule(carrier: Carrier) -> None:
    if carrier.document.tree.get("warmup_steps") is None and carrier.document.tree.get("warmup_ratio") is None:
        carrier.default("training.warmup_steps", 0.03, "the same share there, but at most 100 steps")
    warm_up(carrier)
    carrier.put_called("training.optim", "optimizer", _OPTIMISERS)
    shape, least = carrier.plain("lr_scheduler"), carrier.take("cosine_min_lr_ratio")
    if least and shape in (None, "cosine"):
        carrier.put("training.lr_scheduler_kwargs", {"min_lr_rate": least}, "cosine_min_lr_ratio")
        shape = "cosine_with_min_lr"
        carrier.values["training.lr_scheduler_type"] = shape
    elif shape is not None:
        carrier.put("training.lr_scheduler_type", shape, "lr_scheduler")
        carrier.leave("cosine_min_lr_ratio", "goes with the cosine schedule only")
    carrier.default("training.lr_scheduler_type", "cosine")


def _precision(carrier: Carrier) -> None:
    """bfloat16 there is the type of the weights too; `auto` is bfloat16 where the GPU has it."""
    half, short = carrier.plain("bf16") if "bf16" in carrier.document.tree else "auto", carrier.take("bfloat16")
    if carrier.take("fp16") and half in ("auto", None, False):
        carrier.put("training.fp16", True, "fp16")
        carrier.default("model.dtype", "float16", "the type of the weights too")
    elif half in ("auto", True, "full", "true") or short:
        if half != "full":
            carrier.values["training.bf16"] = True
        carrier.values["model.dtype"] = "bfloat16"
        carrier.num_carried += half is not None
        carrier.change("bf16", "the weights themselves are in bfloat16 there, so model.dtype says so")
    gradients = carrier.take("gradient_checkpointing")
    if isinstance(gradients, str) and gradients.startswith("offload"):
        carrier.put("training.activation_checkpointing", True, "gradient_checkpointing")
        carrier.change("gradient_checkpointing", "activations are computed again, not moved to main memory")
    else:
        is_on = bool(gradients) if isinstance(gradients, str) else gradients
        carrier.put("training.activation_checkpointing", is_on, "gradient_checkpointing")


def _moments(carrier: Carrier) -> None:
    """Evaluations and checkpoints; so many an epoch become a share of the run."""
    epochs = carrier.document.tree.get("num_epochs") or 1
    has_rows = carrier.has("val_set_size") or carrier.has("test_datasets")
    for what, plural in (("eval", "evals_per_epoch"), ("save", "saves_per_epoch")):
        if what == "eval" and not has_rows:
            carrier.skip("eval_steps", "evals_per_epoch", "eval_strategy")
            continue
        each, steps, strategy = (carrier.plain(key) for key in (plural, f"{what}_steps", f"{what}_strategy"))
        if each and not (is_count(each) and is_count(epochs)):
            carrier.leave(plural, "is no number of times")
        elif each:
            is_once = each == 1
            carrier.put(f"training.{what}_strategy", "epoch" if is_once else "steps", plural)
            if not is_once:
                carrier.put(f"training.{what}_steps", 1 / (float(each) * float(epochs)), plural)
        elif steps:
            carrier.put(f"training.{what}_strategy", strategy or "steps", f"{what}_steps")
            carrier.put(f"training.{what}_steps", steps, f"{what}_steps")
        elif strategy is not None:
            carrier.put(f"training.{what}_strategy", strategy, f"{what}_strategy")
        else:
            carrier.default(f"training.{what}_strategy", "epoch")
    carrier.default("training.save_total_limit", 4)


def _kernels(carrier: Carrier) -> None:
    plugins = [str(plugin) for plugin in listed(carrier.take("plugins"))]
    liger = [plugin for plugin in plugins if "liger" in plugin.lower()]
    if liger:
        carrier.put("training.use_liger_kernel", True, "plugins")
    for name in _LIGER:
        carrier.skip(f"liger_{name}")
    carrier.skip("liger_glu_activation", "liger_layer_norm")
    if others := [plugin for plugin in plugins if plugin not in liger]:
        carrier.change("plugins", f"no plugin is loaded: {', '.join(others)}")


def _spreading(carrier: Carrier) -> None:
    """FSDP and DeepSpeed; keys of `fsdp_config` lose their prefix, as `transformers` wants them."""
    options, config = carrier.take("fsdp"), carrier.take("fsdp_config")
    version = carrier.take("fsdp_version")
    if not options and not config:
        return
    carrier.put("training.fsdp", options or True, "fsdp")
    plain = {str(key).removeprefix("fsdp_"): value for key, value in config.items()} if isinstance(config, dict) else {}
    if version:
        plain.setdefault("version", version)
    if plain:
        carrier.put("training.fsdp_config", plain, "fsdp_config")
    elif config:
        carrier.leave("fsdp_config", "must be a table")


def _trackers(carrier: Carrier) -> None:
    trackers = [
        name
        for name, keys in (
            ("wandb", ("use_wandb", "wandb_project")),
            ("mlflow", ("use_mlflow", "mlflow_experiment_name")),
            ("comet_ml", ("use_comet", "comet_project_name")),
            ("tensorboard", ("use_tensorboard",)),
            ("trackio", ("use_trackio", "trackio_project_name")),
        )
        if any(carrier.take(key) for key in keys)
    ]
    if trackers:
        carrier.values["training.report_to"] = trackers
        carrier.num_carried += 1
    for key in ("wandb_project", "trackio_project_name"):
        carrier.put("training.project", carrier.take(key), key)
    if carrier.has("hub_model_id"):
        carrier.put("training.push_to_hub", True, "hub_model_id")
        carrier.put("training.hub_model_id", carrier.take("hub_model_id"), "hub_model_id")
    deepspeed = carrier.take("deepspeed")
    carrier.put("training.deepspeed", deepspeed, "deepspeed")
    if isinstance(deepspeed, str) and not Path(deepspeed).is_file():
        carrier.change("deepspeed", "there is no such file here; axolotl brings its own along, copy the one you use")


TOOL = Tool(
    name="axolotl",
    title="axolotl",
    signs=SIGNS,
    keys=KEYS,
    left_out=LEFT_OUT,
    idle=IDLE,
    defaults={
        "data.max_length": 512,
        "training.num_train_epochs": 1.0,
        "data.truncation": "drop",
    },
    convert=_convert,
    has_training_arguments=False,
)
"""Its table of names."""
