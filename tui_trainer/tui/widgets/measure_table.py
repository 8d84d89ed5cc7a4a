"""Tables over a set of prompts: a line a checkpoint, or a line a prompt for two models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import set_cell_size

from tui_trainer.text import safe_line
from tui_trainer.tui import format as fmt
from tui_trainer.tui.chat.measures import Measured
from tui_trainer.tui.widgets.cursor_list import CursorList, Parts

_COLUMNS = ("tokens", "stopped", "repeat", "exact", "regex", "logprob", "dist-2", "KL")


class MeasureTable(CursorList):
    """One line a model; the newest last."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._lines: Sequence[Measured] = ()

    def show(self, lines: Sequence[Measured]) -> None:
        """Show these models; the cursor stays."""
        self._lines = lines
        self.set_num_lines(len(lines))
        self.refresh()

    @property
    def measured(self) -> Measured | None:
        """The model under the cursor."""
        return self._lines[self.cursor] if self.cursor < len(self._lines) else None

    def _name_width(self) -> int:
        return max(self.size.width - 8 * len(_COLUMNS) - 1, 8)

    def heading(self) -> str:
        """Names of the columns."""
        return set_cell_size(" model", self._name_width()) + "".join(f"{name:>8}" for name in _COLUMNS)

    def line_parts(self, line: int) -> Parts:
        """The model's step and its figures; what speaks against it stands out."""
        row = self._lines[line]
        name = f" step {fmt.count(row.step)}" if row.step is not None else f" {safe_line(row.model)}"
        figures = (
            (fmt.metric(row.tokens), ""),
            (fmt.share(row.stopped), ""),
            (fmt.share(row.repeating), "list--bad" if row.repeating else ""),
            (fmt.share(row.exact), "list--strong"),
            (fmt.share(row.regex), "list--strong"),
            (_short(row.logprob), ""),
            (_short(row.distinct_2), ""),
            (_short(row.kl), ""),
        )
        width = self._name_width()
        return ((set_cell_size(name, width), "list--strong"), *((f"{text:>8}", style) for text, style in figures))


class ScoreTable(CursorList):
    """One line a prompt: perplexity by A and by B, KL of B against A."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._rows: Sequence[Mapping[str, Any]] = ()

    def show(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Show the worker's rows."""
        self._rows = rows
        self.set_num_lines(len(rows))
        self.refresh()

    def heading(self) -> str:
        """Names of the columns."""
        return f" {'tokens':>7}{'perplexity A':>14}{'perplexity B':>14}{'KL':>9}  text"

    def line_parts(self, line: int) -> Parts:
        """The figures, then the text; where B is surer than A, its figure stands out."""
        row = self._rows[line]
        a, b = row.get("a"), row.get("b")
        is_surer = isinstance(a, (int, float)) and isinstance(b, (int, float)) and b < a
        return (
            (f" {row.get('num_tokens', 0):>7}{fmt.metric(a):>14}", ""),
            (f"{fmt.metric(b):>14}", "list--strong" if is_surer else ""),
            (f"{fmt.metric(row.get('kl')):>9}  ", "list--accent"),
            (safe_line(str(row.get("text") or ""))[:200], "list--dim"),
        )


def _short(value: float | None) -> str:
    """A figure in at most seven characters."""
    return "–" if value is None else f"{value:.3f}" if abs(value) < 100 else fmt.metric(value)
