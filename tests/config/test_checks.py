"""Every rule of the cross-field checks: what is found, on which key and how grave, and what passes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tui_trainer.config.catalogue import catalogue, section_keys
from tui_trainer.config.checks import RULES, Facts, check_config
from tui_trainer.config.rules.loop import METRICS
from tui_trainer.config.schema import RunConfig
from tui_trainer.config.shape import shape_from_config
from tui_trainer.errors import Problem

SOUND: dict[str, Any] = {
    "model": {"name_or_path": "demo:smollm2"},
    "data": {"path": "demo:chat", "eval_split": "test"},
    "training": {"eval_strategy": "steps", "eval_steps": 10, "save_steps": 10, "max_steps": 100},
}
LLAMA = {"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "vocab_size": 300}
SCRATCH = {"model": {"name_or_path": None, "from_scratch": LLAMA, "tokenizer_name_or_path": "builtin:bytes"}}
LORA = {"r": 8}
FP16 = {"fp16": True}
NO_EVAL = {"data": {"eval_split": None}, "training": {"eval_strategy": "no"}}
SLURM = {"backend": "slurm", "slurm_options": {"gpus-per-node": 4}}
GPU = Facts(num_gpus=2, has_bf16=True, gpu_memory_bytes=(24 << 30, 24 << 30))
CPU = Facts(num_gpus=0, num_cpus=2)


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with `changes` merged section by section; None in a section unsets a field."""
    merged = {name: dict(value) if isinstance(value, dict) else value for name, value in base.items()}
    for name, value in changes.items():
        is_section = isinstance(value, dict) and isinstance(merged.get(name), dict)
        merged[name] = {**merged[name], **value} if is_section else value
    return merged


def _check(*changes: dict[str, Any], facts: Facts = GPU) -> list[Problem]:
    tree = SOUND
    for change in changes:
        tree = _merge(tree, change)
    return check_config(RunConfig.model_validate(tree), facts)


@pytest.mark.parametrize("facts", [GPU, Facts(), Facts(num_gpus=0)], ids=["gpu", "unknown", "cpu"])
def test_a_sound_configuration_passes(facts: Facts) -> None:
    assert _check(facts=facts) == []


