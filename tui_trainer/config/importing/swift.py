"""ms-swift: the names of its YAML and of the `args.json` it leaves behind, and what it does when a key is missing.

Names and defaults are those of `swift.arguments` (August 2026); those of version 3 (`train_type`) are known too.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tui_trainer.config.importing import reasons
from tui_trainer.config.importing.carrying import Carrier, Tool, listed, module_names, warm_up

_PREFERENCE = {"dpo": "dpo", "kto": "kto", "orpo": "orpo", "grpo": "grpo", "rm": "reward"}
_TRUNCATION = {"delete": "drop", "left": "left", "right": "right", "split": "split"}
_ATTENTION = {"flash_attn": "flash_attention_2", "sdp": "sdpa", "flex_attn": "flex_attention"}
_SHORT = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}
_SHIPPED = ("zero0", "zero1", "zero2", "zero3", "zero2_offload", "zero3_offload")
_DATASET = re.compile(r"(?:(?P<hub>ms|hf|HF|MS)::)?(?P<path>[^:#]+)(?::(?P<subset>[^#]+))?(?:#(?P<count>\d+))?")
_LORA = {
    "lora_rank": "lora.r",
    "lora_alpha": "lora.alpha",
    "lora_dropout": "lora.dropout",
    "use_rslora": "lora.use_rslora",
    "use_dora": "lora.use_dora",
    "lora_bias": "lora.bias",
    "modules_to_save": "lora.modules_to_save",
}
_TABLES = ("lr_scheduler_kwargs", "gradient_checkpointing_kwargs", "deepspeed")
"""Values that may be JSON in a text."""


def _convert(carrier: Carrier) -> None:
    carrier.name_after("run_name", "output_dir")
    carrier.skip("output_dir")
    _method(carrier)
    _stage(carrier)
    _precision(carrier)
    _data(carrier)
    warm_up(carrier)
    _evaluation(carrier)
    _batch(carrier)
    _spreading(carrier)
    for key in _TABLES:
        value = carrier.document.tree.get(key)
        if isinstance(value, str) and value.lstrip().startswith("{"):
            _json_table(carrier, key, value)


def _json_table(carrier: Carrier, key: str, text: str) -> None:
    ours = {"gradient_checkpointing_kwargs": "activation_checkpointing_kwargs"}.get(key, key)
    try:
        carrier.put(f"training.{ours}", json.loads(text), key)
    except ValueError:
        carrier.leave(key, "is no valid JSON")


def _method(carrier: Carrier) -> None:
    keys = ("tuner_type", "train_type", "sft_type")
    key = next((key for key in keys if carrier.has(key)), "tuner_type")
    kind = carrier.plain(key) or "lora"
    for name in keys:
        carrier.take(name)
    if kind == "full":
        carrier.skip(*_LORA, "target_modules", "target_regex", "init_weights")
        if not carrier.has("learning_rate"):
            carrier.default("training.learning_rate", 1e-5)
        return
    if kind != "lora":
        carrier.refuse(key, ("full", "lora"))
    carrier.values["lora.r"] = 8
    carrier.num_carried += 1
    carrier.rename(_LORA)
    carrier.default("lora.dropout", 0.05)
    pattern, names = carrier.take("target_regex"), carrier.take("target_modules")
    if pattern:
        carrier.put("lora.target_modules", pattern, "target_regex")
    else:
        carrier.put("lora.target_modules", module_names(names) or None, "target_modules")
    start = carrier.take("init_weights")
    if start not in (None, True, "true"):
        carrier.put("lora.init_lora_weights", start, "init_weights")
    if not carrier.has("learning_rate"):
        carrier.default("training.learning_rate", 1e-4)


def _stage(carrier: Carrier) -> None:
    method, task = carrier.plain("rlhf_type"), carrier.plain("task_type")
    if method:
        stage = _PREFERENCE.get(str(method))
        if stage is None:
            carrier.refuse("rlhf_type", _PREFERENCE)
        carrier.put("stage", stage, "rlhf_type")
    if task not in (None, "causal_lm"):
        carrier.refuse("task_type", ("causal_lm",))


def _precision(carrier: Carrier) -> None:
    """The type of the weights there decides the type of the computation too."""
    key = "torch_dtype" if carrier.has("torch_dtype") else "dtype"
    is_set = carrier.put_called("model.dtype", key, _SHORT)
    dtype = carrier.values.get("model.dtype")
    if is_set and dtype == "bfloat16":
        carrier.default("training.bf16", True, "as the weights are in bfloat16")
    elif is_set and dtype == "float16":
        carrier.default("training.fp16", True, "as the weights are in float16")
    carrier.put_called("model.attn_implementation", "attn_impl", _ATTENTION)
    method, bits = carrier.plain("quant_method"), carrier.plain("quant_bits")
    if method not in (None, "bnb"):
        carrier.leave("quant_method", "weights are quantised by bitsandbytes only")
    elif bits is not None:
        carrier.put_called("model.quantization", "quant_bits", {4: "nf4", 8: "int8"})


def _data(carrier: Carrier) -> None:
    sources = [source for text in listed(carrier.take("dataset")) for source in [_source(carrier, str(text))] if source]
    carrier.sources(sources)
    carrier.num_carried += bool(sources)
    carrier.put_called("data.truncation", "truncation_strategy", _TRUNCATION)
    carrier.default("data.truncation", "drop")
    if carrier.document.tree.get("max_length") is None:
        carrier.default("data.max_length", 2048, "the model's own longest input there: set what the memory allows")
    loss = str(carrier.take("loss_scale") or "default")
    if loss in ("all", "last_round"):
        carrier.put("data.train_on", "all" if loss == "all" else "last", "loss_scale")
    elif loss != "default":
        carrier.leave("loss_scale", "weights of parts of an answer are not carried over")
    template = carrier.plain("template")
    if template == "chatml":
        carrier.put("data.template", "chatml", "template")
    elif template not in (None, "dummy"):
        carrier.leave("template", reasons.OWN_TEMPLATE)
    if carrier.take("use_chat_template") is False:
        carrier.put("data.template", "none", "use_chat_template")
    thinking = carrier.take("enable_thinking")
    if thinking is not None:
        carrier.put("data.template_kwargs", {"enable_thinking": thinking}, "enable_thinking")


def _source(carrier: Carrier, text: str) -> dict[str, Any] | None:
    """A dataset in its way to write one: `hub::id:subset#number of rows`."""
    match = _DATASET.fullmatch(text)
    if match is None:
        carrier.change("dataset", f"{text!r} is no path or id that is understood")
        return None
    source: dict[str, Any] = {"path": match["path"]}
    is_file = Path(match["path"]).suffix in (".jsonl", ".json", ".csv", ".parquet", ".txt")
    if match["subset"]:
        source["name"] = match["subset"]
    if match["count"]:
        source["split"] = f"train[:{match['count']}]"
        carrier.change("dataset", f"of {match['path']} the first {match['count']} rows are taken, not a random choice")
    if not is_file and (match["hub"] or "").lower() != "hf" and not carrier.document.tree.get("use_hf"):
        carrier.change("dataset", f"{match['path']} is looked for on the Hugging Face hub, not on ModelScope")
    return source


def _evaluation(carrier: Carrier) -> None:
    files, share = listed(carrier.take("val_dataset")), carrier.take("split_dataset_ratio")
    if len(files) == 1 and "#" not in str(files[0]):
        carrier.put("data.eval_split", str(files[0]), "val_dataset")
    elif files:
        carrier.leave("val_dataset", reasons.ONE_EVALUATION)
    elif share:
        carrier.put("data.eval_split", share, "split_dataset_ratio")
    if "data.eval_split" not in carrier.values:
        carrier.skip("eval_strategy", "evaluation_strategy", "eval_steps")
        return
    for name in ("eval_strategy", "evaluation_strategy"):
        carrier.put("training.eval_strategy", carrier.take(name), name)
    for name in ("save_strategy", "save_steps"):
        carrier.put(f"training.{name}", carrier.take(name), name)
    strategy = carrier.values.get("training.save_strategy", "steps")
    carrier.default("training.eval_strategy", "epoch" if strategy == "epoch" else "steps", "as save_strategy")
    if not carrier.has("eval_steps"):
        carrier.default("training.eval_steps", float(carrier.values.get("training.save_steps", 500)), "as save_steps")


def _batch(carrier: Carrier) -> None:
    """Gradients are added up to a batch of 16 there if nothing is said."""
    size = carrier.document.tree.get("per_device_train_batch_size") or 1
    if carrier.document.tree.get("gradient_accumulation_steps") is None and isinstance(size, int) and size > 0:
        carrier.default(
            "training.gradient_accumulation_steps", max(-(-16 // size), 1), "a batch of 16 there, on one GPU"
        )


def _spreading(carrier: Carrier) -> None:
    if carrier.document.tree.get("deepspeed") in _SHIPPED:
        carrier.leave(
            "deepspeed", "ms-swift brings this file along; name one of your own, as in the preset sft-deepspeed"
        )


TOOL = Tool(
    name="swift",
    title="ms-swift",
    signs=frozenset(
        {
            "model",
            "train_type",
            "tuner_type",
            "sft_type",
            "dataset",
            "val_dataset",
            "split_dataset_ratio",
            "torch_dtype",
            "target_modules",
            "lora_rank",
            "truncation_strategy",
            "rlhf_type",
            "loss_scale",
            "attn_impl",
            "quant_bits",
            "dataset_num_proc",
            "use_hf",
        }
    ),
    keys={
        "model": "model.name_or_path",
        "model_id_or_path": "model.name_or_path",
        "model_revision": "model.revision",
        "system": "data.system",
        "max_length": "data.max_length",
        "packing": "data.packing",
        "padding_side": "data.padding_side",
        "streaming": "data.streaming",
        "shuffle_buffer_size": "data.shuffle_buffer",
        "dataset_num_proc": "data.num_proc",
        "dataset_shuffle": "data.shuffle",
        "use_liger": "training.use_liger_kernel",
        "temperature": "sampling.temperature",
        "max_new_tokens": "sampling.max_tokens",
    },
    left_out={
        "adapters": reasons.GO_ON_WITH_ADAPTER,
        "resume_only_model": "set model.name_or_path to the checkpoint",
        "columns": "name the columns by their roles: data.columns",
        "custom_dataset_info": "name the files themselves: data.path",
        "custom_register_path": "no code of a file is run; name a file of rows: data.path",
        "external_plugins": "no code of a file is run",
        "model_author": "the rows are used as they are: its name and author are not put in",
        "model_name": "the rows are used as they are: its name and author are not put in",
        "interleave_prob": "weight of [[data.sources]] says how often the rows of each are used",
        "freeze_parameters": "all weights are trained, or an adapter",
        "freeze_parameters_ratio": "all weights are trained, or an adapter",
        "trainable_parameters": "all weights are trained, or an adapter",
        "lorap_lr_ratio": "LoRA+ is not supported",
        "lora_dtype": "the adapter's weights are float32",
        "target_parameters": "only whole layers get an adapter",
        "rope_scaling": "the model's own positions are used",
        "new_special_tokens": reasons.NO_GROWING,
        "sequence_parallel_size": "a sequence is not spread over GPUs",
        "zero_hpz_partition_size": "set it in the DeepSpeed file",
        "deepspeed_autotp_size": "layers are not spread over GPUs",
        "loss_type": "the loss is that of the next token",
        "padding_free": "data.packing does without padding",
        "swanlab_token": "export it instead",
        "agent_template": "tools are put into the prompt by the chat template",
        "response_prefix": "the chat template decides how an answer begins",
        "beta": "set it in the preference stage's own settings",
        "packing_length": "set data.max_length: rows are packed up to it",
        "use_galore": 'set training.optim = "galore_adamw" and its targets yourself',
        "tuner_backend": "adapters are PEFT's",
    },
    idle=frozenset(
        {
            "model_type",
            "add_version",
            "create_checkpoint_symlink",
            "check_model",
            "lazy_tokenize",
            "load_from_cache_file",
            "download_mode",
            "strict",
            "use_hf",
            "acc_strategy",
            "freeze_vit",
            "freeze_llm",
            "freeze_aligner",
            "max_pixels",
            "template_backend",
            "load_args",
            "load_data_args",
            "packing_num_proc",
            "packing_strategy",
            "val_dataset_shuffle",
            "norm_bbox",
            "device_map",
            "ignore_args_error",
            "swanlab_mode",
            "swanlab_project",
            "lora_ga_batch_size",
        }
    ),
    defaults={
        "training.per_device_train_batch_size": 1,
        "training.per_device_eval_batch_size": 1,
        "training.activation_checkpointing": True,
        "training.weight_decay": 0.1,
        "training.adam_beta2": 0.95,
        "training.lr_scheduler_type": "cosine",
    },
    convert=_convert,
)
"""Its table of names."""
