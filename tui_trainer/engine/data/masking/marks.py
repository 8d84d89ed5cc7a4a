"""Where the texts of a row come out in its rendering, and which of them do not; used by `turns`.

A private character is put before and behind each text, and the conversation is rendered once more: the characters show
the places. If they change what the template prints, because it looks into a text, each text is marked alone, and what
still cannot be marked is looked up word for word.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tui_trainer.engine.data.formats.messages import Message
from tui_trainer.engine.data.formats.normalise import Chat
from tui_trainer.engine.data.masking.rendered import Slot
from tui_trainer.engine.data.problems import Code, RowProblem
from tui_trainer.engine.data.templates.chat_template import ChatTemplate, RenderError

TEXT_FIELDS = ("reasoning_content", "content")
"""The texts of a message, in the order templates print them."""

_FIRST_MARK = 0x100000
_LAST_MARK = 0x10FFFD
_MARK = re.compile(f"[{chr(_FIRST_MARK)}-{chr(_LAST_MARK)}]")


@dataclass(frozen=True)
class MarkedTexts:
    """Where the texts of a row lie in its rendering.

    Attributes:
        slots: the texts that were found.
        lost: message number and field of those that were not.
    """

    slots: list[Slot]
    lost: list[tuple[int, str]]


class TextMarks:
    """The texts of one conversation.

    Args:
        template: renders it.
        chat: the conversation as the row has it.
        messages: its messages as the template takes them.
        text: what the template makes of them.
    """

    def __init__(self, template: ChatTemplate, chat: Chat, messages: list[Message], text: str) -> None:
        self._template = template
        self._chat = chat
        self._messages = messages
        self._text = text

    def locate(self) -> MarkedTexts:
        """Put a private character before and behind each text, render, and see where they come out."""
        fields = [
            (number, field)
            for number, message in enumerate(self._chat.messages)
            for field in TEXT_FIELDS
            if isinstance(message.get(field), str) and message[field].strip()
        ]
        if _MARK.search(self._text) or 2 * len(fields) > _LAST_MARK - _FIRST_MARK:
            return self._search_texts(fields)
        marked = self._render_marked(fields)
        if marked is None:
            marked = self._mark_one_by_one(fields)
        marked.slots.sort(key=lambda slot: slot.start)
        return marked

    def _render_marked(self, fields: Sequence[tuple[int, str]]) -> MarkedTexts | None:
        """Mark all texts at once; None if the marks changed what the template prints."""
        messages = [dict(message) for message in self._messages]
        for order, (number, field) in enumerate(fields):
            _set_text(messages[number], field, _with_marks(self._chat.messages[number][field], order))
        try:
            text = self._template.render(messages, self._chat.tools)
        except RenderError:
            return None
        if _MARK.sub("", text) != self._text:
            return None
        places = {match.group(): match.start() - passed for passed, match in enumerate(_MARK.finditer(text))}
        slots, lost = [], []
        for order, (number, field) in enumerate(fields):
            start, end = (places.get(chr(_FIRST_MARK + 2 * order + side)) for side in (0, 1))
            if start is None or end is None:
                lost.append((number, field))
            else:
                slots.append(Slot(number, self._chat.messages[number]["role"], start, end))
        return MarkedTexts(slots, lost)

    def _mark_one_by_one(self, fields: Sequence[tuple[int, str]]) -> MarkedTexts:
        """Mark each text alone: the template looks into some of them."""
        slots: list[Slot] = []
        lost: list[tuple[int, str]] = []
        for field in fields:
            alone = self._render_marked([field])
            found = alone or self._search_texts([field])
            slots.extend(found.slots)
            lost.extend(found.lost)
        return MarkedTexts(slots, lost)

    def _search_texts(self, fields: Sequence[tuple[int, str]]) -> MarkedTexts:
        """Look the texts up word for word, one behind the other."""
        slots: list[Slot] = []
        lost: list[tuple[int, str]] = []
        at = 0
        for number, field in fields:
            content = self._chat.messages[number][field].strip()
            place = self._text.find(content, at)
            if place < 0 and "</think>" in content:
                content = content.rpartition("</think>")[2].strip()
                place = self._text.find(content, at) if content else -1
            if place < 0:
                lost.append((number, field))
            else:
                at = place + len(content)
                slots.append(Slot(number, self._chat.messages[number]["role"], place, at))
        return MarkedTexts(slots, lost)

    def dropped(self, marked: MarkedTexts) -> list[RowProblem]:
        """A problem for each text of the row that the template leaves out."""
        problems = []
        for number, field in marked.lost:
            message = self._chat.messages[number]
            if message[field].strip() not in self._text:
                what = "reasoning" if field == "reasoning_content" else "content"
                problems.append(
                    RowProblem(
                        Code.TEMPLATE_DROPS_CONTENT, f"the {what} of message {number} ({message['role']}) is left out"
                    )
                )
        missing = self._missing_tool()
        if missing:
            problems.append(RowProblem(Code.TEMPLATE_NO_TOOLS, f"{missing} is left out"))
        return problems

    def _missing_tool(self) -> str:
        """A tool or a call that the template leaves out, in words; empty if there is none."""
        for tool in self._chat.tools or ():
            name = str((tool.get("function") or tool).get("name", ""))
            if name not in self._text:
                return f"the tool {name}"
        calls = [
            (number, call["function"]["name"])
            for number, message in enumerate(self._messages)
            for call in message.get("tool_calls", ())
        ]
        if not calls:
            return ""
        marked = copy.deepcopy(self._messages)
        for order, call in enumerate(call for message in marked for call in message.get("tool_calls", ())):
            call["function"]["name"] += chr(_FIRST_MARK + order)
        try:
            text = self._template.render(marked, self._chat.tools)
        except RenderError:
            return ""
        for order, (number, name) in enumerate(calls):
            if chr(_FIRST_MARK + order) not in text:
                return f"the call of {name} in message {number}"
        return ""


def _with_marks(text: str, order: int) -> str:
    """The text with marks around it, inside the blanks at its ends, which templates trim."""
    core = text.strip()
    lead = text[: len(text) - len(text.lstrip())]
    trail = text[len(text.rstrip()) :]
    return f"{lead}{chr(_FIRST_MARK + 2 * order)}{core}{chr(_FIRST_MARK + 2 * order + 1)}{trail}"


def _set_text(message: dict[str, Any], field: str, text: str) -> None:
    if field == "content" and isinstance(message["content"], list):
        message["content"] = [{"type": "text", "text": text}]
    else:
        message[field] = text
        if field == "reasoning_content" and "thinking" in message:
            message["thinking"] = text