Case = tuple[str, dict[str, Any], str, str]
ERRORS: list[Case] = [
    ("stage", {"stage": "dpo"}, "stage", "is not built in this version"),
    ("no model", {"model": {"name_or_path": None}}, "model.name_or_path", "no model is named"),
    (
        "scratch without tokenizer",
        _merge(SCRATCH, {"model": {"tokenizer_name_or_path": None}}),
        "model.tokenizer_name_or_path",
        "needs a tokenizer",
    ),
    ("scratch with lora", _merge(SCRATCH, {"lora": LORA}), "lora", "random weights"),
    (
        "scratch without a type",
        _merge(SCRATCH, {"model": {"from_scratch": {"hidden_size": 64, "num_attention_heads": 4}}}),
        "model.from_scratch",
        "has no model_type",
    ),
    (
        "heads do not divide",
        _merge(SCRATCH, {"model": {"from_scratch": LLAMA | {"hidden_size": 66}}}),
        "model.from_scratch",
        "not divisible",
    ),
    (
        "key-value heads do not divide",
        _merge(SCRATCH, {"model": {"from_scratch": LLAMA | {"num_key_value_heads": 3}}}),
        "model.from_scratch",
        "cannot share",
    ),
    (
        "a size that is none",
        _merge(SCRATCH, {"model": {"from_scratch": LLAMA | {"hidden_size": "big"}}}),
        "model.from_scratch",
        "positive whole number",
    ),
    (
        "learned positions end",
        _merge(
            SCRATCH,
            {"model": {"from_scratch": {"model_type": "gpt2", "n_positions": 128}}, "data": {"max_length": 256}},
        ),
        "data.max_length",
        "more than the 128",
    ),
    (
        "foreign tokenizer",
        {"model": {"tokenizer_name_or_path": "builtin:bytes"}},
        "model.tokenizer_name_or_path",
        "numbers its tokens otherwise",
    ),
    ("quantised full training", {"model": {"quantization": "nf4"}}, "model.quantization", "cannot be trained"),
    (
        "quantised pissa",
        {"model": {"quantization": "nf4"}, "lora": {**LORA, "init_lora_weights": "pissa"}},
        "lora.init_lora_weights",
        "does not keep",
    ),
    ("float16 weights", {"model": {"dtype": "float16"}}, "model.dtype", "gradients vanish"),
    (
        "flash attention in float32",
        {"model": {"attn_implementation": "flash_attention_2"}},
        "model.attn_implementation",
        "16 bits only",
    ),
    ("no target modules", {"lora": {**LORA, "target_modules": []}}, "lora.target_modules", "names no layer"),
    ("no data", {"data": {"path": None}}, "data.path", "no data is named"),
    ("two kinds of source", {"data": {"sources": [{"path": "a"}]}}, "data.path", "only one of them"),
    ("source without path", {"data": {"path": None, "sources": [{}]}}, "data.sources.0.path", "no data is named"),
    (
        "streaming without an end",
        {"data": {"streaming": True}, "training": {"max_steps": -1}},
        "training.max_steps",
        "nobody knows where an epoch ends",
    ),
    (
        "streaming with a share",
        {"data": {"streaming": True, "eval_split": 0.1}},
        "data.eval_split",
        "cannot be cut off",
    ),
    ("pretrain on preferences", {"stage": "pretrain", "data": {"format": "kto"}}, "data.format", "no plain text"),
    ("sft on preferences", {"data": {"format": "preference"}}, "data.format", "answers to be avoided"),
    ("pretrain on conversations", {"stage": "pretrain", "data": {"format": "messages"}}, "data.format", "plain text"),
    ("split conversations", {"data": {"truncation": "split"}}, "data.truncation", "cannot be split"),
    ("a share that is none", {"data": {"eval_split": 1.5}}, "data.eval_split", "between 0 and 1"),
    ("nothing to evaluate on", {"data": {"eval_split": None}}, "training.eval_strategy", "nothing to evaluate on"),
    (
        "nothing to evaluate on at the start",
        _merge(NO_EVAL, {"training": {"eval_on_start": True}}),
        "training.eval_on_start",
        "nothing to evaluate on",
    ),
    (
        "exact match without rows",
        {"data": {"eval_split": None}, "sampling": {"num_exact_match": 5, "prompts": ["a"]}},
        "sampling.num_exact_match",
        "needs rows",
    ),
    (
        "exact match of plain text",
        {"stage": "pretrain", "sampling": {"num_exact_match": 5}},
        "sampling.num_exact_match",
        "no reference answers",
    ),
    ("no steps", {"training": {"max_steps": 0}}, "training.max_steps", "is 0"),
    ("half a step", {"training": {"eval_steps": 2.5}}, "training.eval_steps", "whole steps"),
    (
        "schedule without its argument",
        {"training": {"lr_scheduler_type": "warmup_stable_decay"}},
        "training.lr_scheduler_kwargs",
        "num_decay_steps",
    ),
    (
        "plateau without evaluation",
        _merge(NO_EVAL, {"training": {"lr_scheduler_type": "reduce_lr_on_plateau"}}),
        "training.lr_scheduler_type",
        "follows the evaluation",
    ),
    ("no such optimiser", {"training": {"optim": "adamw"}}, "training.optim", "there is no optimiser 'adamw'"),
    (
        "best without evaluation",
        _merge(NO_EVAL, {"training": {"load_best_model_at_end": True}}),
        "training.load_best_model_at_end",
        "needs evaluations",
    ),
    (
        "saving the best without evaluation",
        _merge(NO_EVAL, {"training": {"save_strategy": "best"}}),
        "training.save_strategy",
        "needs evaluations",
    ),
    (
        "strategies apart",
        {"training": {"load_best_model_at_end": True, "save_strategy": "epoch"}},
        "training.load_best_model_at_end",
        "by epoch and evaluates by steps",
    ),
    (
        "no multiple",
        {"training": {"load_best_model_at_end": True, "save_steps": 15}},
        "training.load_best_model_at_end",
        "no multiple",
    ),
    (
        "a share and a number",
        {"training": {"load_best_model_at_end": True, "save_steps": 0.1}},
        "training.load_best_model_at_end",
        "no multiple",
    ),
    (
        "no such metric",
        {"training": {"metric_for_best_model": "bleu"}},
        "training.metric_for_best_model",
        "not measured",
    ),
    (
        "a metric that is not measured",
        {"training": {"metric_for_best_model": "eval_exact_match"}},
        "training.metric_for_best_model",
        "num_exact_match",
    ),
    (
        "prefetch without workers",
        {"training": {"dataloader_prefetch_factor": 2}},
        "training.dataloader_prefetch_factor",
        "needs processes",
    ),
    ("two precisions", {"training": {"bf16": True, "fp16": True}}, "training.fp16", "together"),
    (
        "launcher and trainer apart",
        {"training": {"bf16": True}, "launch": {"mixed_precision": "no"}},
        "launch.mixed_precision",
        "training.bf16 is true",
    ),
    (
        "two full evaluations",
        {"training": {"bf16_full_eval": True, "fp16_full_eval": True}},
        "training.fp16_full_eval",
        "together",
    ),
    (
        "checkpointing twice",
        {
            "training": {
                "fsdp": True,
                "fsdp_config": {"activation_checkpointing": True},
                "activation_checkpointing": True,
            }
        },
        "training.activation_checkpointing",
        "beside that of fsdp_config",
    ),
    (
        "dropout drawn twice",
        {
            "lora": LORA | {"dropout": 0.1},
            "training": {"fsdp": True, "fsdp_config": {"activation_checkpointing": True}},
        },
        "lora.dropout",
        "of another draw",
    ),
    ("rank beyond", {"launch": {"machine_rank": 1}}, "launch.machine_rank", "numbered from 0"),
    ("uneven", {"launch": {"num_machines": 2, "num_processes": 3}}, "launch.num_processes", "evenly"),
    ("too many processes", {"launch": {"num_processes": 3}}, "launch.num_processes", "more than its 2 GPUs"),
    ("no such GPU", {"launch": {"gpu_ids": [0, 2]}}, "launch.gpu_ids", "no GPU 2"),
    (
        "optimiser of DeepSpeed",
        {"training": {"deepspeed": {"optimizer": {}}}},
        "training.deepspeed",
        "optimizer of its",
    ),
    ("schedule of DeepSpeed", {"training": {"deepspeed": {"scheduler": {}}}}, "training.deepspeed", "scheduler of its"),
    ("a GPU twice", {"launch": {"gpu_ids": [1, 1]}}, "launch.gpu_ids", "each once"),
    ("GPUs and processes", {"launch": {"gpu_ids": [0], "num_processes": 2}}, "launch.gpu_ids", "1 GPUs for 2"),
    ("no address", {"launch": {"num_machines": 2}}, "launch.main_process_ip", "needed"),
    ("no port", {"launch": {"num_machines": 2}}, "launch.main_process_port", "cannot agree"),
    ("both", {"training": {"fsdp": True, "deepspeed": "ds.json"}}, "training.deepspeed", "together"),
    (
        "only the model, of which the best",
        {"training": {"fsdp": True, "save_only_model": True, "load_best_model_at_end": True}},
        "training.save_only_model",
        "unreadable",
    ),
    (
        "batch size found under ZeRO 3",
        {"training": {"auto_find_batch_size": True, "deepspeed": {"zero_optimization": {"stage": 3}}}},
        "training.auto_find_batch_size",
        "stage 3",
    ),
    (
        "batch does not split",
        {"training": {"accelerator_config": {"split_batches": True}, "per_device_train_batch_size": 3}},
        "training.accelerator_config",
        "cannot divide",
    ),
    ("no option", {"launch": {**SLURM, "slurm_options": {"--time": 1}}}, "launch.slurm_options", "no long option"),
    ("no variable", {"launch": {"env": {"A-B": "1"}}}, "launch.env", "cannot be set"),
    ("sampling", {"sampling": {"n": 2, "temperature": 0.0}}, "sampling.n", "same answer"),
]


