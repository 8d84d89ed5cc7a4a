"""The document of `preview --json`; its shape is in the contract."""

from __future__ import annotations

from typing import Any

from tui_trainer.engine.data.example import LOSS_WEIGHTS, Example
from tui_trainer.engine.data.session import DataSession
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
