"""From places in a text to tokens: which tokens a stretch covers, and whether a chat would have the same ones."""

from __future__ import annotations

from dataclasses import dataclass

from tokenizers import Encoding

from tui_trainer.engine.data.masking.probe import added_pattern
from tui_trainer.engine.data.problems import Code, RowProblem
from tui_trainer.engine.data.tokenizer import TextTokenizer

_MAX_KNOWN_TAILS = 4096


@dataclass(frozen=True, slots=True)
class Edge:
    """The token at which a place in the text falls.

    Attributes:
        token: number of the first token that begins at or behind the place.
        straddler: number of the token that reaches over the place, if one does.
    """

    token: int
    straddler: int | None = None


def edge_at(encoding: Encoding, place: int, text_length: int) -> Edge:
    """The token at a place of the text.

    Args:
        encoding: the tokens with their places.
        place: a character.
        text_length: characters of the text.
    """
    at = place
    token = None
    while at < text_length and token is None:
        # a character that the tokenizer dropped, as a blank, belongs to the token behind it
        token = encoding.char_to_token(at)
        at += 1
    if token is None:
        return Edge(len(encoding))
    while token > 0 and encoding.token_to_chars(token - 1) == encoding.token_to_chars(token):
        token -= 1
    chars = encoding.token_to_chars(token)
    return Edge(token) if chars is None or chars[0] >= place else Edge(token + 1, token)


def end_at(encoding: Encoding, place: int, text_length: int, tokenizer: TextTokenizer) -> int:
    """The token behind the last one that ends at a place; an added token that swallowed the blanks behind it counts."""
    edge = edge_at(encoding, place, text_length)
    if edge.straddler is None:
        return edge.token
    swallows = bool(tokenizer.is_added[encoding.ids[edge.straddler]])
    return edge.straddler + 1 if swallows else edge.straddler


class PromptCheck:
    """Checks that the tokens before a turn are those that a chat feeds, by encoding the end of the prompt alone.

    Added tokens part a text into pieces that do not influence one another, so the piece before the turn is enough.
    """

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        self._added = added_pattern(tokenizer)
        self._known: dict[str, list[int]] = {}

    def problem(self, text: str, start: int, ids: list[int], token: int, turn: int) -> RowProblem | None:
        """What is wrong with the tokens before a turn, None if nothing is.

        Args:
            text: the rendered conversation.
            start: where the turn begins in it.
            ids: its tokens.
            token: the first token of the turn.
            turn: number of the message, for the report.
        """
        tail = text[self._tail_start(text, start) : start]
        expected = self._encode(tail)
        found = ids[max(token - len(expected), 0) : token]
        if found == expected:
            return None
        place = next(
            (number for number, pair in enumerate(zip(found, expected, strict=False)) if pair[0] != pair[1]), 0
        )
        fed = self._tokenizer.token_text(expected[place]) if place < len(expected) else ""
        trained = self._tokenizer.token_text(found[place]) if place < len(found) else ""
        return RowProblem(
            Code.TEMPLATE_NOT_PREFIX,
            f"before turn {turn} a chat has the token {fed!r}, training has {trained!r}: they merge across the border",
            max(token - len(expected), 0) + place,
        )

    def _tail_start(self, text: str, start: int) -> int:
        """Where the last added token before the turn begins."""
        width = 256
        while True:
            begin = max(start - width, 0)
            last = None
            for match in self._added.finditer(text, begin, start):
                last = match
            if last:
                return last.start()
            if begin == 0:
                return 0
            width *= 8

    def _encode(self, tail: str) -> list[int]:
        ids = self._known.get(tail)
        if ids is None:
            ids = self._tokenizer.encode(tail)
            if len(self._known) >= _MAX_KNOWN_TAILS:
                self._known.clear()
            if len(tail) < 1024:
                self._known[tail] = ids
        return ids
