"""The documents that `preview --json`, the data worker and the Data screen show; their shape is in the contract."""

from __future__ import annotations

from typing import Any

from tui_trainer.engine.data.example import LOSS_WEIGHTS, Example
from tui_trainer.engine.data.rows import Record
from tui_trainer.engine.data.session import DataSession, cell_text, raw_text
from tui_trainer.engine.report import Report, ignore_report

VERSION = 1


def preview_document(
    session: DataSession, start: int, stop: int, *, is_whole: bool, report: Report = ignore_report
) -> dict[str, Any]:
    """The document of `preview --json`.

    Args:
        session: the data.
        start: first row shown.
        stop: row behind the last.
        is_whole: judge all rows, not only those shown.
        report: told how far the judging is.
    """
    records = session.records(start, stop)
    examples = session.examples(records)
    verdict = session.verdict(report) if is_whole else session.partial_verdict(examples)
    verdict = {name: value for name, value in verdict.items() if name not in ("lengths", "fingerprint")}
    session.count_all()
    info = session.info()
    return {
        "version": VERSION,
        **{name: info[name] for name in ("sources", "split", "format", "columns", "confidence")},
        "template": session.template(),
        "fingerprint": session.fingerprint,
        "verdict": verdict,
        "rows": [row_document(example) for example in examples],
    }


def row_document(example: Example) -> dict[str, Any]:
    """A row of the preview; with `loss_weights` where not all labels weigh 1."""
    weights = example.loss_weights
    return {
        "row": example.row,
        "num_tokens": example.num_tokens,
        "num_trained": example.num_trained,
        "truncated": example.is_truncated,
        "usable": example.is_usable,
        "problems": [problem.to_dict() for problem in example.problems],
        "input_ids": example.input_ids,
        "attention_mask": [1] * example.num_tokens,
        "labels": example.labels,
        **({} if weights is None else {LOSS_WEIGHTS: weights.tolist()}),
        "text": example.text,
        "spans": [span.to_dict() for span in example.spans],
    }


def sample_document(session: DataSession, row: int) -> dict[str, Any]:
    """A row of the preview with all that the Data screen shows of it."""
    record = session.record(row)
    example = session.examples([record])[0]
    tokenizer = session.pipeline().tokenizer
    added = set(tokenizer.added_tokens.values())
    return {
        **row_document(example),
        "position_ids": list(range(example.num_tokens)),
        "tokens": tokenizer.token_texts(example.input_ids),
        "special_ids": sorted(added.intersection(example.input_ids)),
        "raw": raw_text(record),
        "where": record.where,
        "messages": example.messages,
        "stand_in": session.is_stand_in,
    }


def cells_document(record: Record, num_tokens: int | None = None) -> dict[str, Any]:
    """A row of the table."""
    value = record.value
    if not isinstance(value, dict):
        problems = [{"code": value.code.value, "message": value.message}]
        return {"row": record.row, "cells": {"": f"{record.where}: {value.message}"}, "problems": problems}
    cells = {column: cell_text(cell) for column, cell in value.items()}
    return {"row": record.row, "cells": cells, "num_tokens": num_tokens, "problems": []}
