"""The table of runs: state, name, method, model, data, progress, loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import set_cell_size

from tui_trainer.text import safe_line
from tui_trainer.tui.widgets.cursor_list import CursorList, Parts

_STATE_WIDTH = 11
_STYLES = {
    "running": "list--good",
    "starting": "list--warn",
    "paused": "list--warn",
    "finished": "list--head",
    "failed": "list--bad",
    "lost": "list--bad",
}


@dataclass(frozen=True)
class RunLine:
    """One run as text, column by column.

    Attributes:
        id: names the run to its owner.
        sign: one character for the state.
        state: its name.
        is_in_view: whether the other screens show this run.
    """

    id: str
    sign: str
    state: str
    name: str
    method: str
    model: str
    data: str
    steps: str
    loss: str
    eval_loss: str
    when: str
    is_in_view: bool = False


class RunTable(CursorList):
    """Runs, newest first; columns give way from the right when there is little room."""

    COLUMNS: ClassVar[tuple[tuple[str, int], ...]] = (
        ("name", 20),
        ("steps", 13),
        ("loss", 8),
        ("eval_loss", 8),
        ("when", 11),
        ("method", 11),
        ("model", 22),
        ("data", 24),
    )

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._runs: Sequence[RunLine] = ()

    def show(self, runs: Sequence[RunLine]) -> None:
        """Show these runs; the cursor stays on the run it was on."""
        current = self.run.id if self.run else ""
        if list(runs) == list(self._runs):
            return
        self._runs = runs
        at = next((line for line, run in enumerate(runs) if run.id == current), self.cursor)
        self.set_num_lines(len(runs), cursor=at)

    @property
    def run(self) -> RunLine | None:
        """The run under the cursor."""
        return self._runs[self.cursor] if self.cursor < len(self._runs) else None

    def line_parts(self, line: int) -> Parts:
        """State, then the columns that fit."""
        run = self._runs[line]
        mark = "▸" if run.is_in_view else " "
        state = set_cell_size(f"{run.sign} {run.state}", _STATE_WIDTH)
        parts = [(mark, "list--accent"), (state, _STYLES.get(run.state, "list--dim"))]
        for name, width in self._fitting():
            text = set_cell_size(safe_line(getattr(run, name)), width - 1)
            parts.append((f"{text} ", "list--strong" if name == "name" else ""))
        return parts

    def _fitting(self) -> list[tuple[str, int]]:
        room = self.size.width - _STATE_WIDTH - 1
        fitting = []
        for name, width in self.COLUMNS:
            if width > room:
                break
            fitting.append((name, width))
            room -= width
        return fitting

    def heading(self) -> str:
        """The line above the runs."""
        titles = {"eval_loss": "eval", "when": "started"}
        cells = [set_cell_size(titles.get(name, name), width) for name, width in self._fitting()]
        return f" {set_cell_size('state', _STATE_WIDTH)}{''.join(cells)}"
