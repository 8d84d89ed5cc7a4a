"""The spans of an example: neighbouring tokens of one origin, with their exact text; made by `pipeline` for showing."""

from __future__ import annotations

import itertools

from tui_trainer.engine.data.example import Example, Span
from tui_trainer.engine.data.tokenizer import TextTokenizer

_TEMPLATE_ROLE = "template"


def spans_of(example: Example, tokenizer: TextTokenizer) -> list[Span]:
    """Spans that cover all tokens in order, parted where the origin or the mask changes."""
    total = example.num_tokens
    borders = {0, total}
    for stretch in example.stretches:
        borders |= {stretch.start, stretch.end}
    for start, end in example.trained:
        borders |= {start, end}
    borders |= {border for part in example.weighted for border in (part.start, part.end)}
    edges = sorted(border for border in borders if 0 <= border <= total)
    return [
        Span(
            start,
            end,
            any(first <= start and end <= last for first, last in example.trained),
            _role_at(example, start),
            tokenizer.decode(example.input_ids[start:end]),
            next((part.weight for part in example.weighted if part.start <= start < part.end), 1.0),
        )
        for start, end in itertools.pairwise(edges)
    ]


def _role_at(example: Example, token: int) -> str:
    found = (stretch.role for stretch in example.stretches if stretch.start <= token < stretch.end)
    return next(found, _TEMPLATE_ROLE)
