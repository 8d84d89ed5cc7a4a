"""Tokens as a table: one line a token with id, text, label, mask and position; and a batch, one column a sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.cells import set_cell_size

from tui_trainer.text import safe_line
from tui_trainer.tui.widgets.cursor_list import CursorList, Parts
from tui_trainer.tui.widgets.sample import IGNORED_LABEL, Sample


class TokenGrid(CursorList):
    """One line a token of a row."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._sample: Sample | None = None

    def show(self, sample: Sample | None) -> None:
        """Show a row."""
        self._sample = sample
        self.set_num_lines(sample.num_tokens if sample else 0, cursor=0)

    def heading(self) -> str:
        """The names of the columns."""
        return f"{'#':>6}  {'id':>6}  {'text':<18}  {'label':>6}  {'mask':>4}  {'pos':>5}"

    def line_parts(self, line: int) -> Parts:
        """Number, id, text, label, attention mask, position."""
        assert self._sample is not None
        sample = self._sample
        is_trained = sample.is_trained(line)
        label = str(sample.labels[line]) if line < len(sample.labels) else ""
        text = set_cell_size(safe_line(sample.tokens[line]) if line < len(sample.tokens) else "", 18)
        return (
            (f"{line:>6}  ", "list--dim"),
            (f"{sample.input_ids[line]:>6}  ", ""),
            (text, "list--good" if is_trained else ""),
            (f"  {label:>6}", "list--good" if is_trained else "list--dim"),
            (f"  {sample.attention_mask[line]:>4}", "list--dim"),
            (f"  {sample.position_ids[line]:>5}", "list--dim"),
            ("  trained" if is_trained else "", "list--good"),
        )


class BatchGrid(CursorList):
    """A batch as the collator makes it: one column a sequence, one line a position."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._batch: dict[str, Any] = {}

    def show(self, batch: dict[str, Any]) -> None:
        """Show the data worker's answer to `batch`."""
        self._batch = batch
        self.set_num_lines(max((len(row) for row in batch.get("input_ids", ())), default=0), cursor=0)

    def heading(self) -> str:
        """Shape and padding of the batch in words."""
        rows: Sequence[Sequence[int]] = self._batch.get("input_ids", ())
        if not rows:
            return "no batch"
        masks: Sequence[Sequence[int]] = self._batch.get("attention_mask") or ()
        total = sum(map(len, rows))
        padding = total - sum(map(sum, masks)) if masks else 0
        trained = sum(label != IGNORED_LABEL for row in self._batch.get("labels", ()) for label in row)
        return f"{len(rows)} x {len(rows[0])} tokens · {trained} trained · {padding / max(total, 1):.0%} padding"

    def line_parts(self, line: int) -> Parts:
        """Position, then text and label of that position in each sequence."""
        rows = self._batch["input_ids"]
        width = max((self.size.width - 7) // max(len(rows), 1) - 1, 8)
        parts: list[tuple[str, str]] = [(f"{line:>5}  ", "list--dim")]
        parts.extend(self._cell(at, line, width) for at in range(len(rows)))
        return parts

    def _cell(self, sequence: int, line: int, width: int) -> tuple[str, str]:
        def entry(name: str) -> Any:
            rows = self._batch.get(name) or ()
            return rows[sequence][line] if sequence < len(rows) and line < len(rows[sequence]) else None

        if entry("attention_mask") == 0:
            return set_cell_size("·", width) + " ", "list--dim"
        text = safe_line(str(entry("tokens") or entry("input_ids") or ""))
        position = entry("position_ids")
        border = "▏" if position == 0 and line else ""
        is_trained = entry("labels") not in (None, IGNORED_LABEL)
        shown = f"{border}{text}"
        return set_cell_size(shown, width) + " ", "list--good" if is_trained else ""