@pytest.mark.parametrize("case", ERRORS, ids=lambda case: case[0])
def test_errors(case: Case) -> None:
    _expect(_check(case[1]), case, "error")


WARNINGS: list[Case] = [
    ("unused weights", {"model": {"from_scratch": LLAMA}}, "model.from_scratch", "are not used"),
    (
        "longer than it was made for",
        _merge(
            SCRATCH, {"model": {"from_scratch": LLAMA | {"max_position_embeddings": 64}}, "data": {"max_length": 128}}
        ),
        "data.max_length",
        "more than the 64",
    ),
    ("bfloat16 weights", {"model": {"dtype": "bfloat16"}}, "model.dtype", "loses updates"),
    (
        "quantised and spread",
        {"model": {"quantization": "nf4"}, "lora": LORA, "training": {"fsdp": True}},
        "model.quantization",
        "not spread",
    ),
    (
        "grouping packed rows",
        {"data": {"packing": True}, "training": {"train_sampling_strategy": "group_by_length"}},
        "training.train_sampling_strategy",
        "no effect",
    ),
    ("pretrain on the last turn", {"stage": "pretrain", "data": {"train_on": "last"}}, "data.train_on", "no effect"),
    ("template for text", {"stage": "pretrain", "data": {"template": "chatml"}}, "data.template", "no effect"),
    ("sft on text", {"data": {"format": "text"}}, "stage", "no answers"),
    ("rows never evaluated", {"training": {"eval_strategy": "no"}}, "data.eval_split", "never evaluates"),
    (
        "prompts never answered",
        _merge(NO_EVAL, {"sampling": {"prompts": ["a"]}}),
        "sampling.prompts",
        "never evaluates",
    ),
    ("saving beyond the end", {"training": {"save_steps": 200}}, "training.save_steps", "beyond the run's 100"),
    ("evaluating beyond the end", {"training": {"eval_steps": 200}}, "training.eval_steps", "only the end"),
    ("long warm-up", {"training": {"warmup_steps": 100}}, "training.warmup_steps", "never reaches its peak"),
    (
        "warm-up of a constant rate",
        {"training": {"warmup_steps": 10, "lr_scheduler_type": "constant"}},
        "training.warmup_steps",
        "no effect with constant",
    ),
    (
        "workers of a stream",
        {"data": {"streaming": True}, "training": {"max_steps": 5, "dataloader_num_workers": 2}},
        "training.dataloader_num_workers",
        "no effect with data.streaming",
    ),
    ("high rate", {"training": {"learning_rate": 0.01}}, "training.learning_rate", "destroy"),
    ("high rate for LoRA", {"lora": LORA, "training": {"learning_rate": 0.02}}, "training.learning_rate", "LoRA"),
    ("low rate for LoRA", {"lora": LORA, "training": {"learning_rate": 1e-6}}, "training.learning_rate", "hardly move"),
    (
        "the highest loss",
        {"training": {"metric_for_best_model": "eval_loss", "greater_is_better": True}},
        "training.greater_is_better",
        "highest loss",
    ),
    (
        "cache while recomputing",
        {"training": {"activation_checkpointing": True, "use_cache": True}},
        "training.use_cache",
        "turned off",
    ),
    (
        "arguments of nothing",
        {"training": {"activation_checkpointing_kwargs": {"every_n_layers": 2}}},
        "training.activation_checkpointing_kwargs",
        "no effect",
    ),
    ("FSDP of one", {"training": {"fsdp": True}, "launch": {"num_processes": 1}}, "training.fsdp", "nothing to spread"),
    ("FSDP settings alone", {"training": {"fsdp_config": {"version": 2}}}, "training.fsdp_config", "without"),
    (
        "FSDP of old",
        {"training": {"fsdp": True, "fsdp_config": {"fsdp_version": 1}}},
        "training.fsdp_config",
        "about to be removed",
    ),
    (
        "pieces of FSDP",
        {"training": {"fsdp": True, "fsdp_config": {"state_dict_type": "SHARDED_STATE_DICT"}}},
        "training.fsdp_config",
        "no model",
    ),
    (
        "pieces of DeepSpeed",
        {"training": {"deepspeed": {"zero_optimization": {"stage": 3}}}},
        "training.deepspeed",
        "no model",
    ),
    ("evaluation in 16 bits", {"training": {"bf16_full_eval": True}}, "training.bf16_full_eval", "no effect"),
    ("options of no job", {"launch": {"slurm_options": {"time": 1}}}, "launch.slurm_options", "no effect"),
    ("a job without GPUs", {"launch": {"backend": "slurm"}}, "launch.slurm_options", "asks for no GPU"),
]


