"""The mask without places in the text: turns are counted off by the added tokens between which they stand.

The tokenizer cuts added tokens out of a text before anything else, and a template prints the same ones around every
turn. So the number of the added token before a turn, and of the one that ends it, say which tokens the turn has; no
places are needed, and encoding without places is a third cheaper. Whatever does not come out as expected is left to
`alignment`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tui_trainer.engine.data.problems import RowProblem
from tui_trainer.engine.data.tokenizer import TextTokenizer


@dataclass(frozen=True, slots=True)
class AnchoredTurn:
    """A turn between two added tokens.

    Attributes:
        message: number of the message.
        before: which added token of the conversation comes last before the turn.
        header: ids between that token and the turn.
        last: which added token ends the turn.
        problems: what is wrong with training on it.
    """

    message: int
    before: int
    header: tuple[int, ...]
    last: int
    problems: tuple[RowProblem, ...]


@dataclass(frozen=True, slots=True)
class Anchors:
    """The added tokens of a conversation of some shape, and the turns between them.

    Attributes:
        added_ids: the added tokens in order, shape (num_added,).
        turns: the assistant's turns.
    """

    added_ids: np.ndarray
    turns: tuple[AnchoredTurn, ...]

    def stretches(
        self, ids: Sequence[int], is_added: np.ndarray, wanted: frozenset[int]
    ) -> list[tuple[int, int]] | None:
        """The tokens of each turn.

        Args:
            ids: the tokens of a conversation.
            is_added: for each id, whether it is an added token.
            wanted: numbers of the messages whose turns are asked for.

        Returns:
            (start, end) of each turn that is asked for; None if the tokens are not as expected, because a text holds
            an added token or merges with what stands before it.
        """
        array = np.array(ids, dtype=np.int64)
        places = np.flatnonzero(is_added[array])
        if not np.array_equal(array[places], self.added_ids):
            return None
        found = []
        for turn in self.turns:
            if turn.message in wanted:
                header = int(places[turn.before]) + 1
                start = header + len(turn.header)
                if tuple(ids[header:start]) != turn.header:
                    return None
                found.append((start, int(places[turn.last]) + 1))
        return found


class AnchorFinder:
    """Finds the anchors of a shape.

    Args:
        tokenizer: the tokenizer.
        added: matches its added tokens.
    """

    def __init__(self, tokenizer: TextTokenizer, added: re.Pattern[str]) -> None:
        self._tokenizer = tokenizer
        self._added = added

    def find(
        self, pieces: Sequence[str], turns: Sequence[tuple[int, int, int, int, int, tuple[RowProblem, ...]]]
    ) -> Anchors | None:
        """The anchors of a shape; None if a turn does not stand between two added tokens.

        Args:
            pieces: what stands before each text, and behind the last.
            turns: for each turn its message, its first text and how far before it the turn begins, its last text and
                how far behind it the turn ends, and its problems.
        """
        tokens = [list(self._added.finditer(piece)) for piece in pieces]
        firsts = np.cumsum([0, *map(len, tokens)]).tolist()
        anchored = []
        for message, first, lead, last, tail, problems in turns:
            start = len(pieces[first]) - lead
            before = [number for number, match in enumerate(tokens[first]) if match.end() <= start]
            closing = [number for number, match in enumerate(tokens[last + 1]) if match.end() == tail]
            if not before or not closing:
                return None
            match = tokens[first][before[-1]]
            header = self._header(match.group(), pieces[first][match.end() : start])
            if header is None:
                return None
            anchored.append(
                AnchoredTurn(message, firsts[first] + before[-1], header, firsts[last + 1] + closing[0], problems)
            )
        ids = [self._tokenizer.added_tokens[match.group()] for matches in tokens for match in matches]
        return Anchors(np.array(ids, dtype=np.int64), tuple(anchored))

    def _header(self, token: str, text: str) -> tuple[int, ...] | None:
        """The ids of a text that stands behind an added token."""
        ids = self._tokenizer.encode(token + text)
        return tuple(ids[1:]) if ids[:1] == [self._tokenizer.added_tokens[token]] else None
