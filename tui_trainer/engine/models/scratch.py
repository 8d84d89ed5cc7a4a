"""New models with random weights, from the table `model.from_scratch`."""

from __future__ import annotations

import dataclasses
import difflib
from typing import Any

from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from tui_trainer.config.schema import RunConfig
from tui_trainer.engine.models.messages import first_line
from tui_trainer.engine.models.placement import attention_for_training, training_dtype
from tui_trainer.engine.models.randomness import seeded
from tui_trainer.errors import ConfigurationError, Problem

KEY = "model.from_scratch"
_LEGACY_FIELDS = ("rope_theta", "rope_scaling")
"""Fields that configuration classes still take and turn into `rope_parameters`."""


def model_from_scratch(config: RunConfig, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A model with random weights that depend on `training.seed` alone.

    Raises:
        ConfigurationError: the table names an unknown architecture or field, or a value that does not fit.
    """
    model_config = scratch_config(config.model.from_scratch or {}, tokenizer)
    model_class = MODEL_FOR_CAUSAL_LM_MAPPING[type(model_config)]
    dtype = training_dtype(config)
    attention = attention_for_training(config, model_class, dtype)
    try:
        with seeded(config.training.seed):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
                model_config, dtype=dtype, attn_implementation=attention, trust_remote_code=False
            )
    except (ValueError, RuntimeError, TypeError, ZeroDivisionError, ImportError) as error:
        raise _no_model(error) from None
    return model


def scratch_config(table: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> PreTrainedConfig:
    """The configuration of a new model; vocabulary and special tokens are the tokenizer's.

    Raises:
        ConfigurationError: as `model_from_scratch`.
    """
    fields = dict(table)
    model_type = fields.pop("model_type", None)
    config_class = _config_class(model_type)
    problems = list(_unknown_fields(fields, config_class))
    vocabulary = len(tokenizer)
    if isinstance(size := fields.get("vocab_size"), int) and size < vocabulary:
        problems.append(
            Problem(f"{KEY}.vocab_size", f"is {size}, and the tokenizer has {vocabulary} tokens", "leave it out")
        )
    if problems:
        raise ConfigurationError.of(problems)
    special = {
        "vocab_size": vocabulary,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    try:
        config = config_class(**(special | fields))
    except Exception as error:  # the classes validate with errors of many kinds
        raise _no_model(error) from None
    if getattr(config, "is_decoder", True) is False:
        problem = Problem(f"{KEY}.is_decoder", f"{model_type} reads both ways unless it is a decoder", "set it to true")
        raise ConfigurationError.of([problem])
    return config


def _no_model(error: Exception) -> ConfigurationError:
    return ConfigurationError.of([Problem(KEY, f"does not make a model: {first_line(error)}")])


def _config_class(model_type: Any) -> type[PreTrainedConfig]:
    # by their names: to look at the classes themselves, transformers would load hundreds of modules for 2.5 seconds
    known = [name for name in CONFIG_MAPPING if name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES]
    if model_type is None:
        raise ConfigurationError.of(
            [Problem(f"{KEY}.model_type", "is missing", 'name an architecture, as model_type = "llama"')]
        )
    if model_type not in known:
        near = difflib.get_close_matches(str(model_type), known, n=1)
        hint = f"did you mean {near[0]}?" if near else "llama, qwen3, gemma3_text and gpt2 are examples"
        raise ConfigurationError.of(
            [Problem(f"{KEY}.model_type", f"{model_type!r} is no causal language model that transformers knows", hint)]
        )
    return CONFIG_MAPPING[str(model_type)]


def _unknown_fields(fields: dict[str, Any], config_class: type[PreTrainedConfig]) -> list[Problem]:
    """The configuration classes swallow any name; a misspelt one would silently leave the default in place."""
    known = {field.name for field in dataclasses.fields(config_class)}
    known |= {*getattr(config_class, "attribute_map", {}), *_LEGACY_FIELDS}
    problems = []
    for name in fields:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else ""
            problems.append(Problem(f"{KEY}.{name}", f"{config_class.__name__} has no such field", hint))
    return problems
