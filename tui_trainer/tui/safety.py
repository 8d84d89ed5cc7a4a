"""The last net before the terminal: whatever a widget was handed, no control character leaves the app."""

from __future__ import annotations

from collections.abc import Sequence

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter
from typing_extensions import override

from tui_trainer.text import is_unsafe, strip_unsafe


class SafeFilter(LineFilter):
    """Removes control characters from every line that is about to be drawn."""

    @override
    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The segments without control characters."""
        if not any(is_unsafe(text) for text, _, control in segments if not control):
            return segments
        return [
            segment if segment.control else Segment(strip_unsafe(segment.text), segment.style) for segment in segments
        ]


# Textual keeps each line as a filter left it, by the filter: a new one each time would filter and cut all lines anew
_NET = SafeFilter()


def with_safe_filter(filters: Sequence[LineFilter]) -> list[LineFilter]:
    """The filters of an app and the net behind them."""
    return [*filters, _NET]