@pytest.mark.parametrize("case", WARNINGS, ids=lambda case: case[0])
def test_warnings(case: Case) -> None:
    _expect(_check(case[1]), case, "warning")


ON_A_CPU: list[Case] = [
    ("bf16", {"training": {"bf16": True}}, "training.bf16", "has to be asked for"),
    ("fp16", {"training": {"fp16": True}}, "training.fp16", "needs a GPU"),
    ("fp16 of the launcher", {"launch": {"mixed_precision": "fp16"}}, "launch.mixed_precision", "needs a GPU"),
    ("tf32", {"training": {"tf32": True}}, "training.tf32", "Ampere"),
    ("liger", {"training": {"use_liger_kernel": True}}, "training.use_liger_kernel", "needs a GPU"),
    ("quantization", {"model": {"quantization": "nf4"}, "lora": LORA}, "model.quantization", "NVIDIA"),
    (
        "flex attention",
        {"model": {"attn_implementation": "flex_attention"}},
        "model.attn_implementation",
        "cannot train on a CPU",
    ),
    ("bitsandbytes", {"training": {"optim": "paged_adamw_8bit"}}, "training.optim", "NVIDIA"),
    ("fsdp", {"training": {"fsdp": True}}, "training.fsdp", "spreads over GPUs"),
    ("deepspeed", {"training": {"deepspeed": {}}}, "training.deepspeed", "spreads over GPUs"),
    ("nccl", {"training": {"ddp_backend": "nccl"}}, "training.ddp_backend", "between GPUs"),
]


