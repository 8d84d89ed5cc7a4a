"""The size of a model without loading it: from config.json, and from the heads of its weight files if it has them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tui_trainer.config.memory import ModelShape, shape_from_config
from tui_trainer.config.model import ModelConfig
from tui_trainer.engine.models.folder import read_object
from tui_trainer.engine.models.locate import locate_model
from tui_trainer.engine.models.weights import count_parameters, weight_files
from tui_trainer.engine.report import Report, ignore_report
from tui_trainer.errors import DataError


def describe_model(config: ModelConfig, report: Report = ignore_report) -> ModelShape:
    """The shape of the model that a configuration names.

    The number of parameters is counted where the weights are on this machine, and computed from config.json where they
    are not; nothing is fetched but the configuration.

    Raises:
        WorkbenchError: as `locate_model`.
    """
    if config.from_scratch is not None:
        return shape_from_config(scratch_fields(config, report))
    source = locate_model(
        config.name_or_path or "",
        revision=config.revision,
        cache_dir=config.cache_dir,
        needs="config",
        report=report,
    )
    shape = shape_from_config(read_object(source.path / "config.json"))
    try:
        files = weight_files(source.path)
    except DataError:
        files = []
    return replace(shape, num_parameters=count_parameters(files)) if files else shape


def scratch_fields(config: ModelConfig, report: Report = ignore_report) -> dict[str, Any]:
    """The fields of a new model with the vocabulary size of its tokenizer."""
    from tui_trainer.engine.models.tokenizer import load_tokenizer

    fields = dict(config.from_scratch or {})
    if "vocab_size" not in fields:
        fields["vocab_size"] = len(load_tokenizer(config, report))
    return fields
