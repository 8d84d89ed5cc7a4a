"""LLaMA-Factory: the names of its training YAML, and the datasets that its `dataset_info.json` describes.

Names and defaults are those of `llamafactory.hparams` (August 2026) and `llamafactory.data.parser`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tui_trainer.config.importing import reasons
from tui_trainer.config.importing.carrying import Carrier, Tool, held_out_share, listed, module_names, warm_up

_STAGES = {"pt": "pretrain", "sft": "sft", "rm": "reward", "dpo": "dpo", "kto": "kto"}
_ATTENTION = {"auto": "auto", "disabled": "eager", "sdpa": "sdpa", "fa2": "flash_attention_2"}
_SAME_TEMPLATES = {"chatml": "chatml", "alpaca": "instruction"}
_INFO = "dataset_info.json"
_LEVELS_UP = 3
"""How many folders above the file `dataset_dir` is looked for, as examples lie two below it."""

_LORA = {
    "lora_rank": "lora.r",
    "lora_alpha": "lora.alpha",
    "lora_dropout": "lora.dropout",
    "use_rslora": "lora.use_rslora",
    "use_dora": "lora.use_dora",
}
_LORA_MORE = ("lora_target", "additional_target", "pissa_init", "pissa_iter", "pissa_convert", "loraplus_lr_ratio")


def _convert(carrier: Carrier) -> None:
    carrier.name_after("run_name", "output_dir")
    carrier.skip("output_dir")
    stage = _stage(carrier)
    _method(carrier)
    _model(carrier)
    _data(carrier, stage)
    warm_up(carrier)
    if carrier.take("pure_bf16"):
        carrier.put("model.dtype", "bfloat16", "pure_bf16")
    if carrier.take("disable_gradient_checkpointing"):
        carrier.put("training.activation_checkpointing", False, "disable_gradient_checkpointing")
    else:
        carrier.default("training.activation_checkpointing", True)


def _stage(carrier: Carrier) -> str:
    """The stage by our name.

    Raises:
        ConfigurationError: it is one that we do not have.
    """
    stage = carrier.plain("stage") or "sft"
    if stage not in _STAGES:
        carrier.refuse("stage", _STAGES)
    loss = carrier.plain("pref_loss")
    if stage == "dpo" and loss == "orpo":
        ours = "orpo"
    else:
        ours = _STAGES[stage]
        if loss not in (None, "sigmoid"):
            carrier.leave("pref_loss", "DPO is trained with its sigmoid loss")
    carrier.put("stage", ours, "stage")
    return ours


def _method(carrier: Carrier) -> None:
    """Full training or LoRA; its default is LoRA of rank 8 with twice the rank as alpha."""
    kind = carrier.plain("finetuning_type") or "lora"
    if kind == "full":
        carrier.skip(*_LORA, *_LORA_MORE)
        return
    if kind != "lora":
        carrier.refuse("finetuning_type", ("full", "lora"))
    carrier.values["lora.r"] = 8
    carrier.rename(_LORA)
    carrier.default("lora.alpha", 2.0 * carrier.values["lora.r"], "twice the rank when nothing is said")
    carrier.put("lora.target_modules", module_names(carrier.take("lora_target")), "lora_target")
    carrier.put("lora.modules_to_save", listed(carrier.take("additional_target")) or None, "additional_target")
    if carrier.take("pissa_init"):
        carrier.put("lora.init_lora_weights", "pissa", "pissa_init")
    carrier.skip("pissa_iter", "pissa_convert")


def _model(carrier: Carrier) -> None:
    carrier.put_called("model.attn_implementation", "flash_attn", _ATTENTION)
    bits, kind = carrier.plain("quantization_bit"), carrier.plain("quantization_method")
    if bits is not None and kind not in (None, "bnb", "bitsandbytes"):
        carrier.leave("quantization_method", "weights are quantised by bitsandbytes only")
    elif bits is not None:
        carrier.put_called("model.quantization", "quantization_bit", {4: "nf4", 8: "int8"})
    if carrier.take("quantization_type") == "fp4":
        carrier.leave("quantization_type", "4 bits are nf4 here")


def _data(carrier: Carrier, stage: str) -> None:
    names, folder = listed(carrier.take("dataset")), _dataset_folder(carrier)
    sources = [source for name in names for source in [_source(carrier, str(name), folder, stage)] if source]
    _limit(carrier, sources)
    carrier.sources(sources)
    if sources:
        carrier.num_carried += 1
    _evaluation(carrier, folder, stage)
    _template(carrier)
    _packing(carrier, stage)
    if carrier.take("train_on_prompt"):
        carrier.put("data.train_on", "all", "train_on_prompt")
    elif carrier.take("mask_history"):
        carrier.put("data.train_on", "last", "mask_history")
    if stage == "pretrain":
        carrier.default("data.truncation", "split", "texts are cut into pieces of cutoff_len")
    thinking = carrier.take("enable_thinking")
    if thinking is not None:
        carrier.put("data.template_kwargs", {"enable_thinking": thinking}, "enable_thinking")
    carrier.put("data.packing", True if carrier.take("neat_packing") else None, "neat_packing")


def _packing(carrier: Carrier, stage: str) -> None:
    packing = carrier.take("packing")
    if packing is None and stage == "pretrain":
        carrier.default("data.packing", True, "on by itself in pretraining")
    elif carrier.put("data.packing", packing, "packing") and packing and not carrier.has("neat_packing"):
        carrier.change("packing", "without neat_packing the examples of a row see each other there; never here")


def _template(carrier: Carrier) -> None:
    template = carrier.plain("template")
    if template in _SAME_TEMPLATES:
        carrier.put("data.template", _SAME_TEMPLATES[template], "template")
        if template == "alpaca" and not carrier.has("default_system"):
            carrier.default("data.system", reasons.ALPACA_SYSTEM, "the sentence that the template alpaca begins with")
    else:
        carrier.leave(
            "template",
            reasons.OWN_TEMPLATE,
        )


def _limit(carrier: Carrier, sources: list[dict[str, Any]]) -> None:
    """`max_samples` counts for each dataset there, so that it becomes a slice of each split."""
    limit = carrier.take("max_samples")
    if not isinstance(limit, int) or not sources:
        carrier.leave("max_samples", "there is no dataset it could limit")
        return
    carrier.num_carried += 1
    for source in sources:
        source["split"] = f"{source.get('split', 'train')}[:{limit}]"


def _evaluation(carrier: Carrier, folder: Path | None, stage: str) -> None:
    held_out_share(carrier, "val_size")
    names = listed(carrier.take("eval_dataset"))
    source = _source(carrier, str(names[0]), folder, stage, key="eval_dataset") if len(names) == 1 else None
    if source and Path(source["path"]).suffix:
        carrier.put("data.eval_split", source["path"], "eval_dataset")
    elif names:
        carrier.leave("eval_dataset", reasons.ONE_EVALUATION)


def _dataset_folder(carrier: Carrier) -> Path | None:
    """The folder with `dataset_info.json`: from here, from beside the file, or from a little above it."""
    named = carrier.take("dataset_dir") or "data"
    if not isinstance(named, str):
        carrier.leave("dataset_dir", "must be the path of a folder")
        return None
    above = [carrier.folder, *carrier.folder.absolute().parents[:_LEVELS_UP]]
    candidates = [Path(named).expanduser(), *(folder / named for folder in above)]
    return next((folder for folder in candidates if (folder / _INFO).is_file()), None)


def _source(
    carrier: Carrier, name: str, folder: Path | None, stage: str, key: str = "dataset"
) -> dict[str, Any] | None:
    """One of its datasets as a source of ours; None, with the reason noted, if that cannot be had."""
    if folder is None:
        carrier.leave(key, f"no {_INFO} was found that says what it is; name the file yourself: data.path")
        return None
    try:
        info = json.loads((folder / _INFO).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        carrier.leave(key, f"{folder / _INFO} cannot be read: {error}")
        return None
    entry = info.get(name) if isinstance(info, dict) else None
    if not isinstance(entry, dict):
        carrier.leave(key, f"{folder / _INFO} knows no {name!r}; name the file yourself: data.path")
        return None
    place = _place(entry, folder)
    if place is None:
        carrier.leave(key, f"{name!r} is loaded by a script or from another hub; name a file of it yourself: data.path")
        return None
    source: dict[str, Any] = {"path": place}
    for theirs, ours in (("subset", "name"), ("split", "split")):
        if entry.get(theirs):
            source[ours] = str(entry[theirs])
    for what in ("folder", "num_samples"):
        if entry.get(what):
            carrier.change(key, f"{what} = {entry[what]!r} of {name!r} is not carried over")
    return source | _rows(carrier, entry, name, stage, key)


def _place(entry: Mapping[str, Any], folder: Path) -> str | None:
    if entry.get("hf_hub_url"):
        return str(entry["hf_hub_url"])
    return str(folder / str(entry["file_name"])) if entry.get("file_name") else None


def _rows(carrier: Carrier, entry: Mapping[str, Any], name: str, stage: str, key: str) -> dict[str, Any]:
    """Format and columns of the rows of a dataset."""
    columns = {str(role): str(column) for role, column in (entry.get("columns") or {}).items() if column}
    media = [role for role in ("images", "videos", "audios") if role in columns]
    if media:
        carrier.change(key, f"{', '.join(media)} of {name!r} are not used: only text is trained on")
    formatting = entry.get("formatting") or "alpaca"
    if stage == "pretrain":
        return {"format": "text", "columns": {"text": columns.get("prompt", "instruction")}}
    mapped = dict(_columns(columns, formatting, "columns" not in entry, has_choice=bool(entry.get("ranking"))))
    if entry.get("ranking"):
        return {"format": "preference", "columns": mapped}
    if columns.get("kto_tag"):
        return {"format": "kto", "columns": mapped | {"label": columns["kto_tag"]}}
    tags = entry.get("tags") or {}
    speaks = {tags.get("user_tag", "human"), tags.get("assistant_tag", "gpt")}
    if formatting != "alpaca" and not speaks <= {"human", "gpt", "user", "assistant"}:
        carrier.change(
            key, f"{name!r} calls its speakers {', '.join(sorted(map(str, speaks)))}: see if preview knows them"
        )
    kinds = {"alpaca": "alpaca", "openai": "messages", "sharegpt": "sharegpt"}
    if formatting == "sharegpt" and tags.get("role_tag") == "role":
        return {"format": "messages", "columns": {_OF_MESSAGES.get(role, role): c for role, c in mapped.items()}}
    return {"format": kinds.get(formatting, "auto"), "columns": mapped}


_OF_MESSAGES = {"conversations": "messages"}


def _columns(
    columns: Mapping[str, str], formatting: str, is_usual: bool, *, has_choice: bool
) -> Iterator[tuple[str, str]]:
    """Our role and the column that plays it."""
    if has_choice:
        roles = {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected", "messages": "prompt"}
    elif formatting == "alpaca":
        roles = {"prompt": "instruction", "query": "input", "response": "output", "history": "history"}
    elif formatting == "openai":
        roles = {"messages": "messages", "tools": "tools"}
    else:
        roles = {"messages": "conversations", "tools": "tools"}
    for theirs, ours in (roles | {"system": "system"}).items():
        if theirs in columns:
            yield ours, columns[theirs]
    if formatting == "sharegpt" and is_usual and not has_choice:
        yield "conversations", "conversations"


TOOL = Tool(
    name="llamafactory",
    title="LLaMA-Factory",
    signs=frozenset(
        {
            "finetuning_type",
            "cutoff_len",
            "dataset_dir",
            "lora_target",
            "stage",
            "val_size",
            "template",
            "do_train",
            "preprocessing_num_workers",
            "quantization_bit",
            "plot_loss",
            "neat_packing",
            "lora_rank",
            "dataset",
            "model_name_or_path",
        }
    ),
    keys={
        "model_name_or_path": "model.name_or_path",
        "model_revision": "model.revision",
        "cache_dir": "model.cache_dir",
        "cutoff_len": "data.max_length",
        "default_system": "data.system",
        "streaming": "data.streaming",
        "buffer_size": "data.shuffle_buffer",
        "preprocessing_num_workers": "data.num_proc",
        "enable_liger_kernel": "training.use_liger_kernel",
        "disable_shuffling": "data.shuffle",
    },
    left_out={
        "trust_remote_code": reasons.NO_STRANGERS_CODE,
        "adapter_name_or_path": reasons.GO_ON_WITH_ADAPTER,
        "mix_strategy": "rows are concatenated; weight of [[data.sources]] says how often each is used",
        "interleave_probs": "weight of [[data.sources]] says how often the rows of each are used",
        "early_stopping_steps": "runs do not stop by themselves when an evaluation gets worse",
        "tokenized_path": "prepared data is kept by itself",
        "deepspeed_config": "name it training.deepspeed",
        "loraplus_lr_ratio": "LoRA+ is not supported",
        "rope_scaling": "the model's own positions are used",
        "use_unsloth": "unsloth is not used",
        "resize_vocab": "the embedding grows by itself where the tokenizer has more tokens",
        "add_tokens": reasons.NO_GROWING,
        "add_special_tokens": reasons.NO_GROWING,
        "train_from_scratch": "set model.from_scratch to the sizes of the new model",
        "upcast_layernorm": "weights are kept in the type that model.dtype says",
        "galore_*": "set training.optim_args and training.optim_target_modules yourself",
        "apollo_*": "set training.optim_args and training.optim_target_modules yourself",
        "badam_*": reasons.NO_METHOD,
        "swanlab_*": "name trackers in training.report_to",
        "export_*": "`tui-trainer export RUN --out DIR` writes a model",
        "vllm_*": "answers are not made by another engine",
        "sglang_*": "answers are not made by another engine",
        "ppo_*": reasons.NO_METHOD,
        "use_kt": "KTransformers is not used",
        "kt_*": "KTransformers is not used",
        "ray_*": "set [launch]",
        "fp8_*": "computing in 8 bits is not supported",
        "use_galore": 'set training.optim = "galore_adamw" and its targets yourself',
        "use_apollo": 'set training.optim = "apollo_adamw" and its targets yourself',
        "use_badam": reasons.NO_METHOD,
        "use_adam_mini": reasons.NO_METHOD,
        "use_muon": reasons.NO_METHOD,
        "use_llama_pro": reasons.NO_METHOD,
        "use_dft_loss": reasons.NO_METHOD,
        "use_eaft_loss": reasons.NO_METHOD,
        "shift_attn": reasons.NO_METHOD,
        "mixture_of_depths": reasons.NO_METHOD,
        "fp8": "computing in 8 bits is not supported",
        "use_swanlab": "name trackers in training.report_to",
        "pref_beta": "set it in the preference stage's own settings",
        "pref_ftx": "set it in the preference stage's own settings",
        "simpo_gamma": "SimPO is not supported",
        "ref_model": "the model before training is the reference",
        "reward_model": reasons.NO_METHOD,
    },
    idle=frozenset(
        {
            "overwrite_cache",
            "plot_loss",
            "preprocessing_batch_size",
            "media_dir",
            "use_fast_tokenizer",
            "double_quantization",
            "low_cpu_mem_usage",
            "use_reentrant_gc",
            "print_param_status",
            "data_shared_file_system",
            "ignore_pad_token_for_loss",
            "include_effective_tokens_per_second",
            "create_new_adapter",
            "image_max_pixels",
            "image_min_pixels",
            "video_max_pixels",
            "video_min_pixels",
            "freeze_vision_tower",
            "freeze_multi_modal_projector",
            "freeze_language_model",
            "tool_format",
            "infer_backend",
            "infer_dtype",
            "compute_accuracy",
        }
    ),
    defaults={"data.max_length": 2048},
    convert=_convert,
)
"""Its table of names."""