@pytest.mark.parametrize("case", [case for case in ON_A_CPU if case[1] != {"training": {"deepspeed": {}}}], ids=str)
def test_what_needs_a_gpu_is_refused_without_one(case: Case) -> None:
    _expect(_check(case[1], facts=CPU), case, "error")
    assert not any(problem.key == case[2] and case[3] in problem.message for problem in _check(case[1], facts=Facts()))


def test_what_is_weak_on_a_cpu_is_said() -> None:
    problems = _check({"launch": {"num_processes": 3, "gpu_ids": [0]}}, facts=CPU)
    found = {problem.key: problem.severity for problem in problems}
    assert found == {"launch.num_processes": "warning", "launch.gpu_ids": "warning"}
    machines = {"num_machines": 2, "main_process_ip": "10.0.0.1", "main_process_port": 29500}
    assert [problem.key for problem in _check({"launch": machines}, facts=CPU)] == ["launch.env"]
    assert _check({"launch": {**machines, "env": {"GLOO_SOCKET_IFNAME": "eth0"}}}, facts=CPU) == []


def test_bf16_on_hardware_without_it() -> None:
    old = Facts(num_gpus=1, has_bf16=False)
    _expect(_check({"training": {"bf16": True}}, facts=old), ("", {}, "training.bf16", "do not compute"), "error")
    _expect(
        _check({"model": {"dtype": "bfloat16"}}, facts=old),
        ("", {}, "model.dtype", "GPUs here do not compute"),
        "error",
    )
    assert _check({"training": {"bf16": True}}, facts=GPU) == []
    for table, key in (
        ({"training": {"tf32": True}}, "training.tf32"),
        ({"model": {"attn_implementation": "flash_attention_2"}, "training": FP16}, "model.attn_implementation"),
    ):
        assert [problem.key for problem in _check(table, facts=old)] == [key]


def test_gpus_are_named_as_the_driver_counts_them() -> None:
    hidden = Facts(num_gpus=2, gpu_indices=(4, 5))
    assert _check({"launch": {"gpu_ids": [4, 5]}}, facts=hidden) == []
    _expect(
        _check({"launch": {"gpu_ids": [0, 4]}}, facts=hidden),
        ("", {}, "launch.gpu_ids", "no GPU 0 here, or CUDA_VISIBLE_DEVICES hides it: 4, 5"),
        "error",
    )


@pytest.mark.parametrize(
    ("table", "key", "package"),
    [
        ({"model": {"quantization": "nf4"}, "lora": LORA}, "model.quantization", "bitsandbytes"),
        (
            {"model": {"attn_implementation": "flash_attention_2"}, "training": FP16},
            "model.attn_implementation",
            "kernels",
        ),
        ({"training": {"deepspeed": {"train_batch_size": "auto"}}}, "training.deepspeed", "deepspeed"),
        ({"training": {"use_liger_kernel": True}}, "training.use_liger_kernel", "liger-kernel"),
        ({"training": {"optim": "adamw_8bit"}}, "training.optim", "bitsandbytes"),
        ({"training": {"optim": "galore_adamw", "optim_target_modules": "x"}}, "training.optim", "galore-torch"),
        ({"training": {"optim": "stable_adamw"}}, "training.optim", "torch-optimi"),
    ],
)
def test_packages_that_are_missing_are_told_before_the_run(table: dict[str, Any], key: str, package: str) -> None:
    bare, full = (replace(GPU, packages=frozenset(names)) for names in ((), (package,)))
    (problem,) = [problem for problem in _check(table, facts=bare) if problem.severity == "error"]
    assert problem.key == key
    assert f"needs the package {package}" in problem.message or f"or {package}" in problem.message
    assert [problem for problem in _check(table, facts=full) if problem.severity == "error"] == []


