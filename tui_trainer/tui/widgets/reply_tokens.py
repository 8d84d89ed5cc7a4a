"""The tokens of a reply in the colours of a mode, and what else could have stood in the place of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import set_cell_size
from rich.style import Style
from textual.style import Style as ContentStyle

from tui_trainer.text import safe_line
from tui_trainer.tui.chat.colours import Band
from tui_trainer.tui.widgets.cursor_list import CursorList, Parts
from tui_trainer.tui.widgets.sample import Sample
from tui_trainer.tui.widgets.token_flow import TokenFlow


def plain_sample(ids: Sequence[int], texts: Sequence[str], special: frozenset[int] = frozenset()) -> Sample:
    """Tokens without a mask, for a `TokenFlow`."""
    return Sample(row=0, num_tokens=len(ids), first=0, input_ids=ids, tokens=texts, turns=(), special=special)


class ReplyFlow(TokenFlow):
    """Tokens that flow over lines, each in the look of its band."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._bands: Sequence[Band] = ()

    def show_bands(self, bands: Sequence[Band]) -> None:
        """Draw the tokens in these looks."""
        self._bands = bands
        self.refresh()

    def look_of(self, token: int) -> Style:
        """The look of its band; the cursor's where it stands."""
        if token == self.cursor or token >= len(self._bands):
            return super().look_of(token)
        return ContentStyle.parse(self._bands[token].style).rich_style


class AlternativeList(CursorList):
    """The most probable tokens at a place: probability by A and by B, and what the knobs make of it."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._rows: Sequence[Mapping[str, Any]] = ()
        self._by_b: dict[int, Mapping[str, Any]] = {}
        self._chosen: int | None = None
        self._has_b = False

    def show(self, answer: Mapping[str, Any]) -> None:
        """Show the worker's answer to `alternatives`; tokens that only B would take come last."""
        rows, by_b = list(answer.get("a") or ()), list(answer.get("b") or ())
        known = {row["id"] for row in rows}
        self._by_b = {row["id"]: row for row in by_b}
        self._rows = [*rows, *({**row, "probability": None} for row in by_b if row["id"] not in known)]
        self._chosen, self._has_b = answer.get("chosen"), bool(by_b)
        at = next((line for line, row in enumerate(self._rows) if row["id"] == self._chosen), 0)
        self.set_num_lines(len(self._rows), cursor=at)
        self.refresh()

    @property
    def row(self) -> Mapping[str, Any] | None:
        """The alternative under the cursor."""
        return self._rows[self.cursor] if self.cursor < len(self._rows) else None

    def heading(self) -> str:
        """Names of the columns."""
        b = f" {'B':>6}" if self._has_b else ""
        return f"     {'A':>6} {'knobs':>6}{b}  token"

    def line_parts(self, line: int) -> Parts:
        """Rank, probabilities, token; what the knobs cut off is dim, the chosen one is marked."""
        row = self._rows[line]
        is_cut = row.get("processed") == 0
        mark = "▸" if row["id"] == self._chosen else " "
        of_b = self._by_b.get(row["id"], {})
        b = f" {_share(of_b.get('probability'))}" if self._has_b else ""
        rank = "" if row.get("probability") is None else str(row.get("rank", ""))
        numbers = f"{_share(row.get('probability'))} {'cut' if is_cut else _share(row.get('processed')):>6}{b}"
        text = safe_line(str(row.get("text"))) or "·"
        return (
            (mark, "list--accent"),
            (f"{set_cell_size(rank, 4)}", "list--dim"),
            (numbers, "list--dim" if is_cut else ""),
            (f"  {text!r}", "list--dim" if is_cut else "list--strong"),
        )


def _share(probability: Any) -> str:
    """A probability in six characters."""
    if not isinstance(probability, (int, float)):
        return "     –"
    percent = 100 * probability
    return f"{percent:5.1f}%" if percent >= 0.1 or percent == 0 else f"{percent:5.0e}%"[:6].rjust(6)
