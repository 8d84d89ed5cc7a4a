"""The verdict over the first rows of a stream; the rows behind them are judged when they come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tui_trainer.config.data import DataConfig
from tui_trainer.engine.data.pipeline import DataPipeline
from tui_trainer.engine.data.rows import Record
from tui_trainer.engine.data.rowset import RowSet
from tui_trainer.engine.data.verdict import Tally
from tui_trainer.engine.report import Report, ignore_report

JUDGED_ROWS = 1024
"""Rows that are judged before a run, of all sources together."""

_BATCH_ROWS = 128
_LEAST_ROWS = 64


@dataclass(frozen=True)
class FirstRows:
    """What the first rows of a stream are like.

    Attributes:
        verdict: the verdict over them, as the contract has it, with `scope`, which says that it is over them only.
        lengths: tokens of each before anything was cut.
        problem_rows: for each problem code the rows that have it.
    """

    verdict: dict[str, Any]
    lengths: list[int]
    problem_rows: dict[str, np.ndarray]


def judge_first_rows(
    rows: RowSet, pipeline: DataPipeline, data: DataConfig, report: Report = ignore_report
) -> FirstRows:
    """Judge the first rows of each source.

    Args:
        rows: the sources.
        pipeline: makes examples of their rows.
        data: the section `[data]`.
        report: told how many rows are done.
    """
    records = _first_records(rows)
    tally = Tally(data)
    lengths: list[int] = []
    for start in range(0, len(records), _BATCH_ROWS):
        report("judging the first rows", start, len(records))
        examples = pipeline.examples(records[start : start + _BATCH_ROWS])
        tally.add(examples)
        for example in examples:
            if example.row == len(lengths):
                lengths.append(example.num_tokens_before)
    verdict = tally.result(lambda row: records[row].where)
    if len(rows.parts) > 1:
        # rows of a stream are not counted, so a row of the second source has no number in the whole
        verdict["problems"] = [{**problem, "rows": []} for problem in verdict["problems"]]
    scope = f"the first {len(records):,} rows; those behind them are judged as they are read"
    numbers = tally.problem_rows() if len(rows.parts) == 1 else {}
    return FirstRows({**verdict, "scope": scope}, lengths, numbers)


def _first_records(rows: RowSet) -> list[Record]:
    """The first rows of each source, numbered through."""
    each = max(JUDGED_ROWS // len(rows.parts), _LEAST_ROWS)
    found: list[Record] = []
    for part in rows.parts:
        for number, value in enumerate(part.source.rows(0, each)):
            found.append(Record(len(found), part.number, value, part.source.where(number)))
    return found
