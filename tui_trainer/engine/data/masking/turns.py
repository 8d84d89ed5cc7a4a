"""Finds what the assistant says in a rendered conversation, whatever the template does to it.

A turn begins where the prompt of a chat ends: the text of the messages before it, rendered with the header of the next
turn, is what inference feeds, so what follows it is what the model has to say. Where the conversation does not begin
with that prompt, the turn is found by marks put around its content, and the difference is reported. It ends behind the
end-of-turn token that `probe` found.
"""

from __future__ import annotations

from collections.abc import Sequence

from tui_trainer.engine.data.formats.messages import Message
from tui_trainer.engine.data.formats.normalise import Chat
from tui_trainer.engine.data.masking.anchors import AnchorFinder
from tui_trainer.engine.data.masking.layout import LayoutCache
from tui_trainer.engine.data.masking.marks import TEXT_FIELDS, MarkedTexts, TextMarks
from tui_trainer.engine.data.masking.probe import Closing, added_pattern, common_prefix, probe_template
from tui_trainer.engine.data.masking.rendered import RenderedChat, Slot, Turn
from tui_trainer.engine.data.problems import Code, RowProblem
from tui_trainer.engine.data.templates.chat_template import ChatTemplate, RenderError
from tui_trainer.engine.data.tokenizer import TextTokenizer

_LONGEST_TOKEN = 256


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

    def difference(self, where: str, chat_text: str, trained_text: str) -> RowProblem:
        """The problem that what a chat feeds differs from what is trained on, with the first token that does.

        Args:
            where: what of it differs, "before turn 2".
            chat_text: what is fed.
            trained_text: what is trained on.
        """
        fed, trained = self._tokenizer.encode(chat_text), self._tokenizer.encode(trained_text)
        place = next(
            (number for number, (left, right) in enumerate(zip(fed, trained, strict=False)) if left != right),
            min(len(fed), len(trained)),
        )
        sides = f"a chat has {self._shown(fed, place)}, training has {self._shown(trained, place)}"
        return RowProblem(Code.TEMPLATE_NOT_PREFIX, f"{where} at token {place} {sides}", place)

    def token_border(self, text: str, place: int) -> int:
        """The place itself, or where the added token begins that lies across it."""
        begin = max(place - _LONGEST_TOKEN, 0)
        for match in self._added.finditer(text, begin, place + _LONGEST_TOKEN):
            if match.start() < place < match.end():
                return match.start()
        return place

    def _shown(self, ids: Sequence[int], place: int) -> str:
        return repr(self._tokenizer.token_text(ids[place])) if place < len(ids) else "nothing"


class _Search:
    """The search in one conversation."""

    def __init__(self, finder: TurnFinder, chat: Chat, messages: list[Message], text: str) -> None:
        self._finder = finder
        self._chat = chat
        self._messages = messages
        self._text = text

    def run(self) -> RenderedChat:
        marks = TextMarks(self._finder.template, self._chat, self._messages, self._text)
        marked = marks.locate()
        turns: list[Turn] = []
        problems = marks.dropped(marked)
        for number, message in enumerate(self._messages):
            if message["role"] == "assistant":
                turn = self._turn(number, marked, turns[-1].end if turns else 0)
                if turn:
                    turns.append(turn)
        return RenderedChat(self._text, turns, marked.slots, tuple(problems))

    def _turn(self, number: int, marked: MarkedTexts, floor: int) -> Turn | None:
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
        problem = self._finder.difference(f"before turn {number}", prompt, self._text)
        if said is None:
            return (shared, [problem]) if shared >= floor else (None, [problem])
        if floor <= shared <= said and not self._text[shared:said].strip():
            return self._with_blanks(number, shared, said), [problem]
        return self._behind_header(prompt, number, floor, said), [problem]

    def _with_blanks(self, number: int, shared: int, said: int) -> int:
        """Where the text of a turn begins with the blanks that the row has before it, if the template keeps them."""
        message = self._chat.messages[number]
        texts = [message[field] for field in TEXT_FIELDS if str(message.get(field) or "").strip()]
        blanks = texts[0][: len(texts[0]) - len(texts[0].lstrip())]
        is_kept = self._text.endswith(blanks, shared, said) and len(blanks) <= said - shared
        return said - len(blanks) if is_kept else said

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

    def _end(self, number: int, said_end: int, marked: MarkedTexts) -> tuple[int, list[RowProblem]]:
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
        return [self._finder.difference(f"turn {number} is rewritten once it is history,", fresh, self._text[:end])]


def _no_stop_token(number: int) -> RowProblem:
    return RowProblem(
        Code.NO_END_OF_TURN, f"turn {number} ends in ordinary text, not in a token at which generation stops"
    )
