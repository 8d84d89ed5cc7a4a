"""One reply of a model: its tokens as they come, how it came about, what the models think of it.

Filled by the Chat screen from the items and the document of the chat worker.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

STOPPED = "stopped by you"


@dataclass(frozen=True, slots=True)
class Token:
    """One token of a reply.

    Attributes:
        id: the token; None where a server sends texts only.
        text: what it added to the text; empty where a character or a stop text was not complete yet.
        logprob: natural logarithm of its probability before the knobs; None if it is not known.
        rank: 1 for the most probable token there; None if it is not known.
        part: its bytes as <0xC3>, where these are no whole character.
        top: what a server says could stand there, most probable first; other models are asked for it.
    """

    id: int | None
    text: str
    logprob: float | None = None
    rank: int | None = None
    part: str = ""
    top: Sequence[Mapping[str, Any]] = ()

    @property
    def visible(self) -> str:
        """Its text, or its bytes where it holds only part of a character."""
        return self.text or self.part


@dataclass(frozen=True)
class Opening:
    """What a reply begins with without having been generated for it: typed by the user, or an earlier reply.

    Attributes:
        text: the text.
        tokens: its tokens; empty where only the text is known.
        ended: whether the model had ended there, so that its end token is to be held back once.
    """

    text: str = ""
    tokens: tuple[Token, ...] = ()
    ended: bool = False

    @property
    def request(self) -> dict[str, Any]:
        """The worker's parameters for it: the text, which servers go by, and exact ids where they are known."""
        request: dict[str, Any] = {"prefill": self.text} if self.text else {}
        return request | ({"prefill_ids": [token.id for token in self.tokens]} if self.tokens else {})


