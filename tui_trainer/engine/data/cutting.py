"""What becomes of examples longer than `data.max_length`: cut on a side, split, left out, or an error."""

from __future__ import annotations

from dataclasses import replace

from tui_trainer.engine.data.example import Example, Stretch, Weighted
from tui_trainer.engine.data.problems import Code, RowProblem


class Cutter:
    """Fits examples into `max_length` tokens.

    Args:
        max_length: longest example.
        truncation: right, left, drop, split or error, as `data.truncation`.
    """

    def __init__(self, max_length: int, truncation: str) -> None:
        self._max_length = max_length
        self._truncation = truncation

    def cut(self, example: Example) -> list[Example]:
        """The example if it fits; else what `truncation` makes of it."""
        example.num_tokens_before = example.num_tokens
        if not example.is_usable or example.num_tokens <= self._max_length:
            return [example]
        if self._truncation in ("drop", "error"):
            message = f"has {example.num_tokens} tokens, data.max_length is {self._max_length}"
            example.problems.append(RowProblem(Code.TOO_LONG_DROPPED, message))
            example.is_usable = False
            return [example]
        if self._truncation == "split":
            starts = range(0, example.num_tokens, self._max_length)
            return [self._window(example, start, start + self._max_length) for start in starts]
        start = example.num_tokens - self._max_length if self._truncation == "left" else 0
        return [self._shortened(example, start)]

    def _shortened(self, example: Example, start: int) -> Example:
        short = self._window(example, start, start + self._max_length)
        short.is_truncated = True
        lost = example.num_trained - short.num_trained
        total = f"{example.num_tokens} tokens cut to {self._max_length}"
        if lost and example.has_prompt:
            problem = RowProblem(Code.ANSWER_CUT, f"{lost} of {example.num_trained} trained tokens are lost: {total}")
        else:
            problem = RowProblem(Code.TRUNCATED, total)
        short.problems.append(problem)
        return short

    def _window(self, example: Example, start: int, end: int) -> Example:
        """The tokens from `start` up to `end` as an example of their own."""
        return replace(
            example,
            input_ids=example.input_ids[start:end],
            # the first token of an example is never trained
            trained=_clipped(example.trained, start, end, least=1),
            weighted=[
                Weighted(first, last, stretch.weight)
                for stretch in example.weighted
                for first, last in _clipped([(stretch.start, stretch.end)], start, end, least=1)
            ],
            stretches=[
                Stretch(first, last, stretch.role)
                for stretch in example.stretches
                for first, last in _clipped([(stretch.start, stretch.end)], start, end, least=0)
            ],
            problems=list(example.problems),
        )


def _clipped(stretches: list[tuple[int, int]], start: int, end: int, *, least: int) -> list[tuple[int, int]]:
    """The parts of some stretches inside a window, counted from its begin and from `least` on."""
    moved = [(max(first - start, least), min(last, end) - start) for first, last in stretches]
    return [(first, last) for first, last in moved if first < last]
