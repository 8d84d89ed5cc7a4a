"""The pipeline that fits a run's opened data; training, its crew and the data worker all take it from here."""

from __future__ import annotations

from collections.abc import Iterable

from tui_trainer.config.schema import RunConfig
from tui_trainer.engine.data.pipeline import DataPipeline
from tui_trainer.engine.data.rowset import OpenedData
from tui_trainer.engine.data.templates.library import find_template
from tui_trainer.engine.data.tokenizer import TextTokenizer


def pipeline_for(
    config: RunConfig, tokenizer: TextTokenizer, opened: OpenedData, stop_token_ids: Iterable[int] = ()
) -> DataPipeline:
    """The pipeline of a run over its opened data.

    Raises:
        ConfigurationError: there is no such chat template.
        DataError: the template is not valid.
    """
    name = tokenizer.state.name or "model"
    variables = {**tokenizer.state.special_tokens, **config.data.template_kwargs}
    template = find_template(config.data.template, tokenizer.state.chat_template, variables, name)
    return DataPipeline(config.data, config.stage, tokenizer, template, opened.specs, stop_token_ids)
