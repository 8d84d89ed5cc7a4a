"""Adapters (PEFT): a new LoRA for training, an existing one to go on with or to chat with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig as PeftLoraConfig
from peft import PeftConfig, PeftModel, TaskType, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors import safe_open
from transformers import PreTrainedModel

from tui_trainer.config.model import LoraConfig
from tui_trainer.engine.models.folder import ADAPTER_CONFIG
from tui_trainer.engine.models.locate import ModelSource
from tui_trainer.engine.models.messages import first_line
from tui_trainer.engine.models.randomness import seeded
from tui_trainer.engine.models.spread import whole_shape
from tui_trainer.engine.models.weights import ADAPTER_WEIGHTS
from tui_trainer.errors import ConfigurationError, DataError, Problem

LOADED_ADAPTER = "default"
"""The name PEFT gives the adapter that a model is loaded with."""
WITHOUT_ADAPTER = "__base__"
"""The name under which rows go through a model without any of its adapters (PEFT's word)."""


def base_of(model: Any) -> Any:
    """The model inside a PEFT model, or the model itself."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def add_lora(model: PreTrainedModel, config: LoraConfig, source: ModelSource, seed: int) -> PeftModel:
    """A model with a new LoRA adapter; everything but the adapter is frozen.

    Args:
        model: the base.
        config: the section `[lora]`.
        source: where the base lies, written into the adapter so that it can be found again.
        seed: start of the random numbers of the adapter's weights.

    Raises:
        ConfigurationError: a named layer does not exist, or a field does not fit.
    """
    peft_config = PeftLoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=config.r,
        lora_alpha=config.alpha,  # type: ignore[arg-type]
        lora_dropout=config.dropout,
        target_modules=config.target_modules,
        modules_to_save=config.modules_to_save,
        use_dora=config.use_dora,
        use_rslora=config.use_rslora,
        bias=config.bias,
        init_lora_weights=True if config.init_lora_weights == "default" else config.init_lora_weights,
    )
    try:
        with seeded(seed):
            adapted = get_peft_model(model, peft_config)
    except ValueError as error:
        raise ConfigurationError.of([_lora_problem(error, model, config)]) from None
    base, revision = base_reference(source)
    for each in adapted.peft_config.values():
        each.base_model_name_or_path, each.revision = base, revision
    return adapted


def base_reference(source: ModelSource) -> tuple[str, str | None]:
    """What an adapter calls its base: the hub's name and commit, else the very folder it was trained on."""
    return (source.repo_id, source.commit) if source.repo_id else (str(source.path), None)


def _lora_problem(error: ValueError, model: PreTrainedModel, config: LoraConfig) -> Problem:
    linear = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    if "target modules" in str(error).lower():
        wanted = config.target_modules if isinstance(config.target_modules, str) else ", ".join(config.target_modules)
        return Problem(
            "lora.target_modules",
            f"{wanted} matches no layer of this model",
            f'use "all-linear" or some of {", ".join(sorted(linear))}',
        )
    return Problem("lora", str(error).splitlines()[0][:300])


def load_adapter(model: PreTrainedModel, folder: Path, *, is_trainable: bool = False) -> PeftModel:
    """A model with the adapter of a folder on it; its embedding grows where the adapter was trained with more tokens.

    Raises:
        DataError: the adapter belongs to another model, or its file is broken or incomplete.
    """

    def load() -> PeftModel:
        _make_room(model, folder)
        return PeftModel.from_pretrained(model, folder, is_trainable=is_trainable, local_files_only=True)

    return _loaded(folder, load, LOADED_ADAPTER)


def add_adapter(model: Any, folder: Path, name: str) -> PeftModel:
    """A model with one more adapter on it, beside those it may have; what goes through it is said for each row.

    Args:
        model: the model, or a PEFT model around one.
        folder: holds the adapter.
        name: what it is called from now on.

    Raises:
        DataError: as `load_adapter`.
    """

    def load() -> PeftModel:
        if not isinstance(model, PeftModel):
            return PeftModel.from_pretrained(model, folder, adapter_name=name, local_files_only=True)
        model.load_adapter(str(folder), adapter_name=name, local_files_only=True)
        return model

    adapted = _loaded(folder, load, name)
    adapted.eval().requires_grad_(False)
    return adapted


def _loaded(folder: Path, load: Callable[[], PeftModel], name: str) -> PeftModel:
    try:
        adapted = load()
        with safe_open(folder / ADAPTER_WEIGHTS, framework="pt") as file:
            saved = set(file.keys())
    except (RuntimeError, ValueError, KeyError, TypeError, OSError) as error:
        raise DataError(
            f"the adapter does not fit this model: {first_line(error)}",
            where=str(folder),
            remedy=f"It has to be loaded on the model it was trained on, see {ADAPTER_CONFIG}.",
        ) from None
    wanted = set(get_peft_model_state_dict(adapted, adapter_name=name))
    if wanted != saved:
        first = min(wanted ^ saved)
        raise DataError(
            f"the adapter's weights do not fit: {len(wanted - saved)} are missing and {len(saved - wanted)} have no "
            f"place, {first} the first",
            where=str(folder / ADAPTER_WEIGHTS),
            remedy="Save the adapter again, or load it on the model it was trained on.",
        )
    return adapted


def _make_room(model: PreTrainedModel, folder: Path) -> None:
    """Give the embedding the rows that an adapter has saved for it."""
    embedding: Any = model.get_input_embeddings()
    place = next((name for name, module in model.named_modules() if module is embedding), "")
    with safe_open(folder / ADAPTER_WEIGHTS, framework="pt") as file:
        names = list(file.keys())
        whole = [name for name in names if f".{place}." in name and name.endswith("weight") and "lora_" not in name]
        saved = [file.get_slice(name).get_shape()[0] for name in whole]
    if saved and saved[0] > whole_shape(embedding.weight)[0]:
        model.resize_token_embeddings(saved[0], mean_resizing=False)


@contextmanager
def through_adapter(model: Any, name: str) -> Iterator[None]:
    """Inside, a model goes through the adapter of that name, `__base__` for none; empty: as it stands."""
    if not name:
        yield
    elif name == WITHOUT_ADAPTER:
        with model.disable_adapter():
            yield
    else:
        before = list(model.active_adapters)
        model.set_adapter(name, inference_mode=True)
        try:
            yield
        finally:
            model.set_adapter(before[0], inference_mode=True)


def check_same_adapter(config: LoraConfig, folder: Path) -> None:
    """See that `[lora]` describes the adapter that a run is to go on with.

    Raises:
        ConfigurationError: rank, scale or kind differ.
    """
    saved: Any = PeftConfig.from_pretrained(str(folder))
    pairs = {
        "lora.r": (config.r, saved.r),
        "lora.alpha": (config.alpha, saved.lora_alpha),
        "lora.use_dora": (config.use_dora, saved.use_dora),
        "lora.use_rslora": (config.use_rslora, saved.use_rslora),
    }
    problems = [
        Problem(key, f"is {ours}, and the adapter that training goes on with has {theirs}", f"set it to {theirs}")
        for key, (ours, theirs) in pairs.items()
        if ours != theirs
    ]
    if problems:
        raise ConfigurationError.of(problems)
