"""The sizes of the model that a configuration names, without loading it; the Args screen plans a run with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tui_trainer.config.model import ModelConfig
from tui_trainer.config.shape import ModelShape, shape_from_config
from tui_trainer.engine.models import gguf, smollm2
from tui_trainer.engine.models.folder import read_object
from tui_trainer.engine.models.locate import locate_model
from tui_trainer.engine.models.weights import count_parameters, weight_files
from tui_trainer.engine.report import Report, ignore_report
from tui_trainer.errors import ConfigurationError, DataError, Problem


def describe_model(config: ModelConfig, report: Report = ignore_report) -> ModelShape:
    """The shape of the model that a configuration names.

    Parameters are counted where the weights are on this machine, and computed from config.json where they are not.

    Raises:
        ConfigurationError: no model is named, or from_scratch has a size that cannot be.
        WorkbenchError: as `locate_model`.
    """
    if config.from_scratch is not None:
        return _shape(_with_vocabulary(config, report), "model.from_scratch")
    reference = config.name_or_path or ""
    if not reference:
        raise ConfigurationError.of([Problem("model.name_or_path", "is missing", "name a model")])
    if reference == smollm2.REFERENCE:
        return _shape(smollm2.SIZES, reference)
    if reference.lower().endswith(".gguf") and (path := Path(reference).expanduser()).is_file():
        return _shape(gguf.read_sizes(path), reference)
    source = locate_model(
        reference, revision=config.revision, cache_dir=config.cache_dir, needs="config", report=report
    )
    shape = _shape(read_object(source.path / "config.json"), str(source.path / "config.json"))
    try:
        files = weight_files(source.path)
    except DataError:
        return shape
    return replace(shape, num_parameters=count_parameters(files)) if files else shape


def _with_vocabulary(config: ModelConfig, report: Report) -> dict[str, Any]:
    fields = dict(config.from_scratch or {})
    if "vocab_size" not in fields:
        # loads torch, which the data worker does without until it has to
        from tui_trainer.engine.models.tokenizer import load_tokenizer

        fields["vocab_size"] = len(load_tokenizer(config, report))
    return fields


def _shape(config: Mapping[str, Any], where: str) -> ModelShape:
    try:
        return shape_from_config(config)
    except ValueError as error:
        raise DataError(f"the model's sizes cannot be: {error}", where=where) from None