def test_rows_are_weighed_against_the_batch() -> None:
    many = {"training": {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 4}}
    _expect(
        _check(many, facts=Facts(num_gpus=2, num_train_rows=20)),
        ("", {}, "training.per_device_train_batch_size", "larger than the 20 rows"),
        "warning",
    )
    drop = {"training": {"per_device_train_batch_size": 8, "dataloader_drop_last": True}}
    _expect(
        _check(drop, facts=Facts(num_gpus=2, num_train_rows=7)),
        ("", {}, "training.dataloader_drop_last", "no whole batch"),
        "error",
    )


def test_memory_and_disk_are_weighed() -> None:
    large = shape_from_config({"model_type": "llama"})  # 6.7 billion parameters
    facts = Facts(num_gpus=1, gpu_memory_bytes=(24 << 30,), free_disk_bytes=10 << 30, model_shape=large)
    found = {problem.key: problem for problem in _check(facts=facts)}
    assert "GiB of GPU memory are needed and 24.0 GiB" in found["training.per_device_train_batch_size"].message
    assert found["training.per_device_train_batch_size"].severity == "warning"
    assert "one checkpoint of 75" in found["training.save_strategy"].message
    assert found["training.save_strategy"].severity == "error"

    roomy = Facts(num_gpus=1, gpu_memory_bytes=(200 << 30,), free_disk_bytes=100 << 30, model_shape=large)
    assert [problem.key for problem in _check(facts=roomy)] == ["training.save_total_limit"]
    kept = {"training": {"save_total_limit": 2, "save_only_model": True}}
    assert _check(kept, facts=roomy) == []


def _expect(problems: list[Problem], case: Case, severity: str) -> None:
    matching = [problem for problem in problems if problem.key == case[2] and case[3] in problem.message]
    assert matching, [str(problem) for problem in problems]
    assert all(problem.severity == severity for problem in matching)


def test_every_problem_can_be_mended_at_a_field_that_exists() -> None:
    keys = {*catalogue(), *section_keys()}
    seen = 0
    for facts in (GPU, CPU):
        for case in [*ERRORS, *WARNINGS, *ON_A_CPU]:
            for problem in _check(case[1], facts=facts):
                seen += 1
                assert problem.message
                assert problem.remedy
                assert problem.keys
                for key in problem.keys:
                    assert ".".join(part for part in key.split(".") if not part.isdigit()) in keys, problem
    assert seen > len(ERRORS)


def test_errors_come_first() -> None:
    problems = _check({"model": {"dtype": "bfloat16"}, "data": {"path": None}, "training": {"learning_rate": 1.0}})
    assert [problem.severity for problem in problems] == ["error", "warning", "warning"]


def test_no_rule_stumbles_over_what_the_schema_allows() -> None:
    """Each rule has to stand any value that a field may have by itself."""
    odd: list[dict[str, Any]] = [
        {"training": {"deepspeed": {"zero_optimization": None}}},
        {"training": {"fsdp": "full_shard", "fsdp_config": "fsdp.json"}},
        {"training": {"accelerator_config": "accelerate.json"}},
        {"launch": {"num_machines": 4, "num_processes": 1}},
        {"training": {"max_steps": 0, "warmup_steps": 0.5}},
        {"training": {"num_train_epochs": 0.001}, "launch": {"gpu_ids": []}},
    ]
    assert len(RULES) > 25
    for changes in odd:
        for facts in (GPU, CPU, Facts(), Facts(num_gpus=0, num_train_rows=0)):
            assert isinstance(_check(changes, facts=facts), list)


def test_metrics_are_those_the_evaluation_measures() -> None:
    assert {"eval_loss", "eval_exact_match"} <= set(METRICS)
