"""The tokenizer as the data path needs it: the Rust tokenizer, its special tokens and its chat template, nothing else.

It is taken from a tokenizer of `transformers` once and kept as one JSON document, so that a process which only shows
data needs neither `transformers` nor torch. `tokenizer_cache` keeps those documents.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash
from tokenizers import Encoding, Tokenizer

from tui_trainer.errors import ConfigurationError, DataError, Problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CACHE_SIZE = 4096
_UNKNOWN = "\ufffd"
_MAX_SPREAD = 6
"""Tokens over which one character is spread at most."""


@dataclass(frozen=True)
class TokenizerState:
    """Everything that decides about ids and rendered text.

    Attributes:
        backend: the tokenizer.json text.
        special_tokens: name to token, as templates are given them: bos_token, eos_token, …
        chat_template: the template text, or several by name.
        pad_token_id: id that fills a batch, None if the tokenizer has none.
        splits_special_tokens: whether special tokens inside a text are taken for ordinary text.
        name: what the user called the tokenizer.
    """

    backend: str
    special_tokens: Mapping[str, str] = field(default_factory=dict)
    chat_template: str | Mapping[str, str] | None = None
    pad_token_id: int | None = None
    splits_special_tokens: bool = False
    name: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As a JSON object; `TokenizerState(**data)` is the inverse."""
        return asdict(self)


def state_of(tokenizer: PreTrainedTokenizerBase, name: str = "") -> TokenizerState:
    """The state of a tokenizer of `transformers`.

    Raises:
        DataError: it has no Rust version, so that the places of its tokens in the text are not known.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise DataError(
            f"the tokenizer {name or type(tokenizer).__name__} has no fast version (tokenizer.json)",
            remedy="Convert it with transformers, or set model.tokenizer_name_or_path to one that has.",
        )
    return TokenizerState(
        backend=backend.to_str(),
        special_tokens=dict(tokenizer.special_tokens_map),
        chat_template=tokenizer.chat_template,
        pad_token_id=tokenizer.pad_token_id,
        splits_special_tokens=bool(getattr(tokenizer, "split_special_tokens", False)),
        name=name,
    )


class TextTokenizer:
    """Texts to ids and back; safe to use from several threads."""

    def __init__(self, state: TokenizerState) -> None:
        self.state = state
        self._backend: Tokenizer = Tokenizer.from_str(state.backend)
        self._backend.no_truncation()
        self._backend.no_padding()
        self._backend.encode_special_tokens = state.splits_special_tokens
        self.vocab_size: int = self._backend.get_vocab_size(with_added_tokens=True)
        self.bos_token_id = self._special_id("bos_token")
        self.eos_token_id = self._special_id("eos_token")
        self.pad_token_id = state.pad_token_id
        self._texts: dict[int, str] = {}

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, name: str = "") -> TextTokenizer:
        """The same tokenizer without `transformers` around it."""
        return cls(state_of(tokenizer, name))

    @cached_property
    def fingerprint(self) -> str:
        """Changes when the ids of any text could change."""
        parts = f"{self.state.backend}\0{sorted(self.state.special_tokens.items())}\0{self.state.splits_special_tokens}"
        return xxhash.xxh3_128(parts.encode("utf-8", "surrogatepass")).hexdigest()

    @cached_property
    def added_tokens(self) -> dict[str, int]:
        """Tokens that are cut out of a text before anything else; they border on nothing."""
        return {token.content: index for index, token in self._backend.get_added_tokens_decoder().items()}

    @cached_property
    def special_pattern(self) -> re.Pattern[str]:
        """Matches the special tokens inside a text."""
        decoder = self._backend.get_added_tokens_decoder()
        special = [token.content for token in decoder.values() if token.special and token.content.strip()]
        return re.compile("|".join(map(re.escape, sorted(special, key=len, reverse=True))) or "(?!)")

    @property
    def num_ids(self) -> int:
        """Ids are below it."""
        return len(self.is_added)

    @cached_property
    def is_added(self) -> np.ndarray:
        """For each id, whether it is an added token; shape (largest id + 1,)."""
        ids = list(self.added_tokens.values())
        flags = np.zeros(max([self.vocab_size, *(index + 1 for index in ids)]), dtype=bool)
        flags[ids] = True
        return flags

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        """The ids of one text."""
        ids: list[int] = self._backend.encode(text, add_special_tokens=add_special_tokens).ids
        return ids

    def encode_batch(self, texts: Sequence[str], *, add_special_tokens: bool = False) -> list[Encoding]:
        """Encodings that know the place of each token in its text."""
        return self._backend.encode_batch(list(texts), add_special_tokens=add_special_tokens)

    def encode_batch_fast(self, texts: Sequence[str], *, add_special_tokens: bool = False) -> list[Encoding]:
        """Encodings with ids only, a third cheaper."""
        return self._backend.encode_batch_fast(list(texts), add_special_tokens=add_special_tokens)

    def decode(self, ids: Sequence[int]) -> str:
        """The exact text of some ids, special tokens included."""
        text: str = self._backend.decode(list(ids), skip_special_tokens=False)
        return text

    def token_text(self, token_id: int) -> str:
        """The text of one id alone."""
        text = self._texts.get(token_id)
        if text is None:
            text = self._texts[token_id] = self.decode([token_id])
            if len(self._texts) > _CACHE_SIZE:
                self._texts.clear()
        return text

    def token_texts(self, ids: Sequence[int]) -> list[str]:
        """The text of each id of a sequence; together they are the text of the whole.

        A character that is spread over several tokens stands at the first of them, the others are empty.
        """
        texts = [self.token_text(index) for index in ids]
        start = 0
        while start < len(texts):
            size = 1
            if _UNKNOWN in texts[start]:
                whole = next((n for n in range(2, _MAX_SPREAD + 1) if self._is_whole(ids[start : start + n], n)), 1)
                if whole > 1:
                    texts[start : start + whole] = [self.decode(ids[start : start + whole]), *[""] * (whole - 1)]
                    size = whole
            start += size
        return texts

    def _is_whole(self, ids: Sequence[int], size: int) -> bool:
        return len(ids) == size and _UNKNOWN not in self.decode(ids)

    def token_id(self, token: str) -> int | None:
        """The id of a token, None if the vocabulary has no such token."""
        index: int | None = self._backend.token_to_id(token)
        return index

    def padded_with(self, token: str | None) -> int:
        """The id that fills a batch.

        Args:
            token: `data.pad_token`, None for the tokenizer's own.

        Raises:
            ConfigurationError: the vocabulary has no such token.
        """
        if token is not None:
            index = self.token_id(token)
            if index is None:
                raise ConfigurationError.of(
                    [Problem("data.pad_token", f"the tokenizer has no token {token!r}", "name one of its vocabulary")]
                )
            return index
        candidates = (self.pad_token_id, self.eos_token_id, 0)
        return next(candidate for candidate in candidates if candidate is not None)

    def _special_id(self, name: str) -> int | None:
        token = self.state.special_tokens.get(name)
        return self.token_id(token) if token else None
