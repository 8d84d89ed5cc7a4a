"""Tokens, candidates and their probabilities as JSON, in the shape of the contract of `chat --json`."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from typing import Any

from transformers import PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode

from tui_trainer.config.sampling import SamplingParams
from tui_trainer.engine.chat.prompt import Prompt
from tui_trainer.engine.chat.reply import read_reply
from tui_trainer.engine.generate.candidates import Candidate, TokenLogprob, TokenStep

_REPLACEMENT = "\ufffd"
_BYTE_PIECE = re.compile(r"<0x[0-9A-F]{2}>")
_BYTES: dict[str, int] = {letter: byte for byte, letter in bytes_to_unicode().items()}  # type: ignore[no-untyped-call]
"""The letters that tokenizers of the byte-level kind have for bytes."""
_BYTES_SHOWN = "tui_trainer_bytes"


def _show_bytes(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "".join(f"<0x{byte:02X}>" for byte in error.object[error.start : error.end]), error.end


codecs.register_error(_BYTES_SHOWN, _show_bytes)


class Documents:
    """Writes documents with the texts of one tokenizer's tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}

    def text_of(self, token: int) -> str:
        """The text of a token alone; bytes of a character that is not whole as <0xC3>."""
        return self.bytes_of(token) or str(self._tokenizer.decode([token]))

    def bytes_of(self, token: int) -> str:
        """The text of a token that holds part of a character, its bytes as <0xC3>; empty for any other."""
        if _REPLACEMENT not in str(self._tokenizer.decode([token])):
            return ""
        piece = str(self._tokenizer.convert_ids_to_tokens(token))
        if not all(letter in _BYTES for letter in piece):
            return piece if _BYTE_PIECE.fullmatch(piece) else ""
        return bytes(_BYTES[letter] for letter in piece).decode("utf-8", _BYTES_SHOWN)

    def token(self, token: int) -> dict[str, Any]:
        """A token: id, text, and whether it is one of the tokenizer's added or special ones."""
        return {"id": token, "text": self.text_of(token), "special": token in self._special}

    def tokens(self, ids: Iterable[int]) -> list[dict[str, Any]]:
        """Several tokens."""
        return [self.token(token) for token in ids]

    def logprob(self, token: TokenLogprob) -> dict[str, Any]:
        """A token with its probability and those of the most probable ones in its place."""
        return {
            "id": token.id,
            "text": self.text_of(token.id),
            "logprob": token.logprob,
            "rank": token.rank,
            "top": self.top(token),
        }

    def top(self, token: TokenLogprob) -> list[dict[str, Any]]:
        """The most probable tokens in the place of one."""
        return [{"id": other, "text": self.text_of(other), "logprob": value} for other, value in token.top]

    def item(self, step: TokenStep) -> dict[str, Any]:
        """What is told of a token as it comes."""
        item: dict[str, Any] = {
            "candidate": step.candidate,
            "text": step.text,
            "id": step.token.id,
            "logprob": step.token.logprob,
        }
        if not step.text and (part := self.bytes_of(step.token.id)):
            item["bytes"] = part
        if step.token.rank is not None:
            item |= {"rank": step.token.rank, "top": self.top(step.token)}
        if step.finish_reason is not None:
            item |= {"finish_reason": step.finish_reason, "stop_reason": step.stop_reason}
        return item

    def candidate(self, candidate: Candidate, params: SamplingParams, prompt: Prompt) -> dict[str, Any]:
        """An answer, whole."""
        has_logprobs = params.logprobs is not None
        prefill = self.prefill(prompt)
        begun = prefill["text"] if prefill else ""
        before = prompt.text[: len(prompt.text) - len(begun)]
        return {
            "index": candidate.index,
            "text": candidate.text,
            "ids": candidate.ids,
            "finish_reason": candidate.finish_reason,
            "stop_reason": candidate.stop_reason,
            "cumulative_logprob": candidate.cumulative_logprob,
            "logprobs": [self.logprob(token) for token in candidate.tokens] if has_logprobs else None,
            **read_reply(begun + candidate.text, before).to_dict(),
        }

    def prefill(self, prompt: Prompt) -> dict[str, Any] | None:
        """What the answer was made to begin with; None if nothing."""
        if not prompt.num_prefilled:
            return None
        ids = list(prompt.prefill_ids)
        return {"text": str(self._tokenizer.decode(ids)), "ids": ids}
