"""TRL: what `trl sft --config FILE` reads: SFTConfig, ModelConfig and ScriptArguments in one file.

Names and defaults are those of TRL 1.16; former names (`max_seq_length`, `torch_dtype`) are known too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tui_trainer.config.importing import reasons
from tui_trainer.config.importing.carrying import Carrier, Tool, module_names, quantised, warm_up
from tui_trainer.redact import is_secret_name

_LORA = {
    "lora_r": "lora.r",
    "lora_alpha": "lora.alpha",
    "lora_dropout": "lora.dropout",
    "lora_modules_to_save": "lora.modules_to_save",
    "use_rslora": "lora.use_rslora",
    "use_dora": "lora.use_dora",
}
_LORA_MORE = ("lora_target_modules", "lora_task_type")
_FILE_TYPES = ("json", "csv", "parquet", "arrow", "text")
_SIDES = {"keep_start": "right", "keep_end": "left"}


def _convert(carrier: Carrier) -> None:
    carrier.name_after("run_name", "output_dir")
    carrier.skip("output_dir")
    _model(carrier)
    _adapter(carrier)
    _data(carrier)
    _masking(carrier)
    warm_up(carrier)
    if not carrier.has("fp16") and carrier.document.tree.get("bf16") is None:
        carrier.default("training.bf16", True)
    environment = carrier.take("env")
    if isinstance(environment, Mapping):
        open_ones = {str(name): str(value) for name, value in environment.items() if not is_secret_name(str(name))}
        carrier.put("launch.env", open_ones or None, "env")
        if len(open_ones) < len(environment):
            carrier.change("env", "variables that hold secrets are left out: export them")


def _model(carrier: Carrier) -> None:
    key = "torch_dtype" if carrier.has("torch_dtype") else "dtype"
    carrier.put("model.dtype", carrier.take(key), key)
    carrier.default("model.dtype", "float32")
    revision = carrier.take("model_revision")
    if revision != "main":
        carrier.put("model.revision", revision, "model_revision")
    quantised(carrier)
    template = carrier.take("chat_template_path")
    if isinstance(template, str) and template.endswith(".jinja"):
        carrier.put("data.template", template, "chat_template_path")
    else:
        carrier.leave("chat_template_path", "data.template takes a name or a .jinja file, not another tokenizer")


def _adapter(carrier: Carrier) -> None:
    if not carrier.take("use_peft"):
        carrier.skip(*_LORA, *_LORA_MORE)
        return
    carrier.values["lora.r"] = 16
    carrier.num_carried += 1
    carrier.rename(_LORA)
    carrier.default("lora.dropout", 0.05)
    carrier.put("lora.target_modules", module_names(carrier.take("lora_target_modules")) or None, "lora_target_modules")
    carrier.default("lora.target_modules", ["q_proj", "v_proj"], "PEFT's choice for most models when none is named")
    carrier.skip("lora_task_type")


def _data(carrier: Carrier) -> None:
    entries, name = carrier.take("datasets"), carrier.take("dataset_name")
    if isinstance(entries, list) and entries:
        sources = [source for entry in entries if isinstance(entry, Mapping) for source in _sources(carrier, entry)]
        carrier.leave("dataset_name", "datasets is set too, and wins")
    else:
        one = {"path": name, "name": carrier.take("dataset_config"), "split": carrier.take("dataset_train_split")}
        sources = [{key: str(value) for key, value in one.items() if value and value != "train"}] if name else []
    carrier.take("dataset_config")
    carrier.take("dataset_train_split")
    text = carrier.take("dataset_text_field")
    if text not in (None, "text"):
        sources = [source | {"format": "text", "columns": {"text": str(text)}} for source in sources]
    carrier.sources(sources)
    carrier.num_carried += bool(sources)
    for key in ("max_length", "max_seq_length"):
        carrier.put("data.max_length", carrier.take(key), key)
    carrier.put_called("data.truncation", "truncation_mode", _SIDES)
    if carrier.take("packing_strategy") == "wrapped":
        carrier.change("packing_strategy", "examples are packed whole, none is cut in two")
    _held_out(carrier)


def _sources(carrier: Carrier, entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    source = {key: str(entry[key]) for key in ("path", "name", "split") if entry.get(key)}
    if entry.get("fraction"):
        source["split"] = f"{source.get('split', 'train')}[:{round(100 * float(entry['fraction']))}%]"
    lost = [key for key in ("columns", "data_dir") if entry.get(key)]
    if lost:
        carrier.change("datasets", f"of {entry.get('path')} these are not carried over: {', '.join(lost)}")
    files = entry.get("data_files")
    files = [files] if isinstance(files, str) else files
    if isinstance(files, Mapping):
        files = list(files.values())
    if source.get("path") in _FILE_TYPES and files:
        return [source | {"path": str(file)} for file in files]
    return [source | ({"data_files": [str(file) for file in files]} if files else {})]


def _held_out(carrier: Carrier) -> None:
    """Rows to evaluate on; there they are used only where `eval_strategy` asks for evaluations."""
    split, share = carrier.take("dataset_test_split"), carrier.take("test_split_size")
    evaluates = carrier.document.tree.get("eval_strategy", carrier.document.tree.get("evaluation_strategy"))
    if share:
        carrier.put("data.eval_split", share, "test_split_size")
    elif evaluates in (None, "no", False):
        carrier.skip("dataset_test_split")
    else:
        carrier.put("data.eval_split", split or "test", "dataset_test_split")


def _masking(carrier: Carrier) -> None:
    """Which tokens count: there it depends on the form of the rows unless it is said."""
    whole, answers = carrier.take("completion_only_loss"), carrier.take("assistant_only_loss")
    if answers or whole:
        carrier.values["data.train_on"] = "assistant"
        carrier.num_carried += 1
    elif whole is False:
        carrier.put("data.train_on", "all", "completion_only_loss")
    else:
        carrier.default("data.train_on", "assistant")
        key = "dataset_name" if carrier.has("dataset_name") else "datasets"
        carrier.change(
            key,
            "TRL trains on whole conversations unless assistant_only_loss is set, here only answers count: "
            'for the same set data.train_on = "all" (rows with prompt and completion are masked alike)',
        )


TOOL = Tool(
    name="trl",
    title="TRL",
    signs=frozenset(
        {
            "dataset_name",
            "datasets",
            "use_peft",
            "model_name_or_path",
            "lora_r",
            "lora_target_modules",
            "max_seq_length",
            "dataset_train_split",
            "dataset_test_split",
            "dataset_config",
            "dataset_text_field",
            "assistant_only_loss",
            "completion_only_loss",
            "packing_strategy",
            "load_in_4bit",
            "attn_implementation",
            "torch_dtype",
            "eos_token",
        }
    ),
    keys={
        "model_name_or_path": "model.name_or_path",
        "attn_implementation": "model.attn_implementation",
        "dataset_streaming": "data.streaming",
        "streaming": "data.streaming",
        "dataset_num_proc": "data.num_proc",
        "shuffle_dataset": "data.shuffle",
        "packing": "data.packing",
        "pad_to_multiple_of": "data.pad_to_multiple_of",
        "pad_token": "data.pad_token",
        "num_processes": "launch.num_processes",
        "num_machines": "launch.num_machines",
        "machine_rank": "launch.machine_rank",
        "main_process_ip": "launch.main_process_ip",
        "main_process_port": "launch.main_process_port",
        "mixed_precision": "launch.mixed_precision",
    },
    left_out={
        "trust_remote_code": reasons.NO_STRANGERS_CODE,
        "eos_token": "the end of a turn is known from the chat template",
        "padding_free": "data.packing does without padding",
        "eval_packing": "evaluation rows are packed as training rows are",
        "loss_type": "the loss is that of the next token",
        "activation_offloading": "set training.activation_checkpointing_kwargs = {offload = true}",
        "router_aux_loss_coef": "the value of the model's configuration is used",
        "model_init_kwargs": "set the fields of [model]",
        "dataset_kwargs": "rows are always prepared here",
        "lora_target_parameters": "only whole layers get an adapter",
        "accelerate_config": "set [launch], training.fsdp or training.deepspeed",
        "formatting_func": "no code of a file is run",
        "beta": "set it in the preference stage's own settings",
        "bnb_4bit_quant_type": "4 bits are nf4 here",
    },
    idle=frozenset({"ignore_bias_buffers", "use_bnb_nested_quant", "bnb_4bit_quant_storage", "max_prompt_length"}),
    defaults={"training.learning_rate": 2e-5, "training.activation_checkpointing": True},
    convert=_convert,
)
"""Its table of names."""
