"""A conversation as a file: a transcript, a row to train on in one of our formats, a row of a set of prompts."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tui_trainer.errors import RefusedError, UsageError
from tui_trainer.paths import is_there
from tui_trainer.runs.files import dump_line, jsonable, write_bytes
from tui_trainer.tui.chat.tree import Conversation, messages_to, to_tree

Messages = Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class SaveFormat:
    """A way to write a conversation.

    Attributes:
        name: what it is called.
        about: what it is, in a phrase.
        suffix: the usual end of the file's name.
        is_rows: whether it is a row among others, so that a file can be added to.
    """

    name: str
    about: str
    suffix: str
    is_rows: bool


FORMATS: Mapping[str, SaveFormat] = {
    made.name: made
    for made in (
        SaveFormat("markdown", "the conversation to read", ".md", is_rows=False),
        SaveFormat("json", "the whole tree with every branch, its models, ids and seeds", ".json", is_rows=False),
        SaveFormat("messages", "a row to train on: messages with role and content", ".jsonl", is_rows=True),
        SaveFormat("sharegpt", "a row to train on: conversations with from and value", ".jsonl", is_rows=True),
        SaveFormat("alpaca", "a row to train on: instruction, input, output, history", ".jsonl", is_rows=True),
        SaveFormat("prompt_completion", "a row to train on: prompt and completion", ".jsonl", is_rows=True),
        SaveFormat("prompts", "the last question and what was before it, for a set of prompts", ".jsonl", is_rows=True),
    )
}


def save(conversation: Conversation, system: str | None, form: str, path: Path, *, append: bool = False) -> str:
    """Write the conversation as it stands.

    Args:
        conversation: the tree.
        system: the system message.
        form: a key of `FORMATS`.
        path: the file.
        append: add a row to a file that is there; without it the file is replaced.

    Returns:
        What was done, as a sentence.

    Raises:
        UsageError: there is nothing to save, or the file cannot be written.
        RefusedError: the rows of the file have other columns.
    """
    return write(content_of(conversation, system, form), path, append=append)


def content_of(conversation: Conversation, system: str | None, form: str) -> bytes | dict[str, Any]:
    """The conversation as it stands now, as a whole file or as a row.

    Raises:
        UsageError: there is nothing to save.
    """
    messages = _answered(messages_to(conversation.tip, system))
    if not any(message["role"] == "assistant" for message in messages):
        raise UsageError("there is no answer to save yet", remedy="Ask something first.")
    return _ROWS[form](messages) if FORMATS[form].is_rows else _document(conversation, messages, form)


def write(content: bytes | dict[str, Any], path: Path, *, append: bool = False) -> str:
    """Write what `content_of` gave; as `save`. Touches files only, so that it can be done in a thread."""
    try:
        if isinstance(content, bytes):
            write_bytes(path, content)
            return f"saved {path}"
        if append and is_there(path):
            _append(path, content)
            return f"added a row to {path}"
        write_bytes(path, dump_line(content))
        return f"saved a row as {path}"
    except OSError as error:
        raise UsageError(f"cannot be written: {error.strerror}", where=str(path)) from None


def _answered(messages: Messages) -> list[Mapping[str, str]]:
    """The conversation up to its last answer."""
    answers = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
    return list(messages[: answers[-1] + 1]) if answers else []


def _document(conversation: Conversation, messages: Messages, form: str) -> bytes:
    if form == "markdown":
        return to_markdown(conversation, messages).encode("utf-8", "replace")
    document = {"version": 1, "messages": messages, "turns": to_tree(conversation)}
    return (json.dumps(jsonable(document), ensure_ascii=False, indent=1) + "\n").encode("utf-8", "replace")


def to_markdown(conversation: Conversation, messages: Messages) -> str:
    """The conversation to read, with how each answer came about."""
    notes = {
        turn.text: f"{turn.reply.model} · {turn.reply.note()}" for turn in conversation.path if turn.reply is not None
    }
    parts = []
    for message in messages:
        note = notes.get(message["content"], "") if message["role"] == "assistant" else ""
        below = f"\n\n*{note}*" if note else ""
        parts.append(f"## {message['role']}\n\n{message['content']}{below}")
    return "\n\n".join(parts) + "\n"


def _append(path: Path, row: Mapping[str, Any]) -> None:
    with path.open("rb") as file:
        first = file.readline()
        file.seek(0, os.SEEK_END)
        ends_open = False
        if file.tell():
            file.seek(-1, os.SEEK_END)
            ends_open = file.read(1) != b"\n"
    columns = _columns(first)
    if first.strip() and columns != set(row):
        has = f"has the columns {', '.join(sorted(columns))}" if columns else "is no JSON object"
        raise RefusedError(
            f"its first row {has}, the new one {', '.join(sorted(row))}",
            where=str(path),
            remedy="Choose the format of the file, or another file.",
        )
    with path.open("ab") as file:
        file.write((b"\n" if ends_open else b"") + dump_line(row))


def _columns(line: bytes) -> set[str]:
    try:
        found = json.loads(line)
    except ValueError:
        return set()
    return set(found) if isinstance(found, dict) else set()


def _messages_row(messages: Messages) -> dict[str, Any]:
    return {"messages": [dict(message) for message in messages]}


def _sharegpt_row(messages: Messages) -> dict[str, Any]:
    names = {"user": "human", "assistant": "gpt"}
    return {
        "conversations": [
            {"from": names.get(message["role"], message["role"]), "value": message["content"]} for message in messages
        ]
    }


def _alpaca_row(messages: Messages) -> dict[str, Any]:
    system = [message["content"] for message in messages if message["role"] == "system"]
    said = [message for message in messages if message["role"] != "system"]
    pairs = _pairs(said)
    question, answer = pairs[-1]
    return {
        "instruction": question,
        "input": "",
        "output": answer,
        "system": "\n".join(system),
        "history": [list(pair) for pair in pairs[:-1]],
    }


def _pairs(messages: Messages) -> list[tuple[str, str]]:
    """Question and answer in turn; questions that follow each other are one."""
    pairs, question = [], ""
    for message in messages:
        if message["role"] == "assistant":
            pairs.append((question, message["content"]))
            question = ""
        else:
            question = "\n".join(filter(None, (question, message["content"])))
    return pairs


def _prompt_completion_row(messages: Messages) -> dict[str, Any]:
    """Two texts where there is one question, else the messages before the last answer and that answer."""
    if len(messages) == 2:
        return {"prompt": messages[0]["content"], "completion": messages[1]["content"]}
    return {"prompt": [dict(message) for message in messages[:-1]], "completion": [dict(messages[-1])]}


def _prompt_row(messages: Messages) -> dict[str, Any]:
    """The question that was answered last, with the conversation before it; its answer is left to others."""
    return {"messages": [dict(message) for message in messages[:-1]]}


_ROWS: Mapping[str, Callable[[Messages], dict[str, Any]]] = {
    "messages": _messages_row,
    "sharegpt": _sharegpt_row,
    "alpaca": _alpaca_row,
    "prompt_completion": _prompt_completion_row,
    "prompts": _prompt_row,
}
