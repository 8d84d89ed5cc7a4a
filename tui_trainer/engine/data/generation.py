"""At which tokens generation stops, as the model's files say; for the warning that no turn ends with one of them."""

from __future__ import annotations

from tui_trainer.config.model import ModelConfig
from tui_trainer.engine.data.tokenizer import TextTokenizer
from tui_trainer.engine.models.locate import locate_model
from tui_trainer.errors import WorkbenchError
from tui_trainer.runs.files import read_json


def configured_stops(config: ModelConfig, tokenizer: TextTokenizer) -> frozenset[int]:
    """The stop tokens of a model.

    Args:
        config: names the model.
        tokenizer: its tokenizer, whose end token counts too.

    Returns:
        The ids; empty where the model's files are not there to be asked.
    """
    if config.name_or_path is None or config.from_scratch is not None:
        return frozenset()
    try:
        folder = locate_model(
            config.name_or_path, revision=config.revision, cache_dir=config.cache_dir, needs="tokenizer"
        ).path
    except WorkbenchError:
        return frozenset()
    stops = (read_json(folder / "generation_config.json") or {}).get("eos_token_id")
    found = stops if isinstance(stops, list) else [stops]
    ids = [token for token in (*found, tokenizer.eos_token_id) if isinstance(token, int)]
    return frozenset(ids) if stops is not None else frozenset()
