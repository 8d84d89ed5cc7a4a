"""Names with values beside them, the values wrapped under themselves; used on Data, Args and Runs."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from textual.content import Content
from textual.geometry import Size
from textual.widget import Widget
from typing_extensions import override

from tui_trainer.text import safe_line

_MIN_VALUE = 12


class Pairs(Widget):
    """A table of two columns, as high as it needs."""

    DEFAULT_CSS = "Pairs { width: 100%; height: auto; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._rows: Sequence[tuple[str, str]] = ()

    def show(self, rows: Sequence[tuple[str, str]]) -> None:
        """Show names and values."""
        if rows != self._rows:
            self._rows = rows
            self.refresh(layout=True)

    def _lines(self, width: int) -> list[Content]:
        indent = max((len(name) for name, _ in self._rows), default=0) + 1
        lines = []
        for name, value in self._rows:
            parts = textwrap.wrap(safe_line(value), max(width - indent, _MIN_VALUE)) or [""]
            lines.append(Content.assemble((f"{safe_line(name):<{indent}}", "$text-muted"), (parts[0], "$text")))
            lines.extend(Content.styled(f"{'':<{indent}}{part}", "$text") for part in parts[1:])
        return lines

    @override
    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As many lines as the values take."""
        return len(self._lines(width))

    def render(self) -> Content:
        """The lines."""
        return Content("\n").join(self._lines(self.size.width))
