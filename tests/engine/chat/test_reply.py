"""Thoughts and calls of tools in replies."""

from __future__ import annotations

from typing import Any

import pytest

from tui_trainer.engine.chat.reply import read_reply

CALL = '{"name": "add", "arguments": {"a": 1}}'
CALLED = ({"name": "add", "arguments": {"a": 1}},)


@pytest.mark.parametrize(
    ("text", "prompt", "answer", "thinking", "is_closed"),
    [
        ("plain", "", "plain", None, True),
        ("<think>\nhm\n</think>\n\nyes", "", "yes", "hm", True),
        ("  <think>hm", "", "", "hm", False),
        ("hm</think>yes", "assistant\n<think>\n", "yes", "hm", True),
        ("<think></think>yes", "<think>\n", "yes", "", True),
        ("a <think> b </think>", "", "a <think> b </think>", None, True),
        ("", "<think>", "", "", False),
    ],
)
def test_thoughts_are_told_from_the_answer(
    text: str, prompt: str, answer: str, thinking: str | None, is_closed: bool
) -> None:
    reply = read_reply(text, prompt)
    assert (reply.answer, reply.thinking, reply.is_closed) == (answer, thinking, is_closed)


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        (f"Let me see.\n<tool_call>\n{CALL}\n</tool_call>", CALLED),
        (f"<tool_call>{CALL}", CALLED),
        (f"[TOOL_CALLS] [{CALL}, {CALL}]", CALLED * 2),
        ('{"name": "add", "parameters": {"a": 1}}', CALLED),
        ("<tool_call>{broken</tool_call>", ()),
        ('{"answer": 42}', ()),
        ("<think>x</think><tool_call>" + CALL + "</tool_call>", CALLED),
        ("[1, 2]", ()),
        ("[" * 100_000, ()),
    ],
)
def test_calls_of_tools_are_read_where_they_are_json(text: str, calls: tuple[Any, ...]) -> None:
    assert read_reply(text).tool_calls == calls
