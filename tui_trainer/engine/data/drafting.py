"""From a row to the text that is tokenised: what the row means, how it is rendered, what can be said of it already.

The first half of `pipeline`; `tokenising` is the second.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tui_trainer.config.data import DataConfig
from tui_trainer.engine.data.example import Example
from tui_trainer.engine.data.formats.detect import FormatSpec
from tui_trainer.engine.data.formats.messages import Message, without_reasoning
from tui_trainer.engine.data.formats.normalise import Chat, Meaning, Pair, Text, Tokens, meaning_of
from tui_trainer.engine.data.masking.rendered import RenderedChat
from tui_trainer.engine.data.masking.turns import TurnFinder
from tui_trainer.engine.data.problems import Code, RowProblem, UnusableRowError
from tui_trainer.engine.data.rows import BadRow, Record
from tui_trainer.engine.data.templates.chat_template import RenderError, RenderLimitError
from tui_trainer.engine.data.tokenizer import TextTokenizer

_SUSPECT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_MAX_LIMITS = 3
"""Rows on which the template may take too long before it is not tried again."""

_SYSTEM_ROLES = ("system", "developer")


@dataclass(slots=True)
class Draft:
    """A row between its text and its tokens.

    Attributes:
        example: what it becomes.
        text: what is tokenised; empty if there is nothing to tokenise.
        chat: the places in a rendered conversation.
        answer_start: where the completion begins in a pair without template.
        with_special_tokens: whether the tokenizer adds its special tokens.
        trained_messages: numbers of the messages that count in the loss.
        weights: of those that do not weigh 1.
    """

    example: Example
    text: str = ""
    chat: RenderedChat | None = None
    answer_start: int | None = None
    with_special_tokens: bool = False
    trained_messages: frozenset[int] = frozenset()
    weights: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """The last question of a row and the answer it should get.

    Attributes:
        prompt_ids: what a chat feeds.
        prompt: the question.
        messages: the conversation before the answer; empty for a plain pair.
        answer: the answer.
    """

    prompt_ids: list[int]
    prompt: str
    messages: list[Message]
    answer: str


class Drafter:
    """Makes drafts of rows.

    Args:
        data: the section `[data]`.
        train_on: assistant, last or all.
        tokenizer: the tokenizer.
        finder: renders conversations; None without a template.
        specs: the format of each part of the data.
    """

    def __init__(
        self,
        data: DataConfig,
        train_on: str,
        tokenizer: TextTokenizer,
        finder: TurnFinder | None,
        specs: Sequence[FormatSpec],
    ) -> None:
        self._data = data
        self._train_on = train_on
        self._tokenizer = tokenizer
        self._finder = finder
        self._specs = specs
        self._num_limits = 0

    def draft(self, record: Record, *, in_detail: bool) -> Draft:
        """The draft of a row; one that is of no use says so in its example."""
        example = Example(record.row)
        try:
            self._give_up_on_template()
            meaning = self._meaning(record)
            draft = self._drafted(example, meaning, in_detail)
            self._check_text(draft)
            return draft
        except UnusableRowError as error:
            example.problems.append(error.problem)
        except RenderError as error:
            self._num_limits += isinstance(error, RenderLimitError)
            roles = ", ".join(message["role"] for message in example.messages)
            example.problems.append(RowProblem(Code.TEMPLATE_ERROR, f"the template says: {error} (roles: {roles})"))
        example.is_usable = False
        return Draft(example)

    def _give_up_on_template(self) -> None:
        if self._num_limits >= _MAX_LIMITS:
            raise RenderError(f"given up, because {_MAX_LIMITS} rows took too long or too much memory")

    def question(self, record: Record) -> Question | None:
        """The last question of a row; None where it has none or cannot be asked."""
        try:
            meaning = self._meaning(record)
            if isinstance(meaning, Pair) and self._finder is None:
                prompt = self._plain_prompt(meaning)
                ids = self._tokenizer.encode(prompt, add_special_tokens=self._data.add_special_tokens)
                return Question(ids, meaning.prompt, [], meaning.completion)
            chat = meaning.as_chat() if isinstance(meaning, Pair) else meaning
            if not isinstance(chat, Chat) or self._finder is None:
                return None
            chat = self._prepared(chat)
            answers = [number for number, message in enumerate(chat.messages) if message["role"] == "assistant"]
            if not answers or answers[-1] == 0:
                return None
            last = answers[-1]
            ids = self._tokenizer.encode(self._finder.render_prompt(chat, last))
        except (UnusableRowError, RenderError):
            return None
        before = chat.messages[:last]
        return Question(ids, before[-1]["content"], before, chat.messages[last]["content"])

    def _meaning(self, record: Record) -> Meaning:
        if isinstance(record.value, BadRow):
            raise UnusableRowError(record.value.code, record.value.message)
        allow = self._data.allow_preference_as_sft
        return meaning_of(record.value, self._specs[record.part], allow_preference=allow)

    def _drafted(self, example: Example, meaning: Meaning, in_detail: bool) -> Draft:
        match meaning:
            case Tokens():
                self._take_tokens(example, meaning)
                return Draft(example)
            case Text():
                return Draft(example, meaning.text, with_special_tokens=self._data.add_special_tokens)
            case Pair() if self._finder is None:
                return self._plain_pair(example, meaning)
            case Pair():
                return self._chat(example, meaning.as_chat(), in_detail)
            case Chat():
                return self._chat(example, meaning, in_detail)

    def _chat(self, example: Example, chat: Chat, in_detail: bool) -> Draft:
        if self._finder is None:
            raise UnusableRowError(
                Code.TEMPLATE_ERROR, "is a conversation, and the model has no chat template; set data.template"
            )
        chat = self._prepared(chat)
        example.messages = chat.messages
        example.has_prompt = True
        self._check_chat(example, chat)
        rendered = self._finder.find(chat, with_care=in_detail)
        example.problems.extend(rendered.problems)
        trained = self._trained_messages(chat)
        weights = {number: chat.messages[number]["weight"] for number in trained if "weight" in chat.messages[number]}
        return Draft(
            example,
            rendered.text,
            rendered,
            trained_messages=trained,
            weights={number: weight for number, weight in weights.items() if weight != 1} if weights else weights,
        )

    def _prepared(self, chat: Chat) -> Chat:
        messages = chat.messages
        if not self._data.keep_reasoning:
            messages = without_reasoning(messages)
        if self._data.system and messages[0]["role"] not in _SYSTEM_ROLES:
            messages = [{"role": "system", "content": self._data.system}, *messages]
        return replace(chat, messages=messages)

    def _trained_messages(self, chat: Chat) -> frozenset[int]:
        """Numbers of the assistant's messages that count in the loss."""
        numbers = [
            number
            for number, message in enumerate(chat.messages)
            if message["role"] == "assistant" and message.get("weight", 1) > 0
        ]
        return frozenset(numbers[-1:] if self._train_on == "last" else numbers)

    def _plain_pair(self, example: Example, pair: Pair) -> Draft:
        if not pair.completion.strip():
            raise UnusableRowError(Code.EMPTY_ANSWER, "the completion is empty")
        example.has_prompt = True
        prompt = self._plain_prompt(pair)
        return Draft(
            example,
            prompt + pair.completion,
            answer_start=len(prompt),
            with_special_tokens=self._data.add_special_tokens,
        )

    def _plain_prompt(self, pair: Pair) -> str:
        system = pair.system or self._data.system
        return f"{system}\n\n{pair.prompt}" if system else pair.prompt

    def _take_tokens(self, example: Example, tokens: Tokens) -> None:
        largest = max(tokens.input_ids, default=0)
        if largest >= self._tokenizer.num_ids:
            raise UnusableRowError(
                Code.SCHEMA, f"has the token id {largest}, but the tokenizer has {self._tokenizer.num_ids} tokens"
            )
        example.input_ids = tokens.input_ids
        example.trained = _stretches(tokens.is_trained)
        example.text = self._tokenizer.decode(tokens.input_ids)

    def _check_text(self, draft: Draft) -> None:
        found = _SUSPECT.search(draft.text)
        if found is None:
            return
        code = f"U+{ord(found.group()):04X}"
        if found.group() >= "\ud800":
            raise UnusableRowError(Code.ENCODING, f"holds {code}, half of a surrogate pair, which is no character")
        draft.example.problems.append(RowProblem(Code.CONTROL_CHARACTERS, f"holds the control character {code}"))

    def _check_chat(self, example: Example, chat: Chat) -> None:
        before = ""
        answers = filled = 0
        for number, message in enumerate(chat.messages):
            role = message["role"]
            if role == "assistant":
                answers += 1
                if message["content"].strip() or "tool_calls" in message:
                    filled += 1
                else:
                    example.problems.append(RowProblem(Code.EMPTY_ANSWER, f"turn {number} of the assistant is empty"))
            if (role == before and role in ("user", "assistant")) or (number and role in _SYSTEM_ROLES):
                example.problems.append(RowProblem(Code.ROLE_ORDER, f"message {number} is {role} after {before}"))
            before = role
        if answers and not filled:
            example.problems = [problem for problem in example.problems if problem.code != Code.EMPTY_ANSWER]
            raise UnusableRowError(Code.EMPTY_ANSWER, "every answer of the assistant is empty")
        if not answers:
            raise UnusableRowError(Code.NO_TRAINED_TOKENS, "the assistant says nothing in it")
        weighted = next((number for number, message in enumerate(chat.messages) if message.get("weight", 1) != 1), None)
        if self._train_on == "all" and weighted is not None:
            weight = chat.messages[weighted]["weight"]
            said = f"message {weighted} weighs {weight:g}, but with data.train_on = all every token weighs 1"
            example.problems.append(RowProblem(Code.MOSTLY_TRAINED, said))
        if chat.tools and self._finder and not self._finder.template.knows_tools:
            example.problems.append(RowProblem(Code.TEMPLATE_NO_TOOLS, "the template does not know tools"))


def _stretches(flags: Sequence[bool]) -> list[tuple[int, int]]:
    """The stretches of true flags; the first token is in none."""
    stretches: list[tuple[int, int]] = []
    start = None
    for number, flag in enumerate([*flags, False]):
        if flag and number and start is None:
            start = number
        elif not flag and start is not None:
            stretches.append((start, number))
            start = None
    return stretches