@dataclass
class Reply:
    """What a model answered.

    Attributes:
        slot: "a" or "b": which of the loaded models.
        model: what the user calls it.
        opening: what the reply begins with.
        generated: what the model added to it.
        tokens: those of `generated`; the one that ended it included.
        opening_ids: the ids of the opening, known once the worker told them.
        thinking: the thinking block; None if there is none.
        answer: the text without it.
        tool_calls: name and arguments of each call the model asked for.
        finish_reason: "stop", "length" or "cancelled"; empty while it grows.
        stop_reason: the token id or text that ended it.
        error: why there is no answer.
        differences: for each token of the whole reply, log-probability by B minus that by A.
        different: places of the generated tokens in which it differs from the other model's reply.
        judged: what both models think of it as a whole, in words.
        prompt_ids: the tokens the model was given.
    """

    slot: str = "a"
    model: str = ""
    opening: Opening = field(default_factory=Opening)
    generated: str = ""
    tokens: list[Token] = field(default_factory=list)
    opening_ids: Sequence[int] = ()
    thinking: str | None = None
    answer: str = ""
    tool_calls: Sequence[Mapping[str, Any]] = ()
    finish_reason: str = ""
    stop_reason: int | str | None = None
    error: str = ""
    is_streaming: bool = False
    device: str = ""
    step: int | None = None
    max_tokens: int | None = None
    tokens_per_second: float | None = None
    seconds_to_first_token: float | None = None
    seed: int | None = None
    ignored: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    differences: Sequence[float | None] = ()
    different: frozenset[int] = frozenset()
    judged: str = ""
    prompt_ids: Sequence[int] = ()
    _asked: float = field(default_factory=time.monotonic)
    _first: float = 0.0

    @property
    def text(self) -> str:
        """The whole text."""
        return self.opening.text + self.generated

    @property
    def all_tokens(self) -> list[Token]:
        """The tokens of the whole text, as far as they are known."""
        return [*self.opening.tokens, *self.tokens]

    @property
    def ids(self) -> list[int]:
        """The ids of the whole reply, its end token included; none where one of them is not known."""
        opening = [token.id for token in self.opening.tokens] or list(self.opening_ids)
        ids = [*opening, *(token.id for token in self.tokens)]
        known = [token for token in ids if token is not None]
        return known if len(known) == len(ids) else []

    @property
    def is_failed(self) -> bool:
        """Whether nothing was said that another question could follow."""
        return not self.is_streaming and not self.text

    def take(self, item: Mapping[str, Any]) -> None:
        """Append a token as it came."""
        self._first = self._first or time.monotonic()
        text, rank, logprob = str(item.get("text") or ""), item.get("rank"), item.get("logprob")
        self.generated += text
        if item.get("id") is None and not text and item.get("finish_reason"):
            return  # a server only says that it has ended
        self.tokens.append(
            Token(
                item["id"] if isinstance(item.get("id"), int) else None,
                text,
                float(logprob) if isinstance(logprob, (int, float)) else None,
                rank if isinstance(rank, int) else None,
                str(item.get("bytes") or ""),
                item.get("top") or (),
            )
        )

    def finish(self, document: Mapping[str, Any], candidate: Mapping[str, Any]) -> None:
        """Take over the worker's document and the candidate that this is."""
        self.is_streaming = False
        self.generated = str(candidate.get("text") or "")
        self.finish_reason = str(candidate.get("finish_reason") or "")
        self.stop_reason = candidate.get("stop_reason")
        self.tokens = self.tokens or _tokens_of(candidate)
        self._take_thinking(candidate)
        self.tool_calls = candidate.get("tool_calls") or ()
        self._take_opening(document.get("prefill"))
        knobs = document.get("knobs") or {}
        self.max_tokens = (knobs.get("max_tokens") or {}).get("value")
        are_beams = (knobs.get("use_beam_search") or {}).get("value")
        # beams come all at once at their end, which says nothing about speed
        self.tokens_per_second = None if are_beams else document.get("tokens_per_second")
        self.seconds_to_first_token = document.get("seconds_to_first_token")
        self.seed = document.get("seed")
        self.ignored = document.get("ignored_reasons") or dict.fromkeys(document.get("ignored_knobs") or (), "")
        self.notes = document.get("notes") or ()
        self.prompt_ids = document.get("prompt_ids") or ()
        model, stamp = document.get("model") or {}, document.get("stamp") or {}
        self.device = str(model.get("device") or "")
        self.step = stamp.get("step", model.get("step"))

    def _take_thinking(self, candidate: Mapping[str, Any]) -> None:
        thinking = candidate.get("thinking")
        if isinstance(thinking, Mapping):
            self.thinking = str(thinking.get("text") or "")
            self.answer = str(candidate.get("answer") or "")

    def _take_opening(self, prefill: Any) -> None:
        if isinstance(prefill, Mapping):
            self.opening_ids = prefill.get("ids") or ()
            self.opening = replace(self.opening, text=str(prefill.get("text") or self.opening.text))

    def stop(self) -> None:
        """End it where it is, as the user wanted; its figures are what the screen saw."""
        now = time.monotonic()
        self.is_streaming, self.finish_reason = False, "cancelled"
        if self._first:
            self.seconds_to_first_token = self._first - self._asked
            if len(self.tokens) > 1 and now > self._first:
                self.tokens_per_second = (len(self.tokens) - 1) / (now - self._first)

    def fail(self, why: str) -> None:
        """End it with an error; what came before it stays."""
        self.is_streaming, self.error = False, why

    def continued(self) -> Opening:
        """What a longer version of this reply begins with."""
        ended_by_token = self.finish_reason == "stop" and isinstance(self.stop_reason, int)
        ended_by_text = self.finish_reason == "stop" and isinstance(self.stop_reason, str)
        tokens = self.all_tokens
        knows_all = len(tokens) == len(self.ids) and not ended_by_text
        kept = tokens[:-1] if ended_by_token and tokens else tokens
        return Opening(self.text, tuple(kept) if knows_all else (), ended=ended_by_token)

    def note(self) -> str:
        """How it came about, in one line."""
        if self.error:
            return self.error
        if not self.finish_reason:
            return ""
        words = [STOPPED if self.finish_reason == "cancelled" else self._reason()]
        words.append(f"{len(self.tokens)}{f'/{self.max_tokens}' if self.max_tokens else ''} tokens")
        if self.tokens_per_second:
            words.append(f"{self.tokens_per_second:.1f} tok/s")
        if self.seconds_to_first_token is not None:
            words.append(f"first token {self.seconds_to_first_token:.2f} s")
        words += [f"seed {self.seed}"] if self.seed is not None else []
        words += [f"step {self.step}"] if self.step is not None else []
        words += [self.judged] if self.judged else []
        words += _ignored(self.ignored)
        return " · ".join([*words, *map(str, self.notes)])

    def _reason(self) -> str:
        if self.finish_reason == "stop" and isinstance(self.stop_reason, str):
            return f"stop at {self.stop_reason!r}"
        return self.finish_reason


def _tokens_of(candidate: Mapping[str, Any]) -> list[Token]:
    """The tokens of an answer that did not come one by one, as that of beam search; its end token adds no text."""
    scored = candidate.get("logprobs") or [{"id": token, "text": ""} for token in candidate.get("ids") or ()]
    tokens = [Token(one["id"], str(one["text"]), one.get("logprob"), one.get("rank")) for one in scored]
    if tokens and tokens[-1].id == candidate.get("stop_reason"):
        tokens[-1] = replace(tokens[-1], text="")
    return tokens


def _ignored(reasons: Mapping[str, str]) -> Iterable[str]:
    """The knobs without effect, those with the same reason together."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        by_reason.setdefault(reason, []).append(name)
    for reason, names in by_reason.items():
        yield f"ignored: {', '.join(names)}{f' ({reason})' if reason else ''}"
