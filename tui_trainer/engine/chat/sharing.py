"""Two sessions on one set of weights: a base with and without its adapter, or with two of them.

The second model then costs only its adapter, and both can answer in one batch.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tui_trainer.engine.chat.session import ChatSession
from tui_trainer.engine.generate.forward.choose import choose_forward
from tui_trainer.engine.models.adapter import LOADED_ADAPTER, WITHOUT_ADAPTER, add_adapter
from tui_trainer.engine.models.folder import ADAPTER_CONFIG, read_object
from tui_trainer.engine.models.locate import ModelSource
from tui_trainer.engine.models.tokenizer import tokenizer_from
from tui_trainer.engine.models.weights import ADAPTER_WEIGHTS, count_parameters

_NAMES = ("other", "another", "third")
"""Names for adapters that are put on shared weights."""


def can_share(first: ChatSession, source: ModelSource) -> bool:
    """Whether a model can stand on the weights of a session: the same base, and adapters that rows can choose from."""
    if source.path != first.loaded.source.path:
        return False
    if first.loaded.is_int8 and source.adapter is not None:
        return False
    return all(_is_plain_lora(each) for each in (source, first.loaded.source))


def _is_plain_lora(source: ModelSource) -> bool:
    if source.adapter is None:
        return True
    config = read_object(source.adapter / ADAPTER_CONFIG)
    is_plain = config.get("peft_type") == "LORA" and not config.get("modules_to_save")
    return is_plain and not config.get("trainable_token_indices") and not config.get("use_dora")


def share(first: ChatSession, name: str, source: ModelSource) -> ChatSession:
    """A second session on the weights of a first; the first goes on as it was.

    Args:
        first: the session that has the weights.
        name: what the user calls the second model.
        source: where that lies; `can_share` has to be true.

    Raises:
        DataError: the adapter does not fit, or its tokenizer is broken.
    """
    model: Any = first.loaded.model
    own = first.adapter or (LOADED_ADAPTER if first.loaded.source.adapter is not None else WITHOUT_ADAPTER)
    second = WITHOUT_ADAPTER
    num_parameters = count_parameters([source.adapter / ADAPTER_WEIGHTS]) if source.adapter else 0
    if source.adapter is not None:
        second = next(name for name in _NAMES if name not in getattr(model, "peft_config", {}))
        model = add_adapter(model, source.adapter, second)
    if not hasattr(model, "peft_config"):
        own = second = ""
    choice = choose_forward(model, first.decode)
    tokenizer = tokenizer_from(source.tokenizer_path)
    loaded = replace(first.loaded, model=model, tokenizer=tokenizer, source=source)
    loaded = replace(loaded, num_parameters=first.num_base_parameters + num_parameters, reason="on the same weights")
    first.use(replace(first.loaded, model=model), choice, own)
    return ChatSession(name, loaded, decode=first.decode, choice=choice, adapter=second)


def part(remaining: ChatSession, gone: ChatSession) -> None:
    """Take the adapter of a session that is gone off the weights that another one shared with it."""
    shared = remaining.loaded.model
    model: Any = shared
    if shared is not gone.loaded.model or gone.adapter not in getattr(model, "peft_config", {}):
        return
    if len(model.peft_config) > 1:
        model.delete_adapter(gone.adapter)
        remaining.engine.runner.forward.refresh()
        return
    base = model.unload()
    remaining.use(replace(remaining.loaded, model=base), choose_forward(base, remaining.decode), "")
