"""Other weights in a session while it lives: another step of a run, another adapter; in place where that can be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from peft import PeftModel

from tui_trainer.engine.chat.session import ChatSession
from tui_trainer.engine.models.adapter import LOADED_ADAPTER, WITHOUT_ADAPTER
from tui_trainer.engine.models.folder import read_object
from tui_trainer.engine.models.locate import ModelSource
from tui_trainer.engine.models.swap import copy_adapter, copy_model
from tui_trainer.errors import DataError

ADAPTER_IN_PLACE = "adapter in place"
WEIGHTS_IN_PLACE = "weights in place"

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json")
_ABOUT_ITSELF = ("transformers_version", "_name_or_path", "dtype", "torch_dtype", "use_cache", "initializer_range")


def swapped(session: ChatSession, name: str, source: ModelSource, *, is_shared: bool) -> tuple[ChatSession, str] | None:
    """A session with other weights in the place of its own; its old one is of no more use.

    Args:
        session: whose weights are overwritten.
        name: what the user calls the new model.
        source: where it lies.
        is_shared: another session stands on the same weights, so that only the adapter may change.

    Returns:
        The session and how it was done; None if the model has to be loaded anew, in which case nothing has changed.

    Raises:
        DataError: the files are broken, or have been deleted.
    """
    old = session.loaded.source
    if not _same_tokenizer(old, source):
        return None
    how = _written(session, old, source, is_shared)
    if how is None:
        return None
    loaded = replace(session.loaded, source=source)
    session.forward.refresh()
    if old.run == source.run:
        session.use(loaded, session.choice, session.adapter)
        session.name = name
        return session, how
    return ChatSession(name, loaded, decode=session.decode, choice=session.choice, adapter=session.adapter), how


def _written(session: ChatSession, old: ModelSource, new: ModelSource, is_shared: bool) -> str | None:
    model: Any = session.loaded.model
    if old.adapter is not None and new.adapter is not None and old.path == new.path and isinstance(model, PeftModel):
        name = session.adapter or LOADED_ADAPTER
        if name == WITHOUT_ADAPTER or not copy_adapter(model, name, new.adapter, old.adapter):
            return None
        return ADAPTER_IN_PLACE
    if is_shared or old.adapter or new.adapter or isinstance(model, PeftModel) or session.loaded.is_int8:
        return None
    if _shape(old.path) != _shape(new.path) or not copy_model(model, new.path):
        return None
    return WEIGHTS_IN_PLACE


def _shape(folder: Path) -> str:
    config = {key: value for key, value in read_object(folder / "config.json").items() if key not in _ABOUT_ITSELF}
    return json.dumps(config, sort_keys=True)


def _same_tokenizer(old: ModelSource, new: ModelSource) -> bool:
    return old.tokenizer_path == new.tokenizer_path or all(
        _content(old.tokenizer_path / name) == _content(new.tokenizer_path / name) for name in _TOKENIZER_FILES
    )


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from None
