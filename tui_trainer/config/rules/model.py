"""Rules for `[model]`, `[lora]` and the stage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tui_trainer.config.families import FAMILIES, LLAMA
from tui_trainer.config.launch import effective_precision
from tui_trainer.config.rules.facts import Facts, error, warning
from tui_trainer.config.schema import RunConfig
from tui_trainer.config.shape import shape_from_config
from tui_trainer.errors import Problem

BUILT_STAGES = ("pretrain", "sft")
"""The stages that this version trains."""


def stage(config: RunConfig, _: Facts) -> Iterator[Problem]:
    """Whether the stage can be trained at all."""
    if config.stage not in BUILT_STAGES:
        yield error(
            "stage",
            f"{config.stage} is not built in this version; {' and '.join(BUILT_STAGES)} are",
            'set stage = "sft" and data.allow_preference_as_sft to learn the preferred answers',
            "data.allow_preference_as_sft",
        )


def source(config: RunConfig, _: Facts) -> Iterator[Problem]:
    """Where model and tokenizer come from."""
    model = config.model
    if model.name_or_path is None and model.from_scratch is None:
        yield error(
            "model.name_or_path", "no model is named", 'name one, "demo:smollm2" for a trial', "model.from_scratch"
        )
    if model.from_scratch is None:
        if model.name_or_path is not None and model.tokenizer_name_or_path == "builtin:bytes":
            yield error(
                "model.tokenizer_name_or_path",
                "builtin:bytes numbers its tokens otherwise than the model's weights were trained with",
                "leave it out to use the model's own",
            )
        return
    if model.tokenizer_name_or_path is None and model.name_or_path is None:
        yield error(
            "model.tokenizer_name_or_path",
            "a model from scratch needs a tokenizer",
            'name one; "builtin:bytes" needs no download',
        )
    if model.name_or_path is not None:
        yield warning(
            "model.from_scratch",
            f"the weights of {model.name_or_path} are not used, random ones are",
            "leave out model.from_scratch to go on training that model",
            "model.name_or_path",
        )
    if config.lora is not None:
        yield error(
            "lora",
            "an adapter on random weights learns next to nothing",
            "remove [lora], or name a trained model",
            "lora.r",
            "model.from_scratch",
        )
    yield from _sizes(model.from_scratch)


def _sizes(table: dict[str, Any]) -> Iterator[Problem]:
    key = "model.from_scratch"
    if "model_type" not in table:
        yield error(key, "has no model_type", 'name an architecture, as model_type = "llama"')
    try:
        shape = shape_from_config(table)
    except ValueError as problem:
        yield error(key, str(problem), "mend it")
        return
    if "head_dim" not in table and shape.hidden_size % shape.num_attention_heads:
        yield error(
            key,
            f"hidden_size {shape.hidden_size} is not divisible by {shape.num_attention_heads} heads",
            "change one of them",
        )
    if shape.num_attention_heads % shape.num_key_value_heads:
        yield error(
            key,
            f"{shape.num_attention_heads} heads cannot share {shape.num_key_value_heads} key-value heads",
            "set num_key_value_heads to a divisor",
        )


def length(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Whether the model sees as far as the rows are long."""
    table = config.model.from_scratch
    shape = facts.model_shape
    if table is not None:
        try:
            shape = shape_from_config(table)
        except ValueError:
            return
    if shape is None or not shape.max_position_embeddings or config.data.max_length <= shape.max_position_embeddings:
        return
    is_learned = bool(FAMILIES.get(shape.model_type, LLAMA).positions)
    message = f"{config.data.max_length} tokens are more than the {shape.max_position_embeddings} the model is made for"
    remedy = f"set it to {shape.max_position_embeddings} at most"
    yield (error if is_learned else warning)("data.max_length", message, remedy)


def quantization(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """What quantised weights need."""
    if config.model.quantization is None:
        return
    key, kind = "model.quantization", config.model.quantization
    if config.lora is None:
        yield error(key, f"{kind} weights cannot be trained themselves", "add [lora], or remove it", "lora.r")
    if facts.is_without_gpu(config):
        yield error(
            key, f"{kind} needs an NVIDIA GPU", "remove it: LoRA alone works on any machine", "training.use_cpu"
        )
    if config.lora is not None and config.lora.init_lora_weights in ("pissa", "olora"):
        yield error(
            "lora.init_lora_weights",
            f"{config.lora.init_lora_weights} starts from the weights' own directions, which {kind} does not keep",
            'set it to "default", or remove model.quantization',
            key,
        )
    if config.training.deepspeed or config.training.fsdp:
        yield warning(
            key,
            "quantised weights are not spread over the GPUs",
            "without FSDP and DeepSpeed each GPU holds all of them",
        )


def types(config: RunConfig, facts: Facts) -> Iterator[Problem]:
    """Whether the weights' type suits what is trained and how attention is computed."""
    dtype, is_full = config.model.dtype, config.lora is None
    if dtype == "float16" and is_full:
        yield error(
            "model.dtype",
            "weights in float16 cannot be trained: their gradients vanish",
            'set model.dtype = "float32" and training.fp16 = true',
            "training.fp16",
        )
    if dtype == "bfloat16" and is_full and not config.training.deepspeed:  # which keeps float32 weights itself
        yield warning(
            "model.dtype",
            "training all weights in bfloat16 loses updates smaller than a 256th of a weight",
            'set model.dtype = "float32" and training.bf16 = true if the memory allows',
            "training.bf16",
        )
    attention = config.model.attn_implementation
    is_half = (
        dtype in ("bfloat16", "float16") or effective_precision(config) != "no" or (dtype == "auto" and not is_full)
    )
    if attention == "flash_attention_2" and not is_half:
        yield error(
            "model.attn_implementation",
            "flash_attention_2 computes in 16 bits only",
            "set training.bf16 = true, or auto",
            "training.bf16",
        )
    if attention in ("flash_attention_2", "flex_attention") and facts.is_without_gpu(config):
        yield error("model.attn_implementation", f"{attention} cannot train on a CPU", 'set it to "auto"')


def adapter(config: RunConfig, _: Facts) -> Iterator[Problem]:
    """Whether the adapter has something to sit on."""
    if config.lora is not None and config.lora.target_modules in ("", []):
        yield error("lora.target_modules", "names no layer", 'set it to "all-linear"')


RULES = (stage, source, length, quantization, types, adapter)
