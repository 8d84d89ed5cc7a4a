"""What is asked of a model; loads nothing, so that a command line can be read before the libraries are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tui_trainer.errors import UsageError

Message = Mapping[str, Any]
"""One turn of a conversation, with at least "role" and "content"."""


@dataclass(frozen=True)
class Manner:
    """How all prompts of a set are asked.

    Attributes:
        params: the knobs.
        system: system message of prompts that have none.
        template: the chat template (`Question.template`).
        template_kwargs: more variables for it.
    """

    params: Mapping[str, Any] = field(default_factory=dict)
    system: str | None = None
    template: str | None = None
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes:
        messages: the conversation to answer; empty if `prompt` is given.
        prompt: a text to go on with, without a template.
        params: the knobs the user set.
        template: the chat template to ask with instead of the usual one (`Templates.chosen`).
        template_kwargs: more variables for the chat template.
        tools: what the assistant may call, as the OpenAI API describes them.
        prefill: the text with which the answer begins.
        prefill_ids: the same as tokens, to go on exactly where an answer stood; goes before `prefill`.
    """

    messages: Sequence[Message] = ()
    prompt: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    template: str | None = None
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    tools: Sequence[Mapping[str, Any]] = ()
    prefill: str = ""
    prefill_ids: Sequence[int] = ()

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Question:
        """The question in the parameters of a worker's method.

        Raises:
            UsageError: a part of it is not of the kind it has to be.
        """
        kinds: dict[str, type | tuple[type, ...]] = {
            "messages": list,
            "prompt": str,
            "params": dict,
            "template": str,
            "template_kwargs": dict,
            "tools": list,
            "prefill": str,
            "prefill_ids": list,
        }
        given = {name: params[name] for name in kinds if params.get(name) is not None}
        for name, value in given.items():
            if not isinstance(value, kinds[name]):
                raise UsageError(f"{name} of the question is of the wrong kind: {type(value).__name__}")
        if not all(type(token) is int and token >= 0 for token in given.get("prefill_ids", ())):
            raise UsageError("prefill_ids of the question holds something that is no token")
        return cls(**given)

    @property
    def text(self) -> str:
        """What the user said last."""
        if self.prompt is not None:
            return self.prompt
        said = [message for message in self.messages if message.get("role") == "user"]
        return str(said[-1].get("content") or "") if said else ""
