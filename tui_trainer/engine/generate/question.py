"""What is asked of a model; loads nothing, so that a command line can be read before the libraries are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Message = Mapping[str, Any]
"""One turn of a conversation, with at least "role" and "content"."""


@dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes:
        messages: the conversation to answer; empty if `prompt` is given.
        prompt: a text to go on with, without a template.
        params: the knobs the user set.
        template_kwargs: more variables for the chat template.
    """

    messages: Sequence[Message] = ()
    prompt: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """What the user said last."""
        if self.prompt is not None:
            return self.prompt
        said = [message for message in self.messages if message.get("role") == "user"]
        return str(said[-1].get("content") or "") if said else ""
