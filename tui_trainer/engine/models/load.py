"""Loading the model that a run trains, with all that the run asks for; `chat_model` loads one that is talked to."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from peft import prepare_model_for_kbit_training
from transformers import BitsAndBytesConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from tui_trainer.config.launch import effective_precision
from tui_trainer.config.schema import RunConfig
from tui_trainer.engine.models.adapter import add_lora, check_same_adapter, load_adapter
from tui_trainer.engine.models.locate import ModelSource, locate_model
from tui_trainer.engine.models.placement import attention_for_training, computes_in_bf16, local_rank, training_dtype
from tui_trainer.engine.models.pretrained import class_of, load_weights, read_config
from tui_trainer.engine.models.randomness import seeded
from tui_trainer.engine.models.scratch import model_from_scratch
from tui_trainer.engine.models.spread import whole_shape
from tui_trainer.engine.report import Report, ignore_report
from tui_trainer.errors import ConfigurationError, MachineError, Problem


def load_model_for_training(
    config: RunConfig, tokenizer: PreTrainedTokenizerBase, report: Report = ignore_report
) -> torch.nn.Module:
    """The model that a run trains: weights, type, attention, quantization and adapter as the configuration says.

    The weights of a new model and of a new adapter depend on `training.seed` alone; the global random state is left as
    it is. The model is on the CPU, or on this rank's GPU if it is quantised.

    Raises:
        WorkbenchError: as `locate_model`; a ConfigurationError or MachineError for what cannot be had.
    """
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if config.model.from_scratch is not None:
        return _new_model(config, tokenizer, report)
    if config.model.name_or_path is None:
        problem = Problem("model.name_or_path", "is missing", "name a model, or set model.from_scratch")
        raise ConfigurationError.of([problem])
    quantization = _quantization(config)
    source = locate_model(
        config.model.name_or_path,
        revision=config.model.revision,
        cache_dir=config.model.cache_dir,
        with_code=config.model.trust_remote_code,
        report=report,
    )
    report(f"loading {source.reference}", None, None)
    model = _load_base(config, source, quantization, report)
    _fit_vocabulary(model, tokenizer, config, report)
    return _with_adapter(model, config, source, report)


def _new_model(config: RunConfig, tokenizer: PreTrainedTokenizerBase, report: Report) -> PreTrainedModel:
    if config.lora is not None:
        problem = Problem(
            "lora", "an adapter on random weights learns next to nothing", "remove [lora]", keys=("lora", "model")
        )
        raise ConfigurationError.of([problem])
    model = model_from_scratch(config, tokenizer)
    report(f"made a new model of {model.num_parameters() / 1e6:.2f} M parameters", None, None)
    return model


def _load_base(
    config: RunConfig, source: ModelSource, quantization: BitsAndBytesConfig | None, report: Report
) -> PreTrainedModel:
    model_config = read_config(source.path, trust_remote_code=config.model.trust_remote_code, report=report)
    dtype = training_dtype(config)
    attention = attention_for_training(config, class_of(model_config), dtype)
    more: dict[str, Any] = {}
    if quantization:
        more = {"quantization_config": quantization, "device_map": {"": local_rank()}}
    model = load_weights(
        source.path, model_config, dtype, attention, trust_remote_code=config.model.trust_remote_code, **more
    )
    if quantization:
        model = prepare_model_for_kbit_training(  # type: ignore[no-untyped-call]
            model, use_gradient_checkpointing=bool(config.training.activation_checkpointing)
        )
    return model


def _with_adapter(model: PreTrainedModel, config: RunConfig, source: ModelSource, report: Report) -> torch.nn.Module:
    """The model with the adapter to train; without `[lora]` an adapter it came with is merged into the weights."""
    if config.lora is None:
        if source.adapter is None:
            return model
        report("merging the adapter into the weights, since [lora] is absent", None, None)
        merged: torch.nn.Module = load_adapter(model, source.adapter).merge_and_unload()
        return merged.requires_grad_(True)
    if config.training.activation_checkpointing:
        model.enable_input_require_grads()  # type: ignore[no-untyped-call]
    if source.adapter is None:
        adapted = add_lora(model, config.lora, source, config.training.seed)
    else:
        check_same_adapter(config.lora, source.adapter)
        report("training goes on with the adapter that the model came with", None, None)
        adapted = load_adapter(model, source.adapter, is_trainable=True)
    if effective_precision(config) != "no":
        _keep_trained_exact(adapted)
    return adapted


def _keep_trained_exact(model: torch.nn.Module) -> None:
    """Put what is trained into float32, where the precision of the computation allows for it.

    PEFT does so with its own matrices, not with whole layers (`lora.modules_to_save`): these would lose small updates
    in bfloat16, and in float16 the loss scaling refuses them.
    """
    for weight in model.parameters():
        if weight.requires_grad and weight.is_floating_point():
            weight.data = weight.data.float()


def _quantization(config: RunConfig) -> BitsAndBytesConfig | None:
    """The settings for bitsandbytes.

    Raises:
        ConfigurationError: there is no `[lora]` to train.
        MachineError: there is no GPU, or the package is missing.
    """
    kind = config.model.quantization
    if kind is None:
        return None
    if config.lora is None:
        problem = Problem(
            "model.quantization",
            "quantised weights cannot be trained themselves",
            "add [lora], or remove model.quantization",
            keys=("model.quantization", "lora.r"),
        )
        raise ConfigurationError.of([problem])
    if not torch.cuda.is_available():
        raise MachineError(
            f"model.quantization = {kind!r} needs an NVIDIA GPU, and torch sees none",
            remedy="Remove model.quantization: LoRA without it works on any machine.",
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MachineError(
            f"model.quantization = {kind!r} needs the package bitsandbytes",
            remedy="Install it with `pip install 'tui-trainer[quantization]'`.",
        )
    if kind == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]
    compute = torch.bfloat16 if computes_in_bf16() else torch.float16
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )


def _fit_vocabulary(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, config: RunConfig, report: Report
) -> None:
    """Give every token of the tokenizer a row in the embedding.

    Raises:
        ConfigurationError: rows have to be added and `[lora]` would leave them at random values.
    """
    embedding: Any = model.get_input_embeddings()
    rows = whole_shape(embedding.weight)[0]
    if len(tokenizer) <= rows:
        return
    trained = config.lora.modules_to_save or [] if config.lora else []
    if config.lora is not None and not any("embed" in name or "wte" in name for name in trained):
        problem = Problem(
            "lora.modules_to_save",
            f"the tokenizer has {len(tokenizer)} tokens and the model {rows}; the new ones would stay random",
            'set it to ["embed_tokens", "lm_head"], or use the model\'s own tokenizer',
            keys=("lora.modules_to_save", "model.tokenizer_name_or_path"),
        )
        raise ConfigurationError.of([problem])
    with seeded(config.training.seed):
        model.resize_token_embeddings(len(tokenizer))
    report(f"added {len(tokenizer) - rows} rows to the embedding for new tokens", None, None)
