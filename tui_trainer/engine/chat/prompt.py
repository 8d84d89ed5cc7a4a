"""From messages to the tokens a model is given: with the template, the variables and the system message of its run.

A model has to be asked in the form it was trained on. Whatever a run changed about that form is in its configuration,
so a checkpoint is asked the way its run trained it: messages are put into the form the template takes, and texts are
encoded, by the code that makes the training data.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from transformers import PreTrainedTokenizerBase

from tui_trainer.engine.chat.question import Message, Question
from tui_trainer.engine.chat.templates import Templates
from tui_trainer.engine.data.formats.messages import without_reasoning
from tui_trainer.engine.data.templates.chat_template import ChatTemplate, RenderError
from tui_trainer.engine.data.templates.limits import memory_limit, watched
from tui_trainer.engine.data.tokenizer import TextTokenizer
from tui_trainer.errors import DataError
from tui_trainer.runs.layout import RunLayout


@dataclass(frozen=True)
class RunHabits:
    """What a run's configuration says about how its model is asked.

    Attributes:
        template: `data.template`.
        template_kwargs: `data.template_kwargs`.
        system: `data.system`, the system message of rows that had none.
        sampling: the section `[sampling]`.
        keep_reasoning: `data.keep_reasoning`; without it no thoughts of earlier turns are shown to the model.
        train_on: `data.train_on`, for the mask.
    """

    template: str | None = None
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    system: str | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    keep_reasoning: bool = True
    train_on: str = "assistant"


def habits_of(run: RunLayout | None) -> RunHabits:
    """The habits of a run; none where there is no run, or its configuration cannot be read."""
    if run is None:
        return RunHabits()
    try:
        config = tomllib.loads(run.config.read_text("utf-8"))
    except (OSError, ValueError):
        return RunHabits()
    data, sampling = config.get("data", {}), config.get("sampling", {})
    return RunHabits(
        data.get("template"),
        data.get("template_kwargs") or {},
        data.get("system"),
        sampling,
        bool(data.get("keep_reasoning", True)),
        str(data.get("train_on") or "assistant"),
    )


@dataclass(frozen=True)
class Prompt:
    """What the model is given.

    Attributes:
        text: with its special tokens, and with what the answer has to begin with.
        ids: its tokens.
        is_templated: whether a chat template made it; else the model goes on with the text.
        num_prefilled: how many of the tokens at its end are the beginning of the answer.
    """

    text: str
    ids: tuple[int, ...]
    is_templated: bool
    num_prefilled: int = 0

    @property
    def prefill_ids(self) -> tuple[int, ...]:
        """The tokens with which the answer has to begin."""
        return self.ids[len(self.ids) - self.num_prefilled :]


class Prompter:
    """Makes prompts for one model.

    Args:
        tokenizer: the model's.
        habits: of the run the model comes from.
        model_name: what its own template is called.

    Attributes:
        templates: what messages can be rendered with.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, habits: RunHabits = RunHabits(), model_name: str = "model"
    ) -> None:
        self.habits = habits
        self._tokenizer = tokenizer
        self._model_name = model_name
        self.templates = Templates(tokenizer, habits.template, habits.template_kwargs, model_name)

    @property
    def template(self) -> ChatTemplate | None:
        """The chat template that is used unless a question names another; None if there is none."""
        return self.templates.usual

    @cached_property
    def text_tokenizer(self) -> TextTokenizer | None:
        """The tokenizer as training has it; None if it has no fast version, without which nothing is trained."""
        try:
            return TextTokenizer.of(self._tokenizer, self._model_name)
        except DataError:
            return None

    def describe(self, name: str | None = None, kwargs: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        """Name, source, hash and variables of a template, of the usual one without a name; None if there is none.

        Raises:
            WorkbenchError: as `Templates.chosen`.
        """
        template = self.templates.chosen(name)
        if template is None:
            return None
        return template.to_dict() | {"kwargs": {**self.habits.template_kwargs, **(kwargs or {})}}

    def prompt_for(self, question: Question) -> Prompt:
        """The prompt for the answer to a question.

        Raises:
            DataError: the template refuses the messages or breaks on them.
            UsageError: there is no template of the name that the question asks for.
        """
        if question.prompt is not None:
            prompt = self.from_text(question.prompt)
        else:
            template = self.templates.chosen(question.template, question.template_kwargs)
            prompt = self.from_messages(question.messages, template, question.tools)
        return self._begun(prompt, question)

    def _begun(self, prompt: Prompt, question: Question) -> Prompt:
        """The prompt with what the answer has to begin with."""
        if question.prefill_ids:
            text = prompt.text + str(self._tokenizer.decode(list(question.prefill_ids)))
            whole = (*prompt.ids, *question.prefill_ids)
            return replace(prompt, text=text, ids=whole, num_prefilled=len(question.prefill_ids))
        if not question.prefill:
            return prompt
        text = prompt.text + question.prefill
        ids = self._encode(text)
        same = next((i for i, (a, b) in enumerate(zip(ids, prompt.ids, strict=False)) if a != b), len(prompt.ids))
        return replace(prompt, text=text, ids=tuple(ids), num_prefilled=len(ids) - min(same, len(ids)))

    def reply_ids(self, question: Question, reply: str) -> tuple[int, ...]:
        """The tokens of a reply where it stands, behind its question."""
        return self.prompt_for(replace(question, prefill=reply, prefill_ids=())).prefill_ids

    def complete(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """A conversation as the run has its rows: with its system message, and without thoughts if it drops them."""
        plain = [dict(message) for message in messages]
        if not self.habits.keep_reasoning:
            plain = without_reasoning(plain)
        if self.habits.system and not any(message.get("role") == "system" for message in plain):
            plain.insert(0, {"role": "system", "content": self.habits.system})
        return plain

    def from_messages(
        self,
        messages: Sequence[Message],
        template: ChatTemplate | None,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> Prompt:
        """The prompt for the answer to a conversation. Without a template the messages follow each other, line by line.

        Args:
            messages: the conversation; a system message of the run's is put before it if it has none.
            template: with its variables.
            tools: what the assistant may call.

        Raises:
            DataError: the template refuses the messages or breaks on them.
        """
        if template is None:
            return self.from_text("\n".join(str(message.get("content") or "") for message in messages))
        try:
            complete = self.complete(messages)
            _check_contents(complete)
            profile = self.templates.profile(template, self.text_tokenizer)
            with memory_limit, watched():
                adapted = profile.adapt(complete, template)
                text = template.render(adapted, list(tools) or None, add_generation_prompt=True)
        except RenderError as error:
            raise DataError(
                f"the chat template refuses this conversation: {error}",
                where=f"chat template {template.name}",
                remedy="Change the roles or their order, or ask without a template.",
            ) from None
        return Prompt(text, tuple(self._encode(text)), is_templated=True)

    def from_text(self, text: str) -> Prompt:
        """A text for the model to go on with, begun with the tokenizer's own special tokens."""
        ids = self._tokenizer.encode(_whole(text)) if text else []
        return Prompt(str(self._tokenizer.decode(ids)), tuple(ids), is_templated=False)

    def _encode(self, text: str) -> list[int]:
        if self.text_tokenizer is not None:
            return self.text_tokenizer.encode(_whole(text))
        ids: list[int] = self._tokenizer.encode(_whole(text), add_special_tokens=False)
        return ids


def _whole(text: str) -> str:
    """The text, if all its characters are whole: bytes of a command line or escapes in JSON may not be.

    Raises:
        DataError: they are not.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"U+{ord(text[error.start]):04X}"
        raise DataError(
            f"the text holds half a character ({half}), which no tokenizer reads", remedy="Ask without it."
        ) from None
    return text


def _check_contents(messages: Sequence[Message]) -> None:
    for number, message in enumerate(messages):
        if message.get("content") is None and not message.get("tool_calls"):
            raise RenderError(f"message {number} has no content")
