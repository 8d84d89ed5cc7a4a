"""A batch as the collator makes it: a map of its sequences, and what stands at each position of each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from rich.cells import set_cell_size
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widget import Widget

from tui_trainer.text import safe_line
from tui_trainer.tui import format as fmt
from tui_trainer.tui.widgets.cursor_list import CursorList, Parts
from tui_trainer.tui.widgets.sample import IGNORED_LABEL

FIELDS = ("tokens", "input_ids", "labels", "attention_mask", "position_ids")
"""What can be shown at each position."""

_COLUMN = 14
_MOST_MAPPED = 6
"""Sequences in the map; fewer where there is little room, so that two thirds stay for the positions."""


class BatchGrid(CursorList):
    """One column a sequence, one line a position."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "sequence(-1)", "Sequence left", show=False, id="batch-left", tooltip="One sequence back"),
        Binding("right,l", "sequence(1)", "Sequence right", show=False, id="batch-right", tooltip="One sequence on"),
        Binding(
            "space", "field", "Tokens, ids, labels", id="batch-field", tooltip="Tokens, ids, labels, mask, positions"
        ),
        Binding("n", "change(1)", "Next change", show=False, id="batch-next", tooltip="Next change of mask or example"),
        Binding("N", "change(-1)", "Change back", show=False, id="batch-previous", tooltip="Change before"),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.shown: dict[str, Any] = {}
        self.sequence = 0
        self.field = FIELDS[0]

    def show(self, batch: dict[str, Any]) -> None:
        """Show the data worker's answer to `batch`."""
        self.shown = batch
        self.sequence = 0
        self.set_num_lines(max((len(row) for row in batch.get("input_ids", ())), default=0), cursor=0)

    @property
    def num_sequences(self) -> int:
        """Sequences of the batch."""
        return len(self.shown.get("input_ids") or ())

    def entry(self, name: str, sequence: int, position: int) -> Any:
        """What a field of the batch holds at a position, None where it has nothing."""
        rows = self.shown.get(name) or ()
        return rows[sequence][position] if sequence < len(rows) and position < len(rows[sequence]) else None

    def is_border(self, sequence: int, position: int) -> bool:
        """Whether a packed example begins there."""
        return bool(self.shown.get("is_packed")) and self.entry("position_ids", sequence, position) == 0

    def summary(self) -> str:
        """Shape, padding and packing in words."""
        batch = self.shown
        if not self.num_sequences:
            return "no row of this batch can be trained on" if batch else ""
        total = self.num_sequences * batch["length"]
        words = [f"{self.num_sequences} x {fmt.count(batch['length'])} tokens"]
        words.append(f"{fmt.count(batch['num_trained'])} trained ({batch['num_trained'] / max(total, 1):.0%})")
        if batch.get("is_packed"):
            num_examples = sum(map(len, batch["rows"]))
            words.append(f"{num_examples} examples in {batch.get('num_packed', 1)} packed rows")
            words.append("kept apart by position_ids")
            if not batch.get("is_as_trained"):
                words.append("packed among themselves until the whole set is judged")
        else:
            words.append(f"{batch['num_padding'] / max(total, 1):.0%} padding")
        return " · ".join(words)

    def status(self) -> str:
        """All fields at the cursor."""
        at, line = self.sequence, self.cursor
        if self.entry("input_ids", at, line) is None:
            return ""
        mask, label = self.entry("attention_mask", at, line), self.entry("labels", at, line)
        weight = self.entry("loss_weights", at, line)
        kind = "padding" if mask == 0 else "trained" if label != IGNORED_LABEL else "not trained"
        words = [f"row {self._row_at(at, line)}", f"id {self.entry('input_ids', at, line)}"]
        words += [f"attention_mask {mask}"] if mask is not None else []
        words.append(f"label {label} ({kind})")
        words += [f"weight {weight:g}"] if weight not in (None, 1.0) and label != IGNORED_LABEL else []
        position = self.entry("position_ids", at, line)
        words.append(f"position_ids {line} (by the model)" if position is None else f"position_ids {position}")
        return safe_line(" · ".join(words))

    def _row_at(self, sequence: int, position: int) -> str:
        rows = (self.shown.get("rows") or [[]])[sequence]
        at = sum(self.is_border(sequence, place) for place in range(position + 1)) - 1 if len(rows) > 1 else 0
        if not 0 <= at < len(rows):
            return "?"
        piece = self._piece(sequence, at)
        return f"{fmt.count(rows[at])}, piece {fmt.count(piece + 1)}" if piece else fmt.count(rows[at])

    def _piece(self, sequence: int, at: int) -> int:
        """Which piece of its row an example of a sequence is."""
        pieces = (self.shown.get("pieces") or [])[sequence : sequence + 1]
        return int(pieces[0][at]) if pieces and at < len(pieces[0]) else 0

    def heading(self) -> str:
        """What is shown, and the rows that the columns are."""
        text = f"{self.field:>7.7}  "
        width, shown = self._columns()
        for sequence in shown:
            rows = (self.shown.get("rows") or [])[sequence]
            name = f"row {fmt.count(rows[0])}" if len(rows) == 1 else f"{len(rows)} rows"
            name += f" p{piece + 1}" if len(rows) == 1 and (piece := self._piece(sequence, 0)) else ""
            text += set_cell_size(("▸" if sequence == self.sequence else " ") + name, width) + " "
        return text

    def _columns(self) -> tuple[int, range]:
        """Width of a column, and the sequences that are visible."""
        room = max(self.size.width - 9, _COLUMN)
        fitting = max(room // _COLUMN, 1)
        first = max(min(self.sequence - fitting // 2, self.num_sequences - fitting), 0)
        shown = range(first, min(first + fitting, self.num_sequences))
        return max(room // max(len(shown), 1) - 1, 8), shown

    def line_parts(self, line: int) -> Parts:
        """Position, then what stands there in each sequence."""
        width, shown = self._columns()
        return [(f"{line:>7}  ", "list--dim"), *(self._cell(sequence, line, width) for sequence in shown)]

    def _cell(self, sequence: int, line: int, width: int) -> tuple[str, str]:
        is_padding = self.entry("attention_mask", sequence, line) == 0
        value = self.entry(self.field, sequence, line)
        if value is None and self.field == "position_ids":
            value = line
        text = "–" if value is None else safe_line(str(value)[:width])
        if is_padding and self.field == "tokens":
            text = f"· {text}"
        is_trained = self.entry("labels", sequence, line) not in (None, IGNORED_LABEL)
        border = "┣" if self.is_border(sequence, line) else "▌" if is_trained else " "
        style = "list--dim" if is_padding else "list--good" if is_trained else ""
        return set_cell_size(f"{border}{text}", width) + " ", style

    def action_sequence(self, step: int) -> None:
        """To another sequence."""
        self.sequence = min(max(self.sequence + step, 0), max(self.num_sequences - 1, 0))
        self.refresh()
        self.post_message(self.Highlighted(self, self.cursor))

    def action_field(self) -> None:
        """Show another field of the batch."""
        self.field = FIELDS[(FIELDS.index(self.field) + 1) % len(FIELDS)]
        self.refresh()
        self.post_message(self.Highlighted(self, self.cursor))

    def action_change(self, direction: int) -> None:
        """To where the mask changes or another packed example begins, in a direction."""
        line = self.cursor + direction
        while 0 < line < self.num_lines:
            if self._kind(line) != self._kind(line - 1) or self.is_border(self.sequence, line):
                self.move_cursor(line)
                return
            line += direction

    def _kind(self, line: int) -> tuple[bool, bool]:
        """Whether a position of the present sequence is padding, and whether it is trained."""
        label = self.entry("labels", self.sequence, line)
        return self.entry("attention_mask", self.sequence, line) == 0, label != IGNORED_LABEL


class BatchMap(Widget):
    """The sequences of a batch as bars: trained, not trained, padding, and where packed examples meet.

    Args:
        grid: shows the batch position by position.
    """

    DEFAULT_CSS = "BatchMap { height: auto; }"

    def __init__(self, grid: BatchGrid) -> None:
        super().__init__()
        self._grid = grid

    def render(self) -> Content:
        """The summary, then a bar for each sequence."""
        grid = self._grid
        lines = [Content.styled(f" {grid.summary()}", "$primary bold")]
        room = self.parent.size.height // 3 - 1 if isinstance(self.parent, Widget) else _MOST_MAPPED
        shown = range(min(grid.num_sequences, max(min(room, _MOST_MAPPED), 1)))
        width = max(self.size.width - 9, 8)
        lines += [self._bar(sequence, width) for sequence in shown]
        if grid.num_sequences > len(shown) > 1:
            lines.append(Content.styled(f"{'':9}… {grid.num_sequences - len(shown)} more sequences", "$text-disabled"))
        return Content("\n").join(lines)

    def _bar(self, sequence: int, width: int) -> Content:
        grid = self._grid
        length = grid.num_lines
        cells = min(width, length)
        parts = [
            self._sign(sequence, range(cell * length // cells, (cell + 1) * length // cells)) for cell in range(cells)
        ]
        return Content.assemble((f"{sequence:>7}  ", "$text-disabled"), *parts)

    def _sign(self, sequence: int, positions: Sequence[int]) -> tuple[str, str]:
        grid = self._grid
        if any(grid.is_border(sequence, at) for at in positions):
            return "┃", "$warning"
        if all(grid.entry("attention_mask", sequence, at) == 0 for at in positions):
            return "·", "$text-disabled"
        trained = sum(grid.entry("labels", sequence, at) not in (None, IGNORED_LABEL) for at in positions)
        return ("█", "$success") if trained * 2 >= len(positions) else ("─", "$text-muted")
