"""Which tokens stand out and how: by log-probability, by rank, by what training changed. Never by colour alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tui_trainer.tui.chat.reply import Reply

PLAIN = "plain"
LOGPROB = "log-probability"
RANK = "rank"
DIFFERENCE = "B against A"
MODES = (PLAIN, LOGPROB, RANK, DIFFERENCE)
"""The ways to colour, in the order in which a key goes through them."""


@dataclass(frozen=True)
class Band:
    """A class of tokens that look the same.

    Attributes:
        style: colour and, as the cue that is not colour, weight, line or reversal.
        label: what the class is, for the legend.
    """

    style: str
    label: str


NOTHING = Band("$foreground", "")
UNKNOWN = Band("$text-disabled", "not known")
DIFFERENT = Band("bold underline $accent", "differs from the other reply")

_PROBABILITY = (
    (0.5, Band("$foreground", "over 50 %")),
    (0.1, Band("$success", "over 10 %")),
    (0.01, Band("$warning underline", "over 1 %")),
    (0.0, Band("bold reverse $error", "less")),
)
_RANKS = (
    (1, Band("$foreground", "first")),
    (3, Band("$success", "2–3")),
    (10, Band("$warning underline", "4–10")),
    (math.inf, Band("bold reverse $error", "beyond")),
)
_DIFFERENCES = (
    (2.0, Band("bold reverse $success", "B far more likely")),
    (0.5, Band("$success underline", "more")),
    (-0.5, Band("$foreground", "alike")),
    (-2.0, Band("$error underline", "less")),
    (-math.inf, Band("bold reverse $error", "far less")),
)


def band_of(mode: str, logprob: float | None, rank: int | None, difference: float | None) -> Band:
    """How a token looks in a mode.

    Args:
        mode: one of `MODES`.
        logprob: natural logarithm of the token's probability.
        rank: 1 for the most probable token at its place.
        difference: log-probability by B minus that by A, in nats.
    """
    if mode == LOGPROB:
        if logprob is None:
            return UNKNOWN
        probability = math.exp(min(logprob, 0.0))
        return next(band for least, band in _PROBABILITY if probability >= least)
    if mode == RANK:
        return UNKNOWN if rank is None else next(band for most, band in _RANKS if rank <= most)
    if mode == DIFFERENCE:
        if difference is None or math.isnan(difference):
            return UNKNOWN
        return next(band for least, band in _DIFFERENCES if difference >= least)
    return NOTHING


def legend(mode: str) -> Sequence[Band]:
    """The classes of a mode with their looks, empty for the plain one."""
    bands: Mapping[str, Iterable[tuple[float, Band]]] = {
        LOGPROB: _PROBABILITY,
        RANK: _RANKS,
        DIFFERENCE: _DIFFERENCES,
    }
    return [band for _, band in bands.get(mode, ())]


def coloured(reply: Reply, mode: str) -> list[tuple[str, Band]]:
    """The reply's text in pieces, a token each; text that is not in known tokens comes first, as not known.

    Tokens that hold part of a character are shown as bytes, but in the plain mode.
    """
    tokens = reply.all_tokens
    differences = reply.differences if len(reply.differences) == len(tokens) else [None] * len(tokens)
    first = len(reply.opening.tokens)
    pieces = [
        (
            token.text,
            DIFFERENT
            if mode == PLAIN and place - first in reply.different
            else band_of(mode, token.logprob, token.rank, difference),
        )
        for place, (token, difference) in enumerate(zip(tokens, differences, strict=True))
    ]
    known = "".join(text for text, _ in pieces)
    if mode != PLAIN:
        pieces = [(token.visible, band) for token, (_, band) in zip(tokens, pieces, strict=True)]
    if known == reply.text or not reply.text.endswith(known):
        return pieces
    unknown = NOTHING if mode == PLAIN else UNKNOWN
    return [(reply.text[: len(reply.text) - len(known)], unknown), *pieces]


def next_mode(mode: str, *, has_other: bool) -> str:
    """The mode after this one; the difference only where there are two models."""
    modes = MODES if has_other else MODES[:-1]
    return modes[(modes.index(mode) + 1) % len(modes)] if mode in modes else modes[0]
