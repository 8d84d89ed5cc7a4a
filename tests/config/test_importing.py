"""Other tools' files become configurations of ours that mean the same, and nothing is lost without a word."""

from __future__ import annotations

import json
import random
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tui_trainer.config.catalogue import ALIASES, catalogue
from tui_trainer.config.importing import importer
from tui_trainer.config.importing.importer import TOOLS, Imported, import_config
from tui_trainer.config.load import load_config
from tui_trainer.errors import ConfigurationError, UsageError

FOREIGN = Path(__file__).parent / "foreign"
FILES = {"llamafactory": "llamafactory.yaml", "axolotl": "axolotl.yml", "trl": "trl.yaml", "swift": "swift.yaml"}
SECRET = "hf_aaaaaaaaaaaaaaaaaaaaaaaaa"
Write = Callable[..., Imported]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Imports a text as a file of a tool."""

    def do(text: str, tool: str | None = None, name: str = "mine.yaml") -> Imported:
        (tmp_path / name).write_text(text, "utf-8")
        return import_config(tmp_path / name, tool)

    return do


def chosen(imported: Imported) -> dict[str, Any]:
    """What of the configuration differs from the defaults, by dotted key."""
    found = imported.config.model_dump(exclude_defaults=True)
    return {
        f"{section}.{name}" if isinstance(values, dict) else section: value
        for section, values in found.items()
        for name, value in (values.items() if isinstance(values, dict) else [("", values)])
    }


def keys(imported: Imported, kind: str) -> list[str]:
    return [remark.key for remark in imported.remarks if remark.kind == kind]


def remark(imported: Imported, key: str) -> str:
    return "; ".join(remark.why for remark in imported.remarks if remark.key == key)


@pytest.mark.parametrize("tool", FILES)
def test_each_tools_file_is_recognised_and_passes_the_schema(tool: str, tmp_path: Path) -> None:
    imported = import_config(FOREIGN / FILES[tool])
    assert imported.tool is TOOLS[tool]
    assert imported.to_dict() == import_config(FOREIGN / FILES[tool], tool).to_dict()
    (tmp_path / "ours.toml").write_text(imported.toml)
    assert load_config(str(tmp_path / "ours.toml")).config == imported.config
    assert imported.num_carried > 20
    assert SECRET not in json.dumps(imported.to_dict())


@pytest.mark.parametrize("tool", FILES)
def test_every_key_is_accounted_for(tool: str) -> None:
    """A key that is set is carried, remarked on or not needed; those that say the same as a default are carried too."""
    import yaml

    imported = import_config(FOREIGN / FILES[tool])
    tree = yaml.safe_load((FOREIGN / FILES[tool]).read_text())
    told = {*imported.idle, *(remark.key for remark in imported.remarks)}
    silent = {key for key, value in tree.items() if value not in (None, False)} - told
    known = TOOLS[tool]
    assert not silent & set(known.left_out)
    assert not silent & set(known.idle)
    assert "my_own_flag" not in silent


@pytest.mark.parametrize("tool", TOOLS.values(), ids=lambda tool: tool.name)
def test_the_tables_name_fields_that_exist_and_no_key_twice(tool: Any) -> None:
    assert {
        key for key in (*tool.keys.values(), *tool.defaults) if key not in catalogue() and key not in ALIASES
    } == set()
    assert not set(tool.keys) & set(tool.left_out)
    assert not set(tool.keys) & tool.idle
    assert not set(tool.left_out) & tool.idle


def test_llamafactory() -> None:
    imported = import_config(FOREIGN / "llamafactory.yaml")
    data = FOREIGN / "data"
    alpaca = {"instruction": "question", "input": "context", "output": "answer", "system": "sys"}
    tools = {"conversations": "conversations", "tools": "tools"}
    assert chosen(imported) == {
        "name": "support-bot",
        "model.name_or_path": "meta-llama/Meta-Llama-3-8B-Instruct",
        "model.attn_implementation": "flash_attention_2",
        "model.quantization": "nf4",
        "data.sources": [
            {"path": str(data / "identity.json"), "split": "train[:1000]", "format": "alpaca"},
            {
                "path": str(data / "alpaca_en_demo.json"),
                "split": "train[:1000]",
                "format": "alpaca",
                "columns": alpaca,
            },
            {
                "path": "llamafactory/glaive_toolcall_en",
                "name": "small",
                "split": "test[:1000]",
                "format": "sharegpt",
                "columns": tools,
            },
        ],
        "data.max_length": 4096,
        "data.train_on": "last",
        "data.packing": True,
        "data.num_proc": 16,
        "data.eval_split": 0.1,
        "lora.r": 8,
        "lora.alpha": 16.0,
        "lora.target_modules": ["q_proj", "v_proj"],
        "lora.modules_to_save": ["embed_tokens", "lm_head"],
        "training.per_device_train_batch_size": 1,
        "training.per_device_eval_batch_size": 1,
        "training.gradient_accumulation_steps": 8,
        "training.learning_rate": 1e-4,
        "training.lr_scheduler_type": "cosine",
        "training.warmup_steps": 0.1,
        "training.bf16": True,
        "training.activation_checkpointing": True,
        "training.ddp_timeout": 180000000,
        "training.dataloader_num_workers": 4,
        "training.logging_steps": 10,
        "training.save_strategy": "no",
        "training.eval_strategy": "steps",
        "training.eval_steps": 500,
    }
    assert keys(imported, "unknown") == ["my_own_flag"]
    assert set(keys(imported, "left_out")) == {"template", "trust_remote_code", "hub_token"}
    assert set(keys(imported, "default")) == {"lora.alpha", "training.activation_checkpointing"}
    assert next(each for each in imported.remarks if each.key == "hub_token").value == "***"
    assert next(each for each in imported.remarks if each.key == "my_own_flag").where.endswith("llamafactory.yaml:46")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("finetuning_type: full\nlora_rank: 8", {"lora": None, "data.max_length": 2048}),
        ("stage: pt\ndataset: wiki_demo", {"stage": "pretrain", "data.packing": True, "data.truncation": "split"}),
        ("stage: pt\ndataset: wiki_demo", {"data.format": "text", "data.columns": {"text": "text"}}),
        ("stage: pt\npacking: false", {"data.packing": False}),
        ("dataset: openai", {"data.format": "messages", "data.columns": {"messages": "messages"}}),
        ("stage: dpo\npref_loss: orpo\ndataset: dpo_en_demo", {"stage": "orpo", "data.format": "preference"}),
        ("lora_rank: 64", {"lora.r": 64, "lora.alpha": 128.0, "lora.target_modules": "all-linear"}),
        ("pissa_init: true\nuse_dora: true", {"lora.init_lora_weights": "pissa", "lora.use_dora": True}),
        ("warmup_ratio: 0.1\nwarmup_steps: 20", {"training.warmup_steps": 20}),
        ("pure_bf16: true\nfinetuning_type: full", {"model.dtype": "bfloat16"}),
        ("template: alpaca", {"data.template": "instruction"}),
        ("enable_thinking: false", {"data.template_kwargs": {"enable_thinking": False}}),
        ("disable_gradient_checkpointing: true", {"training.activation_checkpointing": False}),
        ("train_on_prompt: true\neval_dataset: identity", {"data.train_on": "all"}),
    ],
)
def test_llamafactory_keeps_the_meaning(write: Write, tmp_path: Path, text: str, expected: dict[str, Any]) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/dataset_info.json").write_text((FOREIGN / "data/dataset_info.json").read_text())
    found = value_of_all(write(text, "llamafactory"), expected)
    assert found == expected


def value_of_all(imported: Imported, wanted: dict[str, Any]) -> dict[str, Any]:
    whole = imported.config.model_dump()
    found = {}
    for key in wanted:
        section, _, name = key.rpartition(".")
        found[key] = whole[section][name] if section else whole[name]
    return found


def test_llamafactory_says_what_it_does_not_find(write: Write, tmp_path: Path) -> None:
    assert "no dataset_info.json was found" in remark(write("dataset: identity", "llamafactory"), "dataset")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/dataset_info.json").write_text('{"a": {"script_url": "x"}}')
    assert "loaded by a script" in remark(write("dataset: a", "llamafactory"), "dataset")
    assert "knows no 'b'" in remark(write("dataset: b", "llamafactory"), "dataset")
    (tmp_path / "data/dataset_info.json").write_text("{")
    assert "cannot be read" in remark(write("dataset: a", "llamafactory"), "dataset")
    assert "only a share" in remark(write("val_size: 100", "llamafactory"), "val_size")


def test_axolotl() -> None:
    imported = import_config(FOREIGN / "axolotl.yml")
    own = {"format": "alpaca", "columns": {"instruction": "question", "output": "answer"}}
    assert chosen(imported) == {
        "name": "llama3-try",
        "model.name_or_path": "NousResearch/Meta-Llama-3-8B-Instruct",
        "model.dtype": "bfloat16",
        "model.attn_implementation": "flash_attention_2",
        "model.quantization": "nf4",
        "data.sources": [
            {
                "path": "fozziethebeat/alpaca_messages_2k_test",
                "format": "messages",
                "columns": {"messages": "turns"},
            },
            {"path": "data/old.jsonl", "format": "sharegpt"},
            {"path": "data/one.jsonl", **own},
            {"path": "data/two.jsonl", **own},
        ],
        "data.max_length": 4096,
        "data.truncation": "drop",
        "data.packing": True,
        "data.padding": "max_length",
        "data.pad_token": "<|end_of_text|>",
        "data.eval_split": 0.05,
        "lora.r": 32,
        "lora.alpha": 16.0,
        "lora.dropout": 0.05,
        "training.per_device_train_batch_size": 2,
        "training.per_device_eval_batch_size": 2,
        "training.gradient_accumulation_steps": 4,
        "training.num_train_epochs": 4.0,
        "training.learning_rate": 2e-4,
        "training.optim": "adamw_bnb_8bit",
        "training.lr_scheduler_type": "cosine_with_min_lr",
        "training.lr_scheduler_kwargs": {"min_lr_rate": 0.1},
        "training.warmup_steps": 10,
        "training.bf16": True,
        "training.tf32": False,
        "training.activation_checkpointing": True,
        "training.activation_checkpointing_kwargs": {"use_reentrant": False},
        "training.use_liger_kernel": True,
        "training.fsdp": "full_shard auto_wrap",
        "training.fsdp_config": {"offload_params": True, "transformer_layer_cls_to_wrap": "LlamaDecoderLayer"},
        "training.eval_strategy": "steps",
        "training.eval_steps": 1 / 16,
        "training.save_strategy": "epoch",
        "training.save_total_limit": 4,
        "training.report_to": ["wandb"],
        "training.project": "llama",
    }
    assert set(keys(imported, "left_out")) == {"chat_template", "wandb_entity", "early_stopping_patience"}
    assert set(keys(imported, "changed")) == {"datasets", "special_tokens", "bf16", "plugins"}
    assert "shards" in remark(imported, "datasets")
    assert "prompt format of data/one.jsonl" in remark(imported, "datasets")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "learning_rate: 1e-5",
            {
                "data.max_length": 512,
                "training.num_train_epochs": 1.0,
                "training.per_device_train_batch_size": 1,
                "training.per_device_eval_batch_size": 1,
                "training.lr_scheduler_type": "cosine",
                "training.warmup_steps": 0.03,
                "training.save_strategy": "epoch",
                "training.eval_strategy": "no",
                "training.bf16": True,
                "lora": None,
            },
        ),
        ("micro_batch_size: 4\nbatch_size: 32", {"training.gradient_accumulation_steps": 8}),
        ("val_set_size: 0.1", {"training.eval_strategy": "epoch", "data.eval_split": 0.1}),
        ("val_set_size: 0.1\nevals_per_epoch: 1", {"training.eval_strategy": "epoch"}),
        ("val_set_size: 0.1\neval_steps: 20", {"training.eval_strategy": "steps", "training.eval_steps": 20}),
        ("fp16: true\nbf16: false", {"training.fp16": True, "training.bf16": False, "model.dtype": "float16"}),
        ("bf16: false", {"training.bf16": False, "model.dtype": "auto"}),
        ("chat_template: chatml", {"data.template": "chatml"}),
        ("chat_template: tokenizer_default", {"data.template": None}),
        ("chat_template_jinja: mine.jinja", {"data.template": "mine.jinja"}),
        ("excess_length_strategy: truncate", {"data.truncation": "right"}),
        ("optimizer: ao_adamw_8bit", {"training.optim": "adamw_torch_8bit"}),
        (
            "datasets: [{path: a/b, type: completion, field: body}]",
            {"stage": "pretrain", "data.columns": {"text": "body"}},
        ),
        (
            "pretraining_dataset: [{path: a/b, name: en}]",
            {"stage": "pretrain", "data.streaming": True, "data.name": "en"},
        ),
        ("datasets: [{path: a/b, type: alpaca}]", {"data.format": "alpaca", "data.template": "instruction"}),
        (
            "rl: dpo\ndatasets: [{path: a/b, split: train, type: chatml.intel}]",
            {"stage": "dpo", "data.format": "preference"},
        ),
        ("hub_model_id: me/it", {"training.push_to_hub": True, "training.hub_model_id": "me/it"}),
        (
            "datasets: [{path: a, type: chat_template, message_property_mappings: {role: from, content: value}}]",
            {"data.format": "sharegpt"},
        ),
        ("adapter: lora\nlora_target_modules: [q_proj]", {"lora.target_modules": ["q_proj"]}),
        ("train_on_inputs: true", {"data.train_on": "all"}),
        (
            "gradient_checkpointing: true\nfsdp_version: 2\nfsdp_config: {activation_checkpointing: true}",
            {
                "training.fsdp": True,
                "training.fsdp_config": {"activation_checkpointing": True, "version": 2},
                "training.activation_checkpointing": None,
            },
        ),
    ],
)
def test_axolotl_keeps_the_meaning(write: Write, text: str, expected: dict[str, Any]) -> None:
    assert value_of_all(write(text, "axolotl"), expected) == expected


def test_trl() -> None:
    imported = import_config(FOREIGN / "trl.yaml")
    assert chosen(imported) == {
        "name": "Qwen2-0.5B-SFT",
        "model.name_or_path": "Qwen/Qwen2.5-0.5B",
        "model.dtype": "bfloat16",
        "model.attn_implementation": "flash_attention_2",
        "model.quantization": "nf4",
        "data.sources": [{"path": "trl-lib/Capybara", "split": "train[:50%]"}, {"path": "mine.jsonl"}],
        "data.max_length": 2048,
        "data.packing": True,
        "data.eval_split": 0.05,
        "lora.r": 32,
        "lora.alpha": 16.0,
        "lora.dropout": 0.05,
        "lora.target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"],
        "training.per_device_train_batch_size": 2,
        "training.gradient_accumulation_steps": 8,
        "training.num_train_epochs": 1.0,
        "training.learning_rate": 2e-4,
        "training.lr_scheduler_type": "cosine_with_min_lr",
        "training.lr_scheduler_kwargs": {"min_lr_rate": 0.1},
        "training.warmup_steps": 0.03,
        "training.bf16": True,
        "training.activation_checkpointing": True,
        "training.activation_checkpointing_kwargs": {"use_reentrant": False},
        "training.eval_strategy": "steps",
        "training.eval_steps": 100,
        "training.logging_steps": 5,
        "training.report_to": ["wandb"],
        "training.seed": 7,
        "training.push_to_hub": True,
        "launch.env": {"WANDB_PROJECT": "capybara"},
    }
    assert keys(imported, "left_out") == ["eos_token"]
    assert keys(imported, "changed") == ["env"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "dataset_name: a/b\ndataset_train_split: small\nmodel_name_or_path: m",
            {
                "data.path": "a/b",
                "data.split": "small",
                "data.max_length": 1024,
                "training.learning_rate": 2e-5,
                "training.bf16": True,
                "training.activation_checkpointing": True,
                "model.dtype": "float32",
                "lora": None,
            },
        ),
        ("use_peft: true", {"lora.r": 16, "lora.alpha": 32.0, "lora.target_modules": ["q_proj", "v_proj"]}),
        ("eval_strategy: epoch", {"data.eval_split": "test"}),
        ("dataset_test_split: test", {"data.eval_split": None}),
        ("completion_only_loss: false", {"data.train_on": "all"}),
        ("dataset_name: a/b\ndataset_text_field: body", {"data.format": "text", "data.columns": {"text": "body"}}),
        ("fp16: true", {"training.fp16": True, "training.bf16": False}),
        ("chat_template_path: my.jinja", {"data.template": "my.jinja"}),
    ],
)
def test_trl_keeps_the_meaning(write: Write, text: str, expected: dict[str, Any]) -> None:
    assert value_of_all(write(text, "trl"), expected) == expected


def test_trl_tells_that_whole_conversations_are_trained_there(write: Write) -> None:
    assert 'data.train_on = "all"' in remark(write("dataset_name: a/b", "trl"), "dataset_name")
    assert not remark(write("dataset_name: a/b\nassistant_only_loss: true", "trl"), "dataset_name")


def test_swift() -> None:
    imported = import_config(FOREIGN / "swift.yaml")
    assert chosen(imported) == {
        "name": "self-cognition",
        "model.name_or_path": "Qwen/Qwen2.5-7B-Instruct",
        "model.dtype": "bfloat16",
        "model.attn_implementation": "flash_attention_2",
        "model.quantization": "nf4",
        "data.sources": [
            {"path": "AI-ModelScope/alpaca-gpt4-data-zh", "split": "train[:500]"},
            {"path": "tatsu-lab/alpaca", "name": "default"},
            {"path": "mine.jsonl"},
        ],
        "data.system": "You are a helpful assistant.",
        "data.max_length": 2048,
        "data.truncation": "drop",
        "data.train_on": "last",
        "data.eval_split": 0.01,
        "lora.r": 8,
        "lora.dropout": 0.05,
        "training.per_device_train_batch_size": 2,
        "training.per_device_eval_batch_size": 1,
        "training.gradient_accumulation_steps": 16,
        "training.num_train_epochs": 1.0,
        "training.learning_rate": 1e-4,
        "training.weight_decay": 0.1,
        "training.adam_beta2": 0.95,
        "training.lr_scheduler_type": "cosine",
        "training.warmup_steps": 0.05,
        "training.bf16": True,
        "training.activation_checkpointing": True,
        "training.dataloader_num_workers": 4,
        "training.logging_steps": 5,
        "training.save_steps": 50,
        "training.save_total_limit": 2,
        "training.eval_strategy": "steps",
        "training.eval_steps": 50,
    }
    assert set(keys(imported, "left_out")) == {"deepspeed", "model_author", "model_name"}
    assert "not on ModelScope" in remark(imported, "dataset")
    assert "tatsu-lab" not in remark(imported, "dataset")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "tuner_type: full",
            {"lora": None, "training.learning_rate": 1e-5, "training.gradient_accumulation_steps": 16},
        ),
        ("model: m\nper_device_train_batch_size: 8", {"training.gradient_accumulation_steps": 2, "lora.r": 8}),
        ("target_regex: '.*q_proj'\ntarget_modules: [k_proj]", {"lora.target_modules": ".*q_proj"}),
        ("rlhf_type: rm", {"stage": "reward"}),
        ("torch_dtype: fp16", {"model.dtype": "float16", "training.fp16": True}),
        (
            'deepspeed: \'{"zero_optimization": {"stage": 2}}\'',
            {"training.deepspeed": {"zero_optimization": {"stage": 2}}},
        ),
        (
            "val_dataset: test.jsonl\neval_strategy: epoch",
            {"data.eval_split": "test.jsonl", "training.eval_strategy": "epoch"},
        ),
        ("eval_steps: 10", {"training.eval_strategy": "no", "training.eval_steps": None}),
        ("use_chat_template: false", {"data.template": "none"}),
        ("init_weights: pissa", {"lora.init_lora_weights": "pissa"}),
    ],
)
def test_swift_keeps_the_meaning(write: Write, text: str, expected: dict[str, Any]) -> None:
    assert value_of_all(write(text, "swift"), expected) == expected


def test_the_arguments_that_swift_leaves_behind_are_json(write: Write) -> None:
    imported = write('{"model": "m", "tuner_type": "lora", "dataset": ["a.jsonl"], "lora_rank": 4}', name="args.json")
    assert imported.tool.name == "swift"
    assert imported.config.lora is not None
    assert (imported.config.lora.r, imported.config.data.path) == (4, "a.jsonl")


# --- values, and files that are none


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("learning_rate: 2e-5", "learning_rate", 2e-5),
        ("learning_rate: '1.0e-3'", "learning_rate", 1e-3),
        ("per_device_train_batch_size: 4.0", "per_device_train_batch_size", 4),
        ("bf16: 'true'", "bf16", True),
        ("eval_strategy: no", "eval_strategy", "no"),
        ("seed: '7'", "seed", 7),
        ("project: 2026-11-24", "project", "2026-11-24"),
        ("lr_scheduler_kwargs: {min_lr: 1, end:}", "lr_scheduler_kwargs", {"min_lr": 1}),
        ("group_by_length: false", "train_sampling_strategy", "random"),
        ("group_by_length: true", "train_sampling_strategy", "group_by_length"),
        ("gradient_checkpointing: false", "activation_checkpointing", False),
    ],
)
def test_yaml_values_mean_what_they_look_like(write: Write, text: str, key: str, value: Any) -> None:
    assert getattr(write(text, "llamafactory").config.training, key) == value


@pytest.mark.parametrize("text", ["learning_rate: fast", "seed: -3", "save_strategy: sometimes", "optim: my_adam"])
def test_a_value_that_is_not_permitted_is_left_out_and_told(write: Write, text: str) -> None:
    imported = write(text, "llamafactory")
    key = text.partition(":")[0]
    assert keys(imported, "left_out") == [key]
    assert ("knows no optimiser" if key == "optim" else "must be") in remark(imported, key)


def test_secrets_are_carried_nowhere(write: Write) -> None:
    text = f"hub_token: {SECRET}\nswanlab_api_key: abc\nrun_name: x\nhub_model_id: {SECRET}\nunheard: [{{a: {SECRET}}}]"
    imported = write(text, "llamafactory")
    assert SECRET not in json.dumps(imported.to_dict())
    assert "abc" not in imported.toml
    assert imported.config.training.hub_model_id is None


def test_hostile_names_stay_comments(write: Write) -> None:
    imported = write('"evil\\n[launch]\\nmax_restarts = 9": 1\n"esc\\e[31m": 2\nmodel_name_or_path: m', "llamafactory")
    assert "launch" not in tomllib.loads(imported.toml)
    assert "\x1b" not in imported.toml


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1", "not valid YAML"),
        ("a: !!python/object/apply:os.system ['true']", "not valid YAML"),
        ("a: &x [*x]", "aliases"),
        ("a: &a [1]\n" + "b: [" + ", ".join(["*a"] * 30) + "]", "aliases"),
        ("a: 1\nb: 2\na: 3", "stands twice"),
        ("just words", "no settings"),
        ("", "no settings"),
        ("- 1", "no settings"),
        ("? [a]\n: 1", "not valid YAML"),
        ("stage: ppo", "not trained here"),
        ("finetuning_type: freeze", "not trained here"),
    ],
)
def test_what_is_no_configuration_is_refused(write: Write, text: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        write(text, "llamafactory")


def test_files_that_cannot_be_told_or_read(write: Write, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be told"):
        write("learning_rate: 1e-4\nseed: 1")
    with pytest.raises(UsageError, match="no tool"):
        write("a: 1", "unsloth")
    with pytest.raises(UsageError, match="is TOML"):
        write("a = 1", name="ours.toml")
    with pytest.raises(UsageError, match="cannot be read"):
        import_config(tmp_path / "nothing.yaml")
    with pytest.raises(UsageError, match="too large"):
        write("a: " + "x" * (1 << 20))
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        import_config(tmp_path / "bytes.yaml")


STRANGE: list[Any] = [
    True, 0, -1, 7.5, float("inf"), "", "x", "1e-4", "a,b", "#5", "[1", [], [None], [[1]], [1, {"path": 3}],
    [{"path": "json", "data_files": "f.jsonl", "type": "alpaca:chat"}], [{"path": "a", "type": {"format": 1}}],
    {}, {"a": {"b": [1]}}, {"pad_token": 1}, 10**30, "\x00",
]  # fmt: skip


@pytest.mark.parametrize("tool", TOOLS)
def test_values_of_any_kind_are_carried_or_told(write: Write, tool: str) -> None:
    """Each key of the tool with values that nobody meant; an error of ours would be none of these two."""
    mine = {"llamafactory": "finetuning_type", "axolotl": "adapter", "trl": "use_peft", "swift": "tuner_type"}[tool]
    folder = Path(importer.__file__).parent
    text = "".join(path.read_text() for path in folder.glob(f"{tool}*.py"))
    keys = sorted(set(re.findall(r'"([a-z_0-9]+)"', text)))
    assert len(keys) > 60
    draw = random.Random(0)
    for _ in range(80):
        tree = {mine: "lora"} | {key: draw.choice(STRANGE) for key in draw.sample(keys, 3)}
        try:
            imported = write(json.dumps(tree), tool, "strange.json")
        except ConfigurationError as error:
            assert "not trained here" in str(error), tree  # noqa: PT017 - most draws raise nothing
        else:
            assert tomllib.loads(imported.toml)["name"]
