"""Answers of one model with and without an adapter, or with two of them, from one batch of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from tui_trainer.engine.generate.candidates import TokenStep
from tui_trainer.engine.generate.engine import Generation
from tui_trainer.errors import CancelledError


def can_go_together(generations: Sequence[Generation]) -> bool:
    """Whether the answers can be computed as rows of one batch: the same weights, prompts of one length, no beams."""
    first = generations[0]
    return all(
        each.engine.runner.forward is first.engine.runner.forward
        and len(each.prompt_ids) == len(first.prompt_ids)
        and not each.params.use_beam_search
        for each in generations
    )


def together(generations: Sequence[Generation]) -> Iterator[tuple[int, TokenStep]]:
    """Let several generations advance at the same time.

    Args:
        generations: for which `can_go_together` is true.

    Yields:
        The number of the generation and its step.
    """
    try:
        started = [generation.start() for generation in generations]
    except CancelledError:
        return
    logits = torch.cat([part for part, _ in started])
    rows = started[0][1]
    for _, others in started[1:]:
        rows = rows.joined(others)
    counts = [len(part) for part, _ in started]
    try:
        while True:
            going, chosen, start = [], [], 0
            for number, (generation, count) in enumerate(zip(generations, list(counts), strict=True)):
                if count:
                    advance = generation.advance(logits[start : start + count])
                    going += [start + row for row in advance.going]
                    chosen.append(advance.chosen)
                    counts[number] = len(advance.going)
                    yield from ((number, step) for step in advance.steps)
                start += count
            if not any(generation.is_going for generation in generations):
                return
            if len(going) < len(logits):
                rows.keep(going)
            logits = rows.step(torch.cat(chosen))
    finally:
        for generation in generations:
            generation.close()
