"""Saving: transcripts, and rows that our own data pipeline reads back as the same conversation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tui_trainer.engine.chat.prompt_file import read_prompts
from tui_trainer.engine.data.formats.detect import resolve_format
from tui_trainer.engine.data.formats.normalise import Chat, Pair, meaning_of
from tui_trainer.errors import RefusedError, UsageError
from tui_trainer.tui.chat.reply import Reply
from tui_trainer.tui.chat.saving import FORMATS, save
from tui_trainer.tui.chat.tree import Conversation, messages_to

ROW_FORMATS = [name for name, form in FORMATS.items() if form.is_rows and name != "prompts"]


def conversation_of(*texts: str) -> Conversation:
    conversation = Conversation()
    for question, answer in zip(texts[::2], texts[1::2], strict=True):
        conversation.answer(conversation.ask(question), [Reply(generated=answer, finish_reason="stop", model="m")])
    return conversation


def read_back(path: Path) -> list[list[dict[str, Any]]]:
    """The conversations that the data pipeline sees in a file."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    spec = resolve_format(rows, "auto", {}, "sft", str(path))
    meanings = [meaning_of(row, spec) for row in rows]
    chats = [meaning.as_chat() if isinstance(meaning, Pair) else meaning for meaning in meanings]
    return [list(chat.messages) for chat in chats if isinstance(chat, Chat)]


@pytest.mark.parametrize("form", ROW_FORMATS)
@pytest.mark.parametrize("system", [None, "Be short."])
@pytest.mark.parametrize("texts", [("hi", "ho"), ("hi", "ho", "zwei\nlines", "\x1b[31mred é 日")])
def test_rows_are_read_back_as_the_same_conversation(
    tmp_path: Path, form: str, system: str | None, texts: tuple[str, ...]
) -> None:
    conversation, path = conversation_of(*texts), tmp_path / "rows.jsonl"
    save(conversation, system, form, path)
    save(conversation, system, form, path, append=True)
    expected = messages_to(conversation.tip, system)
    assert read_back(path) == [expected, expected]


def test_the_questions_become_a_set_of_prompts(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    save(conversation_of("hi", "ho", "and?", "more"), "Be short.", "prompts", path)
    (item,) = read_prompts(path)
    roles = [message["role"] for message in item.messages()]
    assert roles == ["system", "user", "assistant", "user"]
    assert item.name == "and?"


def test_a_file_of_other_columns_is_not_added_to(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    save(conversation_of("hi", "ho"), None, "messages", path)
    with pytest.raises(RefusedError, match="columns messages"):
        save(conversation_of("hi", "ho"), None, "alpaca", path, append=True)
    assert len(path.read_text().splitlines()) == 1


def test_a_file_without_a_last_line_break_is_added_to(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}')
    save(conversation_of("hi", "ho"), None, "messages", path, append=True)
    assert len(read_back(path)) == 2


def test_without_an_answer_there_is_nothing_to_save(tmp_path: Path) -> None:
    conversation = Conversation()
    conversation.ask("hello?")
    with pytest.raises(UsageError, match="no answer"):
        save(conversation, None, "markdown", tmp_path / "chat.md")
    assert not (tmp_path / "chat.md").exists()


def test_the_markdown_has_roles_and_how_answers_came_about(tmp_path: Path) -> None:
    path = tmp_path / "chat.md"
    save(conversation_of("hi", "ho"), "Be short.", "markdown", path)
    assert path.read_text().startswith("## system\n\nBe short.\n\n## user\n\nhi\n\n## assistant\n\nho\n\n*m · stop")


def test_the_json_has_every_branch(tmp_path: Path) -> None:
    path, conversation = tmp_path / "chat.json", conversation_of("hi", "ho")
    conversation.answer(conversation.path[0], [Reply(generated="hey", finish_reason="length")])
    save(conversation, None, "json", path)
    document = json.loads(path.read_text())
    assert [turn["content"] for turn in document["turns"]] == ["hi", "ho", "hey"]
    assert document["messages"][-1]["content"] == "hey"


def test_a_folder_that_is_not_there_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        save(conversation_of("hi", "ho"), None, "json", tmp_path / "none" / "chat.json")
