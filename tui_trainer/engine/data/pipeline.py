"""The one way from a row to an example: format, template, tokens, mask, cutting.

The preview, the check, the verdict and training all call `DataPipeline.examples`, so what is shown is what is trained.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from tokenizers import Encoding

from tui_trainer.config.data import DataConfig
from tui_trainer.engine.data.cutting import Cutter
from tui_trainer.engine.data.example import Example, Stretch
from tui_trainer.engine.data.formats.detect import FormatSpec
from tui_trainer.engine.data.formats.messages import Message, without_reasoning
from tui_trainer.engine.data.formats.normalise import Chat, Meaning, Pair, Text, Tokens, meaning_of
from tui_trainer.engine.data.masking.alignment import PromptCheck, edge_at
from tui_trainer.engine.data.masking.rendered import RenderedChat
from tui_trainer.engine.data.masking.turns import TurnFinder
from tui_trainer.engine.data.problems import Code, RowProblem, UnusableRowError
from tui_trainer.engine.data.rows import BadRow, Record
from tui_trainer.engine.data.spans import spans_of
from tui_trainer.engine.data.templates.chat_template import ChatTemplate, RenderError
from tui_trainer.engine.data.templates.limits import MemoryLimit
from tui_trainer.engine.data.tokenizer import TextTokenizer
from tui_trainer.errors import ConfigurationError, Problem

BATCH_ROWS = 512
"""Rows worth handing over at a time: enough for the tokenizer's threads, few enough to be cancelled soon."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_MOSTLY, _HARDLY = 0.95, 0.05


@dataclass(slots=True)
class _Draft:
    """A row between its text and its tokens.

    Attributes:
        example: what it becomes.
        text: what is tokenised.
        chat: the places in a rendered conversation.
        answer_start: where the completion begins in a pair without template.
        with_special_tokens: whether the tokenizer adds its special tokens.
    """

    example: Example
    text: str
    chat: RenderedChat | None = None
    answer_start: int | None = None
    with_special_tokens: bool = False
    trained_messages: frozenset[int] = frozenset()


