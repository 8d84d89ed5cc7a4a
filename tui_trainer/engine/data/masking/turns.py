"""Finds what the assistant says in a rendered conversation, whatever the template does to it.

A turn begins where the prompt of a chat ends: the text of the messages before it, rendered with the header of the next
turn, is what inference feeds, so what follows it is what the model has to say. Where the conversation does not begin
with that prompt, the turn is found by marks put around its content, and the difference is reported. It ends behind the
end-of-turn token that `probe` found.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tui_trainer.engine.data.formats.messages import Message
from tui_trainer.engine.data.formats.normalise import Chat
from tui_trainer.engine.data.masking.anchors import AnchorFinder
from tui_trainer.engine.data.masking.layout import LayoutCache
from tui_trainer.engine.data.masking.probe import Closing, added_pattern, common_prefix, probe_template
from tui_trainer.engine.data.masking.rendered import RenderedChat, Slot, Turn
from tui_trainer.engine.data.problems import Code, RowProblem
from tui_trainer.engine.data.templates.chat_template import ChatTemplate, RenderError
from tui_trainer.engine.data.tokenizer import TextTokenizer

_FIRST_MARK = 0x100000
_LAST_MARK = 0x10FFFD
_MARK = re.compile(f"[{chr(_FIRST_MARK)}-{chr(_LAST_MARK)}]")
_LONGEST_TOKEN = 256
_TEXT_FIELDS = ("reasoning_content", "content")


class TurnFinder:
    """Renders conversations and finds the assistant's turns in them.

    Args:
        template: the chat template.
        tokenizer: the tokenizer, whose added tokens end turns.
    """

    def __init__(self, template: ChatTemplate, tokenizer: TextTokenizer) -> None:
        self.template = template
        self.profile = probe_template(template, tokenizer)
        self._tokenizer = tokenizer
        self._added = added_pattern(tokenizer)
        self._layouts = LayoutCache(AnchorFinder(tokenizer, self._added))

    def find(self, chat: Chat, *, with_care: bool = False) -> RenderedChat:
        """The rendered conversation with its turns.

        Args:
            chat: the conversation.
            with_care: search it even if its shape is known, so that what is reported quotes this conversation.

        Raises:
            RenderError: the template refuses the conversation.
        """
        messages = self.profile.adapt(chat.messages, self.template)
        text = self.template.render(messages, chat.tools)
        known = None if with_care else self._layouts.apply(text, chat, lambda number: self._prompt_if_any(chat, number))
        if known:
            return known
        rendered = _Search(self, chat, messages, text).run()
        self._layouts.learn(rendered, chat)
        return rendered

    def render_prompt(self, chat: Chat, before: int) -> str:
        """What a chat feeds before message number `before`.

        Raises:
            RenderError: the template refuses the conversation.
        """
        messages = self.profile.adapt(chat.messages[:before], self.template)
        return self.template.render(messages, chat.tools, add_generation_prompt=True)

    def _prompt_if_any(self, chat: Chat, before: int) -> str | None:
        try:
            return self.render_prompt(chat, before)
        except RenderError:
            return None

    def first_difference(self, chat_text: str, trained_text: str) -> str:
        """The first token in which what a chat feeds differs from what is trained on, in words."""
        fed, trained = self._tokenizer.encode(chat_text), self._tokenizer.encode(trained_text)
        place = next(
            (number for number, (left, right) in enumerate(zip(fed, trained, strict=False)) if left != right),
            min(len(fed), len(trained)),
        )
        return f"at token {place} a chat has {self._shown(fed, place)}, training has {self._shown(trained, place)}"

    def token_border(self, text: str, place: int) -> int:
        """The place itself, or where the added token begins that lies across it."""
        begin = max(place - _LONGEST_TOKEN, 0)
        for match in self._added.finditer(text, begin, place + _LONGEST_TOKEN):
            if match.start() < place < match.end():
                return match.start()
        return place

    def _shown(self, ids: Sequence[int], place: int) -> str:
        return repr(self._tokenizer.token_text(ids[place])) if place < len(ids) else "nothing"


@dataclass(frozen=True)
class _Marked:
    """Where the texts of a row lie in its rendering.

    Attributes:
        slots: the texts that were found.
        lost: message number and field of those that were not.
    """

    slots: list[Slot]
    lost: list[tuple[int, str]]


class _Search:
    """The search in one conversation."""

    def __init__(self, finder: TurnFinder, chat: Chat, messages: list[Message], text: str) -> None:
        self._finder = finder
        self._chat = chat
        self._messages = messages
        self._text = text

    def run(self) -> RenderedChat:
        marked = self._locate_texts()
        turns: list[Turn] = []
        problems = list(self._dropped(marked))
        for number, message in enumerate(self._messages):
            if message["role"] == "assistant":
                turn = self._turn(number, marked, turns[-1].end if turns else 0)
                if turn:
                    turns.append(turn)
        return RenderedChat(self._text, turns, marked.slots, tuple(problems))

    # -- where the texts of the row are

    def _locate_texts(self) -> _Marked:
        """Put a private character before and behind each text, render, and see where they come out."""
        fields = [
            (number, field)
            for number, message in enumerate(self._chat.messages)
            for field in _TEXT_FIELDS
            if isinstance(message.get(field), str) and message[field].strip()
        ]
        if _MARK.search(self._text) or 2 * len(fields) > _LAST_MARK - _FIRST_MARK:
            return self._search_texts(fields)
        marked = self._render_marked(fields)
        if marked is None:
            marked = self._mark_one_by_one(fields)
        marked.slots.sort(key=lambda slot: slot.start)
        return marked

    def _render_marked(self, fields: Sequence[tuple[int, str]]) -> _Marked | None:
        """Mark all texts at once; None if the marks changed what the template prints."""
        messages = [dict(message) for message in self._messages]
        for order, (number, field) in enumerate(fields):
            _set_text(messages[number], field, _with_marks(self._chat.messages[number][field], order))
        try:
            text = self._finder.template.render(messages, self._chat.tools)
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
        return _Marked(slots, lost)

    def _mark_one_by_one(self, fields: Sequence[tuple[int, str]]) -> _Marked:
        """Mark each text alone: the template looks into some of them."""
        slots: list[Slot] = []
        lost: list[tuple[int, str]] = []
        for field in fields:
            alone = self._render_marked([field])
            found = alone or self._search_texts([field])
            slots.extend(found.slots)
            lost.extend(found.lost)
        return _Marked(slots, lost)

    def _search_texts(self, fields: Sequence[tuple[int, str]]) -> _Marked:
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
        return _Marked(slots, lost)

    def _dropped(self, marked: _Marked) -> list[RowProblem]:
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
            text = self._finder.template.render(marked, self._chat.tools)
        except RenderError:
            return ""
        for order, (number, name) in enumerate(calls):
            if chr(_FIRST_MARK + order) not in text:
                return f"the call of {name} in message {number}"
        return ""

    # -- one turn

    def _turn(self, number: int, marked: _Marked, floor: int) -> Turn | None:
        slots = [slot for slot in marked.slots if slot.message == number and slot.start >= floor]
        start, problems = self._start(number, slots, floor)
        if start is None:
            return None
        end, found = self._end(number, slots[-1].end if slots else start, marked)
        problems += found
        problems += self._rewritten(number, start, end)
        return Turn(number, start, end, tuple(problems))

    def _start(self, number: int, slots: Sequence[Slot], floor: int) -> tuple[int | None, list[RowProblem]]:
        """Where the prompt of a chat ends, and what is wrong with it."""
        said = slots[0].start if slots else None
        try:
            prompt = self._finder.render_prompt(self._chat, number)
        except RenderError as error:
            message = f"turn {number}: a chat could not be at this point, because the template refuses it: {error}"
            if number == 0:
                message = "the conversation begins with the assistant; no chat does"
            return said, [RowProblem(Code.ROLE_ORDER, message)]
        shared = self._finder.token_border(self._text, common_prefix(prompt, self._text))
        if shared == len(prompt) and shared >= floor and (said is None or shared <= said):
            return shared, []
        difference = self._finder.first_difference(prompt, self._text)
        problem = RowProblem(Code.TEMPLATE_NOT_PREFIX, f"before turn {number} {difference}")
        if said is None:
            return (shared, [problem]) if shared >= floor else (None, [problem])
        if floor <= shared <= said and not self._text[shared:said].strip():
            return said, [problem]
        return self._behind_header(prompt, number, floor, said), [problem]

    def _behind_header(self, prompt: str, number: int, floor: int, said: int) -> int:
        """Where the header of the turn ends, in a conversation that does not begin with the prompt."""
        try:
            before = self._finder.template.render(self._messages[:number], self._chat.tools) if number else ""
        except RenderError:
            return said
        header = prompt[common_prefix(before, prompt) :]
        while header:
            place = self._text.rfind(header, floor, said)
            if place >= 0:
                return place + len(header)
            # a header that opens the reasoning is shorter in a conversation that has none
            shorter = header.rstrip()
            header = shorter if shorter != header else shorter[: max(shorter.rfind("<"), 0)]
        return said

    def _end(self, number: int, said_end: int, marked: _Marked) -> tuple[int, list[RowProblem]]:
        """Behind the end-of-turn token, and what is wrong with it."""
        message = self._chat.messages[number]
        profile = self._finder.profile
        closing = profile.with_calls if message.get("tool_calls") else profile.plain
        is_last = number == len(self._messages) - 1
        following = min((slot.start for slot in marked.slots if slot.message > number), default=len(self._text))
        following = max(following, said_end)
        expected = closing.last if is_last else closing.inner
        end = (
            self._end_of_calls(number, said_end, following, closing)
            if message.get("tool_calls")
            else self._end_of_text(message, said_end, following, expected, closing)
        )
        if end is not None:
            return end, [] if closing.stop_token else [_no_stop_token(number)]
        unclosed = self._unclosed_end(number, said_end, following)
        return unclosed, [RowProblem(Code.NO_END_OF_TURN, f"turn {number} is not closed by an end-of-turn token")]

    def _end_of_text(
        self, message: Message, said_end: int, following: int, expected: str, closing: Closing
    ) -> int | None:
        content = message.get("content") or ""
        blank = content[len(content.rstrip()) :]
        if expected:
            for gap in dict.fromkeys((blank, "")):
                if self._text.startswith(gap + expected, said_end):
                    return said_end + len(gap) + len(expected)
        return self._behind(closing.stop_token if expected else "", said_end, following)

    def _end_of_calls(self, number: int, said_end: int, following: int, closing: Closing) -> int | None:
        """The last end-of-turn token before the next turn begins: arguments may hold anything."""
        if not closing.stop_token:
            return None
        try:
            turn_end = common_prefix(
                self._finder.template.render(self._messages[: number + 1], self._chat.tools), self._text
            )
        except RenderError:
            turn_end = following
        if said_end < turn_end:
            place = self._text.rfind(closing.stop_token, said_end, turn_end)
            if place >= 0:
                return place + len(closing.stop_token)
        return self._behind(closing.stop_token, said_end, following)

    def _behind(self, token: str, start: int, stop: int) -> int | None:
        place = self._text.find(token, start, stop) if token else -1
        return place + len(token) if place >= 0 else None

    def _unclosed_end(self, number: int, said_end: int, following: int) -> int:
        """Where a turn without end-of-turn token ends: behind its text or its calls."""
        if not self._chat.messages[number].get("tool_calls"):
            return said_end
        try:
            rendered = self._finder.template.render(self._messages[: number + 1], self._chat.tools)
        except RenderError:
            return said_end
        end = min(common_prefix(rendered, self._text), following)
        return max(said_end, len(self._text[:end].rstrip()))

    def _rewritten(self, number: int, start: int, end: int) -> list[RowProblem]:
        """Whether the turn looked different when it was the last one, as it was when the model said it."""
        if number == len(self._messages) - 1:
            return []
        try:
            fresh = self._finder.template.render(self._messages[: number + 1], self._chat.tools)
        except RenderError:
            return []
        if fresh.startswith(self._text[:end]) or self._text.startswith(fresh):
            return []
        if common_prefix(fresh, self._text) < start:
            # the turns before it differ already, which is reported where they are
            return []
        difference = self._finder.first_difference(fresh, self._text[:end])
        return [RowProblem(Code.TEMPLATE_NOT_PREFIX, f"turn {number} is rewritten once it is history, {difference}")]


def _no_stop_token(number: int) -> RowProblem:
    return RowProblem(
        Code.NO_END_OF_TURN, f"turn {number} ends in ordinary text, not in a token at which generation stops"
    )


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
