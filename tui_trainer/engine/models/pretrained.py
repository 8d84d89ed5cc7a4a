"""A model from a folder of safetensors: nothing random, nothing from elsewhere, no code without consent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
)

from tui_trainer.engine.models.folder import foreign_code
from tui_trainer.engine.models.messages import first_line
from tui_trainer.engine.models.tokenizer import check_consent
from tui_trainer.engine.report import Report, ignore_report
from tui_trainer.errors import DataError, MachineError


def read_config(folder: Path, *, trust_remote_code: bool, report: Report = ignore_report) -> PreTrainedConfig:
    """The configuration of the model in a folder; what it would like to load beside itself is reported, not done.

    Raises:
        DataError: it is broken, or of an architecture that transformers does not know.
        RefusedError: it needs code of its repository without consent.
    """
    check_consent(folder, "AutoModelForCausalLM", trust_remote_code)
    if summary := foreign_code(folder).summary:
        report(f"the model asks for {summary}; " + ("allowed" if trust_remote_code else "ignored"), None, None)
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=trust_remote_code
        )
    except Exception as error:  # the configuration classes validate with errors of many kinds
        raise DataError(
            f"the model's configuration cannot be used: {first_line(error).rstrip('.')}",
            where=str(folder / "config.json"),
            remedy="A newer transformers may know this architecture: `pip install -U transformers`.",
        ) from None
    return config


def class_of(config: PreTrainedConfig) -> Any:
    """The class of a configuration's model; None if transformers has none of its own."""
    return MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)


def load_weights(
    folder: Path, config: PreTrainedConfig, dtype: torch.dtype, attention: str, *, trust_remote_code: bool, **more: Any
) -> PreTrainedModel:
    """The model in a folder, on the CPU unless `more` says otherwise.

    Args:
        folder: holds the weights.
        config: as `read_config` gave it.
        dtype: type of the weights in memory.
        attention: transformers' name of the attention; beats whatever the configuration names.
        trust_remote_code: consent to run the repository's code.
        more: handed to `from_pretrained`.

    Raises:
        DataError: the files are broken, or weights are missing that would otherwise be random.
        MachineError: the memory is too small.
    """
    loader: Any = AutoModelForCausalLM
    try:
        model, info = loader.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            attn_implementation=attention,
            trust_remote_code=trust_remote_code,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            **more,
        )
    except (torch.OutOfMemoryError, MemoryError):
        raise MachineError(
            "the memory is too small for the model's weights",
            where=str(folder),
            remedy="End other programs, choose a smaller model or a shorter type (model.dtype, model.quantization).",
        ) from None
    except ImportError as error:
        raise MachineError(
            f"the model cannot be loaded: {first_line(error).rstrip('.')}",
            where=str(folder),
            remedy='Install what is missing, or set model.attn_implementation = "auto".',
        ) from None
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise DataError(
            f"the model cannot be loaded: {first_line(error).rstrip('.')}",
            where=str(folder),
            remedy="Fetch or save the model again, or check model.attn_implementation and model.dtype.",
        ) from None
    lacking = sorted({*info["missing_keys"], *(str(key[0]) for key in info["mismatched_keys"])})
    if lacking:
        raise DataError(
            f"{len(lacking)} weights of the model are missing or of another shape, {lacking[0]} the first",
            where=str(folder),
            remedy="The files do not belong to this config.json; fetch or save the model again.",
        )
    loaded: PreTrainedModel = model
    return loaded
