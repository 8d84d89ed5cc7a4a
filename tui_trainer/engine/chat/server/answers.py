"""Answers as they come from a server, put together from its pieces."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_MOST_CHARACTERS = 2 << 20
_MOST_CANDIDATES = 256
_USUAL_ENDS = {"length": "length", "stop": "stop", "tool_calls": "stop", "function_call": "stop"}
_LONGEST_REASON = 40


@dataclass
class _Candidate:
    """One answer.

    Attributes:
        pieces: of its text.
        reasoning: of its thoughts, where the server tells them apart.
        calls: of tools, by number: name and pieces of the arguments.
        tokens: with their probabilities, and their ids where the server sends them.
        finish_reason: why it ended; "cancelled" until the server says.
        stop_reason: the token or text that ended it, where the server says.
    """

    pieces: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    calls: dict[int, tuple[str, list[str]]] = field(default_factory=dict)
    tokens: list[dict[str, Any]] = field(default_factory=list)
    finish_reason: str = "cancelled"
    stop_reason: Any = None


class Answers:
    """Takes the server's objects, streamed or whole.

    Args:
        has_logprobs: probabilities were asked for.
    """

    def __init__(self, *, has_logprobs: bool) -> None:
        self._has_logprobs = has_logprobs
        self._candidates: dict[int, _Candidate] = {}
        self._num_characters = 0
        self.usage: Mapping[str, Any] = {}
        self.prompt_ids: list[int] = []

    @property
    def is_endless(self) -> bool:
        """Whether the server sends more than any answer has."""
        return self._num_characters > _MOST_CHARACTERS

    def take(self, value: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """One object of the server; yields the items of `ChatSession.answer` it amounts to."""
        if isinstance(value.get("usage"), Mapping):
            self.usage = value["usage"]
        self.prompt_ids = _ids(value.get("prompt_token_ids")) or self.prompt_ids
        choices = value.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            index = choice.get("index", 0) if isinstance(choice, Mapping) else None
            if type(index) is int and 0 <= index < _MOST_CANDIDATES:
                yield from self._take(index, choice)

    def _take(self, index: int, choice: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        candidate = self._candidates.setdefault(index, _Candidate())
        message = choice.get("delta") or choice.get("message") or {}
        text = _text(message.get("content")) or _text(choice.get("text"))
        thought = _text(message.get("reasoning_content")) or _text(message.get("reasoning"))
        self._num_characters += len(text) + len(thought)
        candidate.pieces.append(text)
        candidate.reasoning.append(thought)
        self._take_calls(candidate, message.get("tool_calls"))
        tokens = _with_ids(list(_tokens(choice.get("logprobs"))), _ids(choice.get("token_ids")))
        candidate.tokens += tokens
        reason = choice.get("finish_reason")
        items = [{"candidate": index, **item} for item in _items(text, tokens)]
        if isinstance(reason, str):
            candidate.finish_reason = _USUAL_ENDS.get(reason, reason[:_LONGEST_REASON])
            candidate.stop_reason = choice.get("stop_reason", choice.get("matched_stop"))
            items[-1] |= {"finish_reason": candidate.finish_reason, "stop_reason": candidate.stop_reason}
        if text or thought or tokens or isinstance(reason, str):
            yield from items

    def _take_calls(self, candidate: _Candidate, calls: Any) -> None:
        for call in calls if isinstance(calls, list) else ():
            function = call.get("function") if isinstance(call, Mapping) else None
            if isinstance(function, Mapping):
                index = call.get("index")
                number = index if type(index) is int else len(candidate.calls)
                pieces = candidate.calls.setdefault(number, (_text(function.get("name")), []))[1]
                arguments = function.get("arguments")
                pieces.append(arguments if isinstance(arguments, str) else json.dumps(arguments or {}))

    def candidates(self) -> list[dict[str, Any]]:
        """The answers as far as they have come; at least one, which may be empty."""
        numbered = sorted(self._candidates.items()) or [(0, _Candidate())]
        return [self._document(index, candidate) for index, candidate in numbered]

    def _document(self, index: int, candidate: _Candidate) -> dict[str, Any]:
        known = [token["logprob"] for token in candidate.tokens]
        ids = [token["id"] for token in candidate.tokens]
        return {
            "index": index,
            "text": "".join(candidate.pieces),
            "reasoning": "".join(candidate.reasoning),
            "calls": [{"name": name, "arguments": _arguments(pieces)} for name, pieces in candidate.calls.values()],
            "ids": ids if None not in ids else [],
            "finish_reason": candidate.finish_reason,
            "stop_reason": candidate.stop_reason,
            "cumulative_logprob": sum(known) if known else None,
            "logprobs": candidate.tokens if self._has_logprobs else None,
        }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _arguments(pieces: list[str]) -> Any:
    text = "".join(pieces)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _ids(value: Any) -> list[int]:
    """Token ids, where a server sends them; else none."""
    return list(value) if isinstance(value, list) and all(type(one) is int and one >= 0 for one in value) else []


def _with_ids(tokens: list[dict[str, Any]], ids: Sequence[int]) -> list[dict[str, Any]]:
    """Tokens with the ids that stand beside them, as vLLM sends them; llama.cpp has them in the tokens."""
    if len(ids) != len(tokens):
        return tokens
    return [token | {"id": one} for token, one in zip(tokens, ids, strict=True)]


def _items(text: str, tokens: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A piece of an answer token by token; at least one item, which holds the text where the tokens do not add up."""
    if not tokens:
        return [{"text": text, "id": None, "logprob": None}]
    adds_up = "".join(token["text"] for token in tokens) == text
    texts = [token["text"] for token in tokens] if adds_up else [text, *[""] * (len(tokens) - 1)]
    return [
        {"text": piece, "id": token["id"], "logprob": token["logprob"], "rank": token["rank"], "top": token["top"]}
        for piece, token in zip(texts, tokens, strict=True)
    ]


def _tokens(logprobs: Any) -> Iterator[dict[str, Any]]:
    """The tokens in the two shapes there are: that of chats, and the older one of completions."""
    if not isinstance(logprobs, Mapping):
        return
    content = logprobs.get("content")
    for entry in content if isinstance(content, list) else ():
        if isinstance(entry, Mapping) and isinstance(entry.get("logprob"), (int, float)):
            yield _token(entry.get("token"), entry["logprob"], entry.get("top_logprobs"), _id(entry))
    values = logprobs.get("token_logprobs")
    texts = logprobs.get("tokens")
    tops = logprobs.get("top_logprobs")
    if isinstance(values, list) and isinstance(texts, list):
        for place, (text, value) in enumerate(zip(texts, values, strict=False)):
            if isinstance(value, (int, float)):
                top = tops[place] if isinstance(tops, list) and place < len(tops) else None
                listed = [{"token": key, "logprob": one} for key, one in top.items()] if isinstance(top, dict) else None
                yield _token(text, value, listed)


def _id(entry: Mapping[str, Any]) -> int | None:
    """The id that llama.cpp sends with each token."""
    value = entry.get("id")
    return value if type(value) is int and value >= 0 else None


def _token(text: Any, value: float, tops: Any, token_id: int | None = None) -> dict[str, Any]:
    top = [
        {"id": _id(one), "text": _text(one.get("token")), "logprob": float(one["logprob"])}
        for one in (tops if isinstance(tops, list) else ())
        if isinstance(one, Mapping) and isinstance(one.get("logprob"), (int, float))
    ]
    rank = next((place for place, one in enumerate(top, start=1) if one["text"] == text), None)
    return {"id": token_id, "text": _text(text), "logprob": float(value), "rank": rank, "top": top}
