"""Which tokens end an answer: the model's, the tokenizer's, and the one its chat template closes a turn with.

A model trained to end its turns with a token that its generation_config.json does not list would otherwise never stop.
"""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerBase

from tui_trainer.engine.data.templates.chat_template import ChatTemplate, RenderError
from tui_trainer.engine.data.templates.library import find_template
from tui_trainer.errors import DataError

_MARK = "\ue000mark\ue000"
"""A text that no template contains; what follows it is how the template ends a turn."""


def stop_token_ids(model: Any, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """The tokens that end an answer of a model, without doubles.

    Args:
        model: has a `generation_config`.
        tokenizer: its tokenizer.
    """
    configured = getattr(model.generation_config, "eos_token_id", None)
    found = [*(configured if isinstance(configured, (list, tuple)) else [configured])]
    found += [tokenizer.eos_token_id, end_of_turn_id(tokenizer)]
    return tuple(dict.fromkeys(token for token in found if isinstance(token, int)))


def end_of_turn_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The special token with which the chat template closes an assistant's turn; None if it has none.

    Where the last turn is left open (GLM), it is the token that opens the next one.
    """
    try:
        template = find_template(None, tokenizer.chat_template, tokenizer.special_tokens_map)
    except DataError:
        return None
    return None if template is None else closing_id(template, tokenizer)


def closing_id(template: ChatTemplate, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """See `end_of_turn_id`, for any template."""
    try:
        messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _MARK}]
        followed = _after_mark(template.render([*messages, {"role": "user", "content": "?"}]))
        common = _common_start(followed, _after_mark(template.render(messages)))
    except (RenderError, DataError):
        return None
    closing = _first_special(common, tokenizer)
    return closing if closing is not None else _first_special(followed, tokenizer)


def _after_mark(text: str) -> str:
    return text.partition(_MARK)[2]


def _common_start(one: str, other: str) -> str:
    length = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:length]


def _first_special(text: str, tokenizer: PreTrainedTokenizerBase) -> int | None:
    special = set(tokenizer.all_special_ids)
    ids = tokenizer.encode(text, add_special_tokens=False)
    return next((token for token in ids if token in special or token in tokenizer.added_tokens_decoder), None)
