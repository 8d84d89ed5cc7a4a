"""What the model really sees, and whether it is what training makes of the same messages: raw view, mask, parity.

The training side is the pipeline of `engine.data` itself, with the settings of the run the model comes from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tui_trainer.config.data import DataConfig
from tui_trainer.engine.chat.documents import Documents
from tui_trainer.engine.chat.prompt import Prompt, Prompter
from tui_trainer.engine.chat.question import Message, Question
from tui_trainer.engine.data.example import Example
from tui_trainer.engine.data.formats.detect import FormatSpec
from tui_trainer.engine.data.pipeline import DataPipeline
from tui_trainer.engine.data.rows import Record

_STAND_IN = "…"
"""The reply where nobody gave one: the training side needs something to train on."""
_LONGEST = 1 << 24
"""Nothing is cut: what is compared are whole conversations."""


@dataclass(frozen=True)
class _Parity:
    """Where what a chat feeds and what training has before the reply part ways.

    Attributes:
        message: in one sentence.
        index: the first token that differs; None if none does.
    """

    message: str
    index: int | None = None


class Renderer:
    """Renders conversations for one model as a chat and as training do.

    Args:
        prompter: makes the model's prompts.
        documents: writes tokens.
    """

    def __init__(self, prompter: Prompter, documents: Documents) -> None:
        self._prompter = prompter
        self._documents = documents

    def document(self, question: Question, reply: str | None = None) -> dict[str, Any]:
        """The result of the worker's `render`.

        Args:
            question: the conversation; an assistant's message at its end is taken for the reply.
            reply: what the assistant says to it, for the training side.

        Raises:
            DataError: the template refuses the messages.
        """
        messages = list(question.messages)
        if messages and messages[-1].get("role") == "assistant":
            last = messages.pop()
            reply = reply if reply is not None else str(last.get("content") or "")
        asked = Question(
            messages, question.prompt, template=question.template, template_kwargs=question.template_kwargs,
            tools=question.tools, prefill=question.prefill, prefill_ids=question.prefill_ids,
        )  # fmt: skip
        prompt = self._prompter.prompt_for(asked)
        answer = reply or question.prefill or _STAND_IN
        example = self._example(messages, question, answer) if prompt.is_templated else None
        return {
            "text": prompt.text,
            "tokens": self._documents.tokens(prompt.ids),
            "template": self._prompter.describe(question.template, question.template_kwargs)
            if prompt.is_templated
            else None,
            "training": None if example is None else self._training(example),
            "parity": self._parity(prompt, example),
        }

    def _example(self, messages: Sequence[Message], question: Question, reply: str) -> Example | None:
        """The conversation with its reply as training has it; None without a fast tokenizer."""
        template = self._prompter.templates.chosen(question.template, question.template_kwargs)
        tokenizer = self._prompter.text_tokenizer
        if template is None or tokenizer is None:
            return None
        habits = self._prompter.habits
        data = DataConfig.model_validate(
            {
                "max_length": _LONGEST,
                "train_on": habits.train_on,
                "keep_reasoning": habits.keep_reasoning,
                "system": habits.system,
            }
        )
        spec = FormatSpec("messages", {"messages": "messages", "tools": "tools"}, 1.0)
        pipeline = DataPipeline(data, "sft", tokenizer, template, [spec])
        row: dict[str, Any] = {"messages": [*map(dict, messages), {"role": "assistant", "content": reply}]}
        row["tools"] = [dict(tool) for tool in question.tools] or None
        (example,) = pipeline.examples([Record(0, 0, row, "the conversation")], in_detail=True)
        return example

    def _training(self, example: Example) -> dict[str, Any]:
        trained = [label >= 0 for label in example.labels]
        tokens = self._documents.tokens(example.input_ids)
        return {
            "tokens": [token | {"trained": flag} for token, flag in zip(tokens, trained, strict=True)],
            "num_trained": example.num_trained,
            "problems": [problem.to_dict() for problem in example.problems],
        }

    def _parity(self, prompt: Prompt, example: Example | None) -> dict[str, Any]:
        parity = self._compared(prompt, example)
        difference: Mapping[str, Any] | None = None
        if parity.index is not None and example is not None:
            difference = {
                "index": parity.index,
                "chat": self._token_at(prompt.ids, parity.index),
                "training": self._token_at(example.input_ids, parity.index),
            }
        return {"same": parity.index is None, "first_difference": difference, "message": parity.message}

    def _compared(self, prompt: Prompt, example: Example | None) -> _Parity:
        if not prompt.is_templated:
            return _Parity("plain text: there is no template that could differ")
        if example is None:
            return _Parity("the tokenizer has no fast version, so nothing can be trained with it to compare with")
        if not example.input_ids:
            reasons = "; ".join(problem.message for problem in example.problems) or "it is of no use"
            return _Parity(f"training would leave this conversation out: {reasons}", 0)
        fed = prompt.ids[: len(prompt.ids) - prompt.num_prefilled]
        trained = example.input_ids
        for index, token in enumerate(fed):
            if index >= len(trained) or trained[index] != token:
                had = repr(self._documents.text_of(trained[index])) if index < len(trained) else "nothing"
                return _Parity(
                    f"at token {index} the chat has {self._documents.text_of(token)!r}, training has {had}", index
                )
        return _Parity(f"all {len(fed)} tokens before the reply are those of training")

    def _token_at(self, ids: Sequence[int], index: int) -> dict[str, Any] | None:
        return self._documents.token(ids[index]) if index < len(ids) else None
