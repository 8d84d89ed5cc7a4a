"""Tokens as a table: one line a token with id, text, label, mask, position and weight."""

from __future__ import annotations

from rich.cells import set_cell_size
from textual.message import Message

from tui_trainer.text import safe_line
from tui_trainer.tui.widgets.cursor_list import CursorList, Parts
from tui_trainer.tui.widgets.sample import Sample

_TEXT_WIDTH = 22


class TokenGrid(CursorList):
    """One line a token of a row."""

    class WindowNeeded(Message):
        """A token is looked at that is not there."""

        def __init__(self, token: int) -> None:
            super().__init__()
            self.token = token

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._sample: Sample | None = None
        self._asked = -1

    def show(self, sample: Sample | None, cursor: int = 0) -> None:
        """Show a row."""
        self._sample = sample
        self._asked = -1
        self.set_num_lines(sample.num_tokens if sample else 0, cursor=cursor)

    def take_window(self, sample: Sample) -> None:
        """Show the same row with other tokens."""
        self._sample = sample
        self._asked = -1
        self.refresh()

    def heading(self) -> str:
        """The names of the columns."""
        return f"{'#':>7}  {'id':>6}  {'text':<{_TEXT_WIDTH}}  {'label':>6}  {'mask':>4}  {'pos':>7}  loss"

    def line_parts(self, line: int) -> Parts:
        """Number, id, text, label, attention mask, position, weight in the loss."""
        assert self._sample is not None
        sample = self._sample
        if not sample.is_known(line):
            if self._asked < 0:
                self._asked = line
                self.post_message(self.WindowNeeded(line))
            return ((f"{line:>7}  …", "list--dim"),)
        weight = sample.weight(line)
        style = "list--good" if weight else "list--dim"
        text = set_cell_size(safe_line(sample.text_of(line)[:_TEXT_WIDTH]), _TEXT_WIDTH)
        is_added = sample.is_added(line)
        words = "trained" if weight == 1 else f"trained x{weight:g}" if weight else ""
        return (
            (f"{line:>7}  ", "list--dim"),
            (f"{sample.id_of(line):>6}  ", ""),
            (text, "list--good" if weight else "list--warn" if is_added else ""),
            (f"  {sample.label_of(line):>6}", style),
            (f"  {1:>4}  {line:>7}", "list--dim"),
            (f"  {words or ('added by the template' if is_added else '')}", "list--good" if weight else "list--warn"),
        )
