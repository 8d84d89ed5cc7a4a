"""From messages to the tokens a model is given: with the template, the variables and the system message of its run.

A model has to be asked in the form it was trained on. Whatever a run changed about that form is in its configuration,
so a checkpoint is asked the way its run trained it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from tui_trainer.engine.data.templates.chat_template import ChatTemplate, RenderError
from tui_trainer.engine.data.templates.library import find_template
from tui_trainer.engine.generate.question import Message
from tui_trainer.errors import DataError, WorkbenchError
from tui_trainer.runs.layout import RunLayout


@dataclass(frozen=True)
class RunHabits:
    """What a run's configuration says about how its model is asked.

    Attributes:
        template: `data.template`.
        template_kwargs: `data.template_kwargs`.
        system: `data.system`, the system message of rows that had none.
        sampling: the section `[sampling]`.
    """

    template: str | None = None
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    system: str | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)


def habits_of(run: RunLayout | None) -> RunHabits:
    """The habits of a run; none where there is no run, or its configuration cannot be read."""
    if run is None:
        return RunHabits()
    try:
        config = tomllib.loads(run.config.read_text("utf-8"))
    except (OSError, ValueError):
        return RunHabits()
    data, sampling = config.get("data", {}), config.get("sampling", {})
    return RunHabits(data.get("template"), data.get("template_kwargs") or {}, data.get("system"), sampling)


@dataclass(frozen=True)
class Prompt:
    """What the model is given.

    Attributes:
        text: with its special tokens.
        ids: its tokens.
        is_templated: whether a chat template made it; else the model goes on with the text.
    """

    text: str
    ids: tuple[int, ...]
    is_templated: bool


class Prompter:
    """Makes prompts for one model.

    Args:
        tokenizer: the model's.
        habits: of the run the model comes from.
        model_name: what its own template is called.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, habits: RunHabits = RunHabits(), model_name: str = "model"
    ) -> None:
        self._tokenizer = tokenizer
        self._habits = habits
        self._model_name = model_name
        self.note = ""
        self.template = self._find()

    def _find(self) -> ChatTemplate | None:
        try:
            return self._named(self._habits.template)
        except WorkbenchError as error:
            self.note = f"the run's template cannot be had ({error.what}); the checkpoint's own is used"
            return self._named(None)

    def _named(self, name: str | None) -> ChatTemplate | None:
        variables = {**self._tokenizer.special_tokens_map, **self._habits.template_kwargs}
        return find_template(name, self._tokenizer.chat_template, variables, self._model_name)

    def describe(self, kwargs: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        """Name, source, hash and variables of the template; None if there is none."""
        if self.template is None:
            return None
        return self.template.to_dict() | {"kwargs": {**self._habits.template_kwargs, **(kwargs or {})}}

    def from_messages(self, messages: Sequence[Message], kwargs: Mapping[str, Any] | None = None) -> Prompt:
        """The prompt for the answer to a conversation. Without a template the messages follow each other, line by line.

        Args:
            messages: the conversation; a system message of the run's is put before it if it has none.
            kwargs: more variables for the template.

        Raises:
            DataError: the template refuses the messages or breaks on them.
        """
        if self.template is None:
            return self.from_text("\n".join(str(message.get("content") or "") for message in messages))
        if self._habits.system and not any(message.get("role") == "system" for message in messages):
            messages = [{"role": "system", "content": self._habits.system}, *messages]
        template = replace(self.template, variables={**self.template.variables, **(kwargs or {})})
        try:
            text = template.render(messages, add_generation_prompt=True)
        except RenderError as error:
            raise DataError(
                f"the chat template refuses this conversation: {error}",
                where=f"chat template {self.template.name}",
                remedy="Change the roles or their order, or ask without a template.",
            ) from None
        ids = self._tokenizer.encode(text, add_special_tokens=False)
        return Prompt(text, tuple(ids), is_templated=True)

    def from_text(self, text: str) -> Prompt:
        """A text for the model to go on with, begun with the tokenizer's own special tokens."""
        ids = self._tokenizer.encode(text) if text else []
        return Prompt(str(self._tokenizer.decode(ids)), tuple(ids), is_templated=False)
