"""From a row to what it means: a conversation, a prompt and its completion, a text, or tokens; called by `pipeline`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tui_trainer.engine.data.formats.detect import FormatSpec
from tui_trainer.engine.data.formats.messages import (
    Message,
    checked_text,
    clean_message,
    clean_messages,
    clean_tools,
    kind_of,
)
from tui_trainer.engine.data.formats.paths import ABSENT, look_up
from tui_trainer.engine.data.problems import Code, UnusableRowError
from tui_trainer.engine.data.rows import Row


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation, with the tools the assistant may call."""

    messages: list[Message]
    tools: list[dict[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt and its completion as plain texts."""

    prompt: str
    completion: str
    system: str | None = None

    def as_chat(self) -> Chat:
        """The pair as a question and its answer."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        turns = [{"role": "user", "content": self.prompt}, {"role": "assistant", "content": self.completion}]
        return Chat([*system, *turns])


@dataclass(frozen=True, slots=True)
class Text:
    """Text to go on writing."""

    text: str


@dataclass(frozen=True, slots=True)
class Tokens:
    """A row that is tokenised already; a label is its id or -100."""

    input_ids: list[int]
    is_trained: list[bool]


Meaning = Chat | Pair | Text | Tokens


def meaning_of(row: Row, spec: FormatSpec, *, allow_preference: bool = False) -> Meaning:
    """What a row means.

    Args:
        row: the row.
        spec: its format and columns.
        allow_preference: take the chosen side of preference rows.

    Raises:
        UnusableRowError: it does not fit the format; the problem names the column.
    """
    convert = _CONVERTERS.get(spec.format)
    if convert is None:
        columns = ", ".join(list(row)[:12]) or "none"
        raise UnusableRowError(Code.SCHEMA, f"its columns ({columns}) fit no known format")
    if spec.format in ("preference", "kto") and not allow_preference:
        raise UnusableRowError(Code.PREFERENCE_AS_SFT, "holds an answer that is judged, not an example to follow")
    return convert(_Fields(row, spec))


class _Fields:
    """A row's values by their role."""

    def __init__(self, row: Row, spec: FormatSpec) -> None:
        self._row = row
        self._spec = spec

    def column(self, role: str) -> str:
        return self._spec.columns.get(role, role)

    def has(self, role: str) -> bool:
        return role in self._spec.columns

    def get(self, role: str) -> Any:
        """The value of a role, None where the row has none."""
        if role not in self._spec.columns:
            return None
        value = look_up(self._row, self._spec.columns[role])
        return None if value is ABSENT else value

    def required(self, role: str) -> Any:
        value = look_up(self._row, self._spec.columns[role])
        if value is ABSENT:
            columns = ", ".join(list(self._row)[:12]) or "none"
            raise UnusableRowError(Code.SCHEMA, f"has no column {self.column(role)}; its columns are {columns}")
        if value is None:
            raise UnusableRowError(Code.NULL_FIELD, f"{self.column(role)} is null")
        return value

    def text(self, role: str) -> str:
        """A text, or a number where the column holds numbers."""
        value = self.required(role)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if is_number and math.isfinite(value) and self.column(role) in self._spec.number_columns:
            return str(value)
        return checked_text(value, self.column(role))

    def optional_text(self, role: str) -> str:
        value = self.get(role)
        return "" if value is None else checked_text(value, self.column(role))

    def system(self) -> list[Message]:
        text = self.optional_text("system")
        return [{"role": "system", "content": text}] if text else []

    def tools(self) -> list[dict[str, Any]] | None:
        return clean_tools(self.get("tools"), self.column("tools"))


def _conversation(fields: _Fields, role: str) -> Chat:
    messages = clean_messages(fields.required(role), fields.column(role))
    has_system = messages[0]["role"] in ("system", "developer")
    return Chat(messages if has_system else [*fields.system(), *messages], fields.tools())


def _messages(fields: _Fields) -> Chat:
    return _conversation(fields, "messages")


def _sharegpt(fields: _Fields) -> Chat:
    return _conversation(fields, "conversations")


def _alpaca(fields: _Fields) -> Meaning:
    instruction, extra = fields.text("instruction"), fields.optional_text("input")
    prompt = f"{instruction}\n{extra}" if extra else instruction
    output = fields.text("output")
    history = _history(fields)
    if not history:
        return Pair(prompt, output, fields.optional_text("system") or None)
    turns = [*history, {"role": "user", "content": prompt}, {"role": "assistant", "content": output}]
    return Chat([*fields.system(), *turns])


def _history(fields: _Fields) -> list[Message]:
    """Earlier turns of an Alpaca row: a list of [question, answer]."""
    history = fields.get("history")
    if not history:
        return []
    column = fields.column("history")
    if not isinstance(history, list) or not all(isinstance(turn, list) and len(turn) == 2 for turn in history):
        raise UnusableRowError(Code.SCHEMA, f"{column} is no list of [question, answer]")
    messages: list[Message] = []
    for number, (question, answer) in enumerate(history):
        messages.append({"role": "user", "content": checked_text(question, f"{column}.{number}.0")})
        messages.append({"role": "assistant", "content": checked_text(answer, f"{column}.{number}.1")})
    return messages


def _prompt_completion(fields: _Fields) -> Meaning:
    prompt, completion = fields.required("prompt"), fields.required("completion")
    is_of_messages = isinstance(prompt, (list, dict)) or isinstance(completion, (list, dict))
    if not is_of_messages and not fields.get("tools"):
        return Pair(fields.text("prompt"), fields.text("completion"), fields.optional_text("system") or None)
    return _joined(fields, prompt, completion, "completion")


def _joined(fields: _Fields, prompt: Any, answer: Any, role: str) -> Chat:
    """A conversation from a prompt and an answer, each a text or messages."""
    before = _side(prompt, fields.column("prompt"), "user")
    after = _side(answer, fields.column(role), "assistant")
    is_repeated = len(after) > len(before) and after[: len(before)] == before
    messages = after if is_repeated else [*before, *after]
    system = fields.system() if messages[0]["role"] not in ("system", "developer") else []
    return Chat([*system, *messages], fields.tools())


def _side(value: Any, column: str, role: str) -> list[Message]:
    """The prompt or the answer as messages: a list of them, a single one, or the text of one."""
    return clean_messages(value, column) if isinstance(value, list) else [clean_message(value, column, role)]


def _preference(fields: _Fields) -> Chat:
    chosen = fields.required("chosen")
    if not fields.has("prompt"):
        if isinstance(chosen, str):
            raise UnusableRowError(Code.SCHEMA, "has no prompt")
        return Chat([*fields.system(), *clean_messages(chosen, fields.column("chosen"))], fields.tools())
    return _joined(fields, fields.required("prompt"), chosen, "chosen")


def _kto(fields: _Fields) -> Meaning:
    if fields.required("label") is not True:
        raise UnusableRowError(Code.PREFERENCE_AS_SFT, "is an answer judged as bad; only good ones are trained on")
    return _messages(fields) if fields.has("messages") else _prompt_completion(fields)


def _text(fields: _Fields) -> Text:
    return Text(fields.text("text"))


def _tokenized(fields: _Fields) -> Tokens:
    input_ids = fields.required("input_ids")
    if not isinstance(input_ids, list) or not all(type(item) is int and item >= 0 for item in input_ids):
        raise UnusableRowError(Code.SCHEMA, f"{fields.column('input_ids')} is no list of token ids")
    labels = fields.get("labels")
    if labels is None:
        return Tokens(input_ids, [True] * len(input_ids))
    if not isinstance(labels, list) or len(labels) != len(input_ids):
        raise UnusableRowError(Code.SCHEMA, f"{fields.column('labels')} has not the length of the input_ids")
    for label, token in zip(labels, input_ids, strict=True):
        if label not in (-100, token):
            raise UnusableRowError(
                Code.SCHEMA, f"{fields.column('labels')} has {kind_of(label)} that is neither -100 nor the id"
            )
    return Tokens(input_ids, [label != -100 for label in labels])


_CONVERTERS: Mapping[str, Callable[[_Fields], Meaning]] = {
    "messages": _messages,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
    "prompt_completion": _prompt_completion,
    "text": _text,
    "tokenized": _tokenized,
    "preference": _preference,
    "kto": _kto,
}