class DataPipeline:
    """Turns rows into examples.

    Args:
        data: the section `[data]`.
        stage: the stage of the run.
        tokenizer: the tokenizer.
        template: the chat template, None for none.
        specs: the format of each part of the data, as `Record.part` numbers them.
        stop_token_ids: ids at which generation stops; where they are not known, nothing is said about them.

    Raises:
        ConfigurationError: conversations cannot be split.
    """

    def __init__(
        self,
        data: DataConfig,
        stage: str,
        tokenizer: TextTokenizer,
        template: ChatTemplate | None,
        specs: Sequence[FormatSpec],
        stop_token_ids: Iterable[int] = (),
    ) -> None:
        self.tokenizer = tokenizer
        self.template = template
        self.specs = tuple(specs)
        self._data = data
        self._train_on = "all" if stage == "pretrain" else data.train_on
        self._finder = TurnFinder(template, tokenizer) if template else None
        self._prompt_check = PromptCheck(tokenizer)
        self._cutter = Cutter(data.max_length, data.truncation)
        self.stop_problem = self._find_stop_problem(frozenset(stop_token_ids))
        """What is wrong with the end of every turn, whatever the rows; None if nothing is."""
        self._check_truncation()

    def examples(self, records: Sequence[Record], *, in_detail: bool = False) -> list[Example]:
        """The examples of some rows: one a row, more where a long text is split; each row has at least one.

        Args:
            records: the rows.
            in_detail: with spans and messages, for showing; slower.
        """
        with MemoryLimit():
            drafts = [self._draft(record, in_detail) for record in records]
        self._tokenise(drafts, in_detail)
        examples = [example for draft in drafts for example in self._cutter.cut(draft.example)]
        for example in examples:
            self._judge(example)
            if in_detail:
                example.spans = spans_of(example, self.tokenizer)
        return examples

    def reference(self, record: Record) -> tuple[list[int], str, list[Message], str] | None:
        """The last question of a row and its answer, to see whether the model gives it.

        Returns:
            The ids a chat would feed, the question, the messages before the answer, and the answer; None where the
            row has no answer.
        """
        if not isinstance(record.value, dict):
            return None
        try:
            meaning = meaning_of(
                record.value, self.specs[record.part], allow_preference=self._data.allow_preference_as_sft
            )
            if isinstance(meaning, Pair) and self._finder is None:
                prompt = _plain_prompt(meaning)
                ids = self.tokenizer.encode(prompt, add_special_tokens=self._data.add_special_tokens)
                return ids, meaning.prompt, [], meaning.completion
            chat = meaning.as_chat() if isinstance(meaning, Pair) else meaning
            if not isinstance(chat, Chat) or self._finder is None:
                return None
            chat = self._prepared(chat)
            last = max(
                (number for number, message in enumerate(chat.messages) if message["role"] == "assistant"), default=0
            )
            if last == 0:
                return None
            ids = self.tokenizer.encode(self._finder.render_prompt(chat, last))
        except (UnusableRowError, RenderError):
            return None
        before = chat.messages[:last]
        return ids, before[-1]["content"], before, chat.messages[last]["content"]

    def _check_truncation(self) -> None:
        chats = [spec.format for spec in self.specs if spec.format not in ("text", "tokenized")]
        if self._data.truncation == "split" and chats:
            raise ConfigurationError.of(
                [
                    Problem(
                        "data.truncation",
                        f"split is for plain text, the rows are {chats[0]}",
                        "set right, left or drop",
                    )
                ]
            )

    # -- from the row to the text

    def _draft(self, record: Record, in_detail: bool) -> _Draft:
        example = Example(record.row)
        try:
            if isinstance(record.value, BadRow):
                raise UnusableRowError(record.value.code, record.value.message)
            spec = self.specs[record.part]
            allow = self._data.allow_preference_as_sft
            return self._drafted(example, meaning_of(record.value, spec, allow_preference=allow), in_detail)
        except UnusableRowError as error:
            example.problems.append(error.problem)
        except RenderError as error:
            example.problems.append(RowProblem(Code.TEMPLATE_ERROR, f"the template says: {error}"))
        example.is_usable = False
        return _Draft(example, "")

    def _drafted(self, example: Example, meaning: Meaning, in_detail: bool) -> _Draft:
        match meaning:
            case Tokens():
                self._take_tokens(example, meaning)
                return _Draft(example, "")
            case Text():
                self._check_text(example, meaning.text)
                return _Draft(example, meaning.text, with_special_tokens=self._data.add_special_tokens)
            case Pair() if self._finder is None:
                return self._plain_pair(example, meaning)
            case Pair():
                return self._chat(example, meaning.as_chat(), in_detail)
            case Chat():
                return self._chat(example, meaning, in_detail)

    def _chat(self, example: Example, chat: Chat, in_detail: bool) -> _Draft:
        if self._finder is None:
            raise UnusableRowError(
                Code.TEMPLATE_ERROR, "is a conversation, and the model has no chat template; set data.template"
            )
        chat = self._prepared(chat)
        self._check_chat(example, chat)
        rendered = self._finder.find(chat, with_care=in_detail)
        example.problems.extend(rendered.problems)
        if in_detail:
            example.messages = chat.messages
        return _Draft(example, rendered.text, rendered, trained_messages=self._trained_messages(chat))

    def _prepared(self, chat: Chat) -> Chat:
        messages = chat.messages
        if not self._data.keep_reasoning:
            messages = without_reasoning(messages)
        if self._data.system and messages[0]["role"] not in ("system", "developer"):
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

    def _plain_pair(self, example: Example, pair: Pair) -> _Draft:
        prompt = _plain_prompt(pair)
        self._check_text(example, prompt)
        self._check_text(example, pair.completion)
        if not pair.completion.strip():
            raise UnusableRowError(Code.EMPTY_ANSWER, "the completion is empty")
        text = prompt + pair.completion
        return _Draft(example, text, answer_start=len(prompt), with_special_tokens=self._data.add_special_tokens)

    def _take_tokens(self, example: Example, tokens: Tokens) -> None:
        largest = max(tokens.input_ids, default=0)
        if largest >= len(self.tokenizer.is_added):
            raise UnusableRowError(
                Code.SCHEMA, f"has the token id {largest}, but the tokenizer has {len(self.tokenizer.is_added)} tokens"
            )
        example.input_ids = tokens.input_ids
        example.trained = _stretches(tokens.is_trained)
        example.text = self.tokenizer.decode(tokens.input_ids)

    # -- what can be said of a row before it has tokens

    def _check_text(self, example: Example, text: str) -> None:
        if _SURROGATE.search(text):
            raise UnusableRowError(Code.ENCODING, "holds half of a surrogate pair, which is no character")
        if found := _CONTROL.search(text):
            code = f"U+{ord(found.group()):04X}"
            example.problems.append(RowProblem(Code.CONTROL_CHARACTERS, f"holds the control character {code}"))

    def _check_chat(self, example: Example, chat: Chat) -> None:
        before = ""
        answers = 0
        filled = 0
        for number, message in enumerate(chat.messages):
            role, content = message["role"], message["content"]
            self._check_text(example, content)
            if "reasoning_content" in message:
                self._check_text(example, message["reasoning_content"])
            is_answer = role == "assistant"
            answers += is_answer
            if is_answer and (content.strip() or "tool_calls" in message):
                filled += 1
            elif is_answer:
                example.problems.append(RowProblem(Code.EMPTY_ANSWER, f"turn {number} of the assistant is empty"))
            out_of_order = (role in ("user", "assistant") and role == before) or (role == "system" and number > 0)
            if out_of_order:
                example.problems.append(RowProblem(Code.ROLE_ORDER, f"message {number} is {role} after {before}"))
            before = role
        if answers and not filled:
            raise UnusableRowError(Code.EMPTY_ANSWER, "every answer of the assistant is empty")
        if chat.tools and self.template and not self.template.knows_tools:
            example.problems.append(RowProblem(Code.TEMPLATE_NO_TOOLS, "the template does not know tools"))

    # -- from the text to tokens

    def _tokenise(self, drafts: Sequence[_Draft], in_detail: bool) -> None:
        for with_special_tokens in (False, True):
            chosen = [
                draft
                for draft in drafts
                if draft.text and draft.example.is_usable and draft.with_special_tokens == with_special_tokens
            ]
            if not chosen:
                continue
            texts = [draft.text for draft in chosen]
            encodings = self.tokenizer.encode_batch(texts, add_special_tokens=with_special_tokens)
            for draft, encoding in zip(chosen, encodings, strict=True):
                self._mask(draft, encoding)
                if in_detail:
                    draft.example.stretches = self._stretches(draft, encoding)

    def _mask(self, draft: _Draft, encoding: Encoding) -> None:
        example = draft.example
        example.text = draft.text
        example.input_ids = encoding.ids
        if draft.chat is not None:
            self._mask_chat(draft, encoding, draft.chat)
        else:
            self._mask_text(draft, encoding)
        if example.trained and example.trained[0][0] == 0:
            _, end = example.trained.pop(0)
            if end > 1:
                example.trained.insert(0, (1, end))
        bos = self.tokenizer.bos_token_id
        if bos is not None and example.input_ids[:2] == [bos, bos]:
            example.problems.append(
                RowProblem(Code.DOUBLE_BOS, f"begins with {self.tokenizer.token_text(bos)!r} twice")
            )

    def _mask_chat(self, draft: _Draft, encoding: Encoding, chat: RenderedChat) -> None:
        example = draft.example
        example.has_prompt = True
        length = len(draft.text)
        for turn in chat.turns:
            if turn.message not in draft.trained_messages and self._train_on != "all":
                continue
            example.problems.extend(turn.problems)
            first = edge_at(encoding, turn.start, length)
            last = edge_at(encoding, turn.end, length)
            end = last.token if last.straddler is None else last.straddler
            self._check_prompt(example, draft.text, turn.start, first.token, turn.message)
            if first.token < end:
                example.trained.append((first.token, end))
        if self._train_on == "all":
            example.trained = [(0, len(example.input_ids))]

    def _check_prompt(self, example: Example, text: str, start: int, token: int, turn: int) -> None:
        problem = self._prompt_check.problem(text, start, example.input_ids, token, turn)
        if problem:
            example.problems.append(problem)

    def _mask_text(self, draft: _Draft, encoding: Encoding) -> None:
        """Plain text counts from its first token, a pair from its completion; both end with the end token."""
        example = draft.example
        eos = self.tokenizer.eos_token_id
        if self._data.add_special_tokens and eos is not None and example.input_ids[-1:] != [eos]:
            example.input_ids = [*example.input_ids, eos]
        start = 0
        if draft.answer_start is not None:
            example.has_prompt = True
            if example.input_ids[-1:] != [eos]:
                example.problems.append(RowProblem(Code.NO_END_OF_TURN, "no end token follows the completion"))
            if self._train_on != "all":
                start = self._completion_start(example, encoding, draft.answer_start, len(draft.text))
        if start < len(example.input_ids):
            example.trained.append((start, len(example.input_ids)))

    def _completion_start(self, example: Example, encoding: Encoding, place: int, length: int) -> int:
        edge = edge_at(encoding, place, length)
        if edge.straddler is not None:
            token = self.tokenizer.token_text(example.input_ids[edge.straddler])
            message = f"the token {token!r} lies across the border of prompt and completion"
            example.problems.append(RowProblem(Code.TEMPLATE_NOT_PREFIX, message))
        return edge.token

    def _stretches(self, draft: _Draft, encoding: Encoding) -> list[Stretch]:
        """Which tokens come from which text of the row."""
        length = len(draft.text)
        total = len(draft.example.input_ids)
        if draft.chat is None:
            if draft.answer_start is None:
                return [Stretch(0, total, "text")]
            edge = edge_at(encoding, draft.answer_start, length).token
            return [Stretch(0, edge, "user"), Stretch(edge, total, "assistant")]
        places = [(slot.start, slot.end, slot.role) for slot in draft.chat.slots if slot.role != "assistant"]
        places += [(turn.start, turn.end, "assistant") for turn in draft.chat.turns]
        return [
            Stretch(edge_at(encoding, start, length).token, edge_at(encoding, end, length).token, role)
            for start, end, role in sorted(places)
        ]

    # -- what can be said of the finished example

    def _judge(self, example: Example) -> None:
        if not example.is_usable:
            return
        if example.num_trained == 0:
            example.is_usable = False
            example.problems.append(RowProblem(Code.NO_TRAINED_TOKENS, "no token counts in the loss"))
            return
        share = example.num_trained / example.num_tokens
        if self._train_on == "all" or not example.has_prompt:
            return
        if share > _MOSTLY:
            example.problems.append(RowProblem(Code.MOSTLY_TRAINED, f"{share:.0%} of its tokens are trained"))
        elif share < _HARDLY:
            example.problems.append(RowProblem(Code.HARDLY_TRAINED, f"{share:.1%} of its tokens are trained"))

    def _find_stop_problem(self, stop_token_ids: frozenset[int]) -> RowProblem | None:
        """Whether the template's end of turn is no token at which generation stops."""
        token = self._finder.profile.plain.stop_token if self._finder else ""
        index = self.tokenizer.added_tokens.get(token) if token else None
        if index is None or not stop_token_ids or index in stop_token_ids:
            return None
        return RowProblem(
            Code.NO_END_OF_TURN, f"turns end with {token!r}, at which generation does not stop as the model is set up"
        )


def _plain_prompt(pair: Pair) -> str:
    return f"{pair.system}\n\n{pair.prompt}" if pair.system else pair.prompt


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
