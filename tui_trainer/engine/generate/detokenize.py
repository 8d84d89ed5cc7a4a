"""From tokens to text, one token at a time: no half characters, and stop strings found across tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokenizers.decoders import DecodeStream
from transformers import PreTrainedTokenizerBase

_REPLACEMENT = "\ufffd"
_LONGEST_CHARACTER = 4
"""Bytes of a character in UTF-8."""


class Detokenizer:
    """The text of one answer as it grows.

    Args:
        tokenizer: turns ids into text.
        skip_special_tokens: leave special tokens out of the text.
        stop: texts that end the answer; what follows one is not shown.
        shows_stop: show the text that ended the answer.
        context: tokens before the answer, where it continues a text rather than begins one.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        *,
        skip_special_tokens: bool = True,
        stop: Sequence[str] = (),
        shows_stop: bool = False,
        context: Sequence[int] = (),
    ) -> None:
        self._decoder = _decoder(tokenizer, skip_special_tokens, list(context))
        self._stop = [text for text in stop if text]
        self._shows_stop = shows_stop
        self._pending = ""
        self.text = ""
        self.stopped_by: str | None = None

    def push(self, token: int, *, can_stop: bool = True) -> str:
        """Add a token; returns the text that can be shown now, which may be none or that of several tokens.

        Args:
            token: its id.
            can_stop: whether stop strings count already; before that, text is passed on unlooked at.
        """
        self._pending += self._decoder.push(token)
        if not can_stop:
            shown, self._pending = self._pending, ""
            self.text += shown
            return shown
        return self._release(hold_back=True)

    def finish(self) -> str:
        """The answer is over; returns the text held back until now."""
        if self.stopped_by is None:
            self._pending += self._decoder.rest()
        return self._release(hold_back=False)

    def _release(self, *, hold_back: bool) -> str:
        if self.stopped_by is not None:
            return ""
        hits = [(place, text) for text in self._stop if (place := self._pending.find(text)) >= 0]
        if hits:
            place, self.stopped_by = min(hits)
            end = place + (len(self.stopped_by) if self._shows_stop else 0)
            shown, self._pending = self._pending[:end], ""
        else:
            end = len(self._pending) - (self._beginning_of_stop() if hold_back else 0)
            shown, self._pending = self._pending[:end], self._pending[end:]
        self.text += shown
        return shown

    def _beginning_of_stop(self) -> int:
        """Length of the longest end of the pending text that a stop string could begin with."""
        longest = max((len(text) for text in self._stop), default=1) - 1
        for length in range(min(longest, len(self._pending)), 0, -1):
            end = self._pending[-length:]
            if any(text.startswith(end) for text in self._stop):
                return length
        return 0


def _decoder(tokenizer: PreTrainedTokenizerBase, skip_special_tokens: bool, context: list[int]) -> Any:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return _WindowDecoder(tokenizer, skip_special_tokens, context)
    return _StreamDecoder(backend, skip_special_tokens, context)


class _StreamDecoder:
    """Tokens of a fast tokenizer, through the stream decoder of the `tokenizers` library (about 1 us a token)."""

    def __init__(self, backend: Any, skip_special_tokens: bool, context: list[int]) -> None:
        self._backend = backend
        self._skip = skip_special_tokens
        self._ids: list[int] = []
        self._stream = DecodeStream(ids=context, skip_special_tokens=skip_special_tokens)

    def push(self, token: int) -> str:
        self._ids.append(token)
        try:
            text = self._stream.step(self._backend, token)
        except Exception:  # the library's bare error when a token changes what was decoded before it
            self._stream = DecodeStream(ids=[], skip_special_tokens=self._skip)
            text = self._stream.step(self._backend, token)
        if text is not None:
            self._ids.clear()
        return text or ""

    def rest(self) -> str:
        """What the undecoded tokens at the end say, without a character that was cut in half."""
        return _without_half(self._backend.decode(self._ids, skip_special_tokens=self._skip)) if self._ids else ""


class _WindowDecoder:
    """Tokens of a slow tokenizer: decode the last few together and show what is new and whole."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, skip_special_tokens: bool, context: list[int]) -> None:
        self._tokenizer = tokenizer
        self._skip = skip_special_tokens
        self._ids = context
        self._shown = self._decode()

    def push(self, token: int) -> str:
        self._ids.append(token)
        text = self._decode()
        if text.endswith(_REPLACEMENT):
            return ""
        new = text[len(self._shown) :]
        self._ids = self._ids[-_LONGEST_CHARACTER:]
        self._shown = self._decode()
        return new

    def rest(self) -> str:
        return _without_half(self._decode()[len(self._shown) :])

    def _decode(self) -> str:
        return str(self._tokenizer.decode(self._ids, skip_special_tokens=self._skip))


def _without_half(text: str) -> str:
    """A text without the marks of a last character of which some bytes are missing."""
    for _ in range(_LONGEST_CHARACTER - 1):
        text = text.removesuffix(_REPLACEMENT)
    return text
