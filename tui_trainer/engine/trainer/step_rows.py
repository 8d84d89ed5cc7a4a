"""The rows that one step of a run trained on, found again in the data; called by the data worker."""

from __future__ import annotations

from typing import Any

from tui_trainer.engine.data.samples import raw_text
from tui_trainer.engine.data.session import DataSession
from tui_trainer.engine.report import Report
from tui_trainer.engine.trainer.feed import epoch_order
from tui_trainer.errors import DataError
from tui_trainer.runs.row_order import RowOrder

MAX_ROWS = 256
"""Rows of a step that are handed over with their text."""
_MAX_TEXT = 4000
"""Characters of a row that are handed over."""


def step_rows(session: DataSession, order: RowOrder, update: int, fingerprint: str, report: Report) -> dict[str, Any]:
    """The rows of a step in the order in which they were trained on.

    Args:
        session: the data of the run.
        order: of the start that made the step.
        update: number of the step among those of that start, from 0.
        fingerprint: of the rows that the run tokenised.
        report: told what takes its time; what it raises ends it.

    Returns:
        `epoch`, counted from 1, `first` and `last`, places in its order, `num_items`, examples or packed rows of the
        step, `num_rows`, how many rows of the data they come from, and of those `rows` with number, place and text.

    Raises:
        DataError: the data is not what the run trained on.
    """
    items = session.items(report)
    if session.fingerprint != fingerprint or len(items) != order.position.num_rows:
        raise DataError(
            f"is not what the run trained on: its fingerprint is {session.fingerprint[:12]}, that of the run "
            f"{fingerprint[:12]}; rows, template, tokenizer or a data setting changed since",
            where=", ".join(part.source.name for part in session.rows.parts),
            remedy="Put it back as it was, then the rows can be counted again.",
        )
    found = order.stretch(update)
    if found is None:
        raise DataError("no epoch of the run has a whole batch", remedy="See training.dataloader_drop_last.")
    epoch, first, last = found
    places = epoch_order(order.position, epoch, lambda: [int(length) for length in items.lengths])[first:last]
    numbers = list(dict.fromkeys(row for place in places for row in items.rows(int(place))))
    return {
        "epoch": epoch + 1,
        "first": first + 1,
        "last": last,
        "num_items": len(places),
        "num_rows": len(numbers),
        "rows": [_row(session, number) for number in numbers[:MAX_ROWS]],
    }


def _row(session: DataSession, number: int) -> dict[str, Any]:
    record = session.record(number)
    text = raw_text(record)
    return {"row": number, "where": record.where, "text": text[:_MAX_TEXT], "num_characters": len(text)}
