"""What has to be known of a chat template before conversations are rendered with it, found by rendering probes."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tui_trainer.engine.data.formats.messages import Message
from tui_trainer.engine.data.templates.chat_template import ChatTemplate, RenderError, RenderLimitError
from tui_trainer.engine.data.tokenizer import TextTokenizer

_PLAIN_KEYS = {"role", "content"}

_SAID = "\U00100000said\U00100001"
"""A text no template and no data holds: private characters around it."""


@dataclass(frozen=True)
class Closing:
    """What a template puts behind what the assistant said, up to and with its end-of-turn token.

    Attributes:
        inner: where another turn follows; empty if nothing closes it.
        last: where the conversation ends on it; empty if nothing closes it.
        stop_token: the added token at which generation stops; empty if the turn ends in ordinary text or nothing.
    """

    inner: str = ""
    last: str = ""
    stop_token: str = ""


@dataclass(frozen=True)
class TemplateProfile:
    """What a template wants and does.

    Attributes:
        takes_parts: content has to be a list of parts, because text is left out silently.
        string_arguments: the arguments of tool calls have to be JSON text.
        plain: how a turn of text is closed.
        with_calls: how a turn that ends in tool calls is closed.
    """

    takes_parts: bool = False
    string_arguments: bool = False
    plain: Closing = Closing()
    with_calls: Closing = Closing()

    def adapt(self, messages: Sequence[Message], template: ChatTemplate) -> list[Message]:
        """The messages in the form the template takes."""
        return [self._adapted(message, template) for message in messages]

    def _adapted(self, message: Message, template: ChatTemplate) -> Message:
        if message.keys() == _PLAIN_KEYS and message["role"] != "developer" and not self.takes_parts:
            return message
        adapted = {key: value for key, value in message.items() if key != "weight"}
        if adapted["role"] == "developer" and not template.knows_developer:
            adapted["role"] = "system"
        if self.takes_parts:
            adapted["content"] = [{"type": "text", "text": adapted["content"]}]
        if self.string_arguments and "tool_calls" in adapted:
            adapted["tool_calls"] = copy.deepcopy(adapted["tool_calls"])
            for call in adapted["tool_calls"]:
                if not isinstance(call["function"]["arguments"], str):
                    call["function"]["arguments"] = json.dumps(call["function"]["arguments"], ensure_ascii=False)
        return adapted


def probe_template(template: ChatTemplate, tokenizer: TextTokenizer) -> TemplateProfile:
    """Find out about a template; what no probe shows stays at its default.

    Raises:
        RenderLimitError: it takes too long or too much memory.
    """
    pattern = added_pattern(tokenizer)
    takes_parts = _takes_parts(template)
    string_arguments = _wants_string_arguments(template, takes_parts)
    profile = TemplateProfile(takes_parts, string_arguments)
    plain = _closing(template, profile, pattern, _plain_turn()) or Closing()
    is_open = bool(plain.inner) and not plain.last
    with_calls = _closing(template, profile, pattern, _calling_turn(), is_open=is_open)
    return TemplateProfile(takes_parts, string_arguments, plain, with_calls or plain)


def added_pattern(tokenizer: TextTokenizer) -> re.Pattern[str]:
    """Matches any added token that is more than blanks, the longest first."""
    added = [token for token in sorted(tokenizer.added_tokens, key=len, reverse=True) if token.strip()]
    return re.compile("|".join(map(re.escape, added)) or "(?!)")


def _question(text: str = "a") -> Message:
    return {"role": "user", "content": text}


def _plain_turn() -> Message:
    return {"role": "assistant", "content": _SAID}


def _calling_turn() -> Message:
    function = {"name": "f", "arguments": {"x": _SAID}}
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "id": "call00001", "function": function}],
    }


def _render(template: ChatTemplate, profile: TemplateProfile, messages: Sequence[Message]) -> str:
    """The text, empty if the template refuses the messages."""
    try:
        return template.render(profile.adapt(messages, template))
    except RenderLimitError:
        raise
    except RenderError:
        return ""


def _takes_parts(template: ChatTemplate) -> bool:
    messages = [_question(), _plain_turn()]
    as_text = _render(template, TemplateProfile(), messages)
    as_parts = _render(template, TemplateProfile(takes_parts=True), messages)
    return _SAID not in as_text and _SAID in as_parts and "'type'" not in as_parts


def _wants_string_arguments(template: ChatTemplate, takes_parts: bool) -> bool:
    messages = [_question(), _calling_turn()]
    as_object = _render(template, TemplateProfile(takes_parts), messages)
    as_text = _render(template, TemplateProfile(takes_parts, string_arguments=True), messages)
    is_printed = f"{{'x': '{_SAID}'}}" in as_object
    return (_SAID not in as_object or is_printed) and _SAID in as_text


def _closing(
    template: ChatTemplate, profile: TemplateProfile, added: re.Pattern[str], turn: Message, *, is_open: bool = False
) -> Closing | None:
    """How a turn is closed, told by what follows what was said alone, and with another turn behind it.

    Args:
        template: the template.
        profile: what is known of it.
        added: matches added tokens.
        turn: the turn.
        is_open: the template leaves turns open, and the header of the next turn is where generation stops.
    """
    follower = (
        {"role": "tool", "content": "b", "name": "f", "tool_call_id": "call00001"}
        if "tool_calls" in turn
        else _question("b")
    )
    alone = _after_said(_render(template, profile, [_question(), turn]))
    followed = _after_said(_render(template, profile, [_question(), turn, follower]))
    if alone is None:
        return None
    if followed is None:
        followed = alone
    common = common_prefix(alone, followed)
    if is_open:
        opener = added.search(followed, common)
        return Closing(followed[: opener.end()], "", opener.group()) if opener else Closing()
    shared = [match for match in added.finditer(followed) if match.end() <= common]
    if shared:
        closing = followed[: shared[-1].end()]
        return Closing(closing, closing, shared[-1].group())
    opener = next((match for match in added.finditer(followed) if match.start() < common < match.end()), None)
    text = followed[: opener.start() if opener else common].rstrip()
    if text:
        return Closing(text, text)
    inner, last = added.search(followed), added.search(alone)
    stop = last or inner
    if stop is None:
        return Closing()
    return Closing(followed[: inner.end()] if inner else "", alone[: last.end()] if last else "", stop.group())


def _after_said(text: str) -> str | None:
    place = text.rfind(_SAID)
    return None if place < 0 else text[place + len(_SAID) :]


def common_prefix(left: str, right: str) -> int:
    """Number of leading characters that two texts share."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
