"""From rows to a store of examples and their verdict, in one pass; the worker's verdict and training share it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tui_trainer.engine.data.crew import Job, crew_examples, crew_size
from tui_trainer.engine.data.example import Example
from tui_trainer.engine.data.pipeline import BATCH_ROWS, DataPipeline
from tui_trainer.engine.data.rowset import RowSet
from tui_trainer.engine.data.store import ExampleStore, StoreWriter, building, find_store
from tui_trainer.engine.data.verdict import Tally
from tui_trainer.engine.report import Report, ignore_report

VERDICT = "verdict"
PART_ROWS = "part_rows"
"""Keys of a store's `meta`: the verdict, and the number of rows of each part."""


def build_store(
    rows: RowSet,
    pipeline: DataPipeline,
    job: Job,
    fingerprint: str,
    folder: Path,
    report: Report = ignore_report,
) -> ExampleStore:
    """The store of some rows: the one in the cache, or a new one.

    Args:
        rows: the rows.
        pipeline: turns them into examples.
        job: the same as said to the processes of a crew, if one is worth it.
        fingerprint: the store's name.
        folder: the folder of all stores.
        report: told how many rows are done; what it raises ends the building.

    Raises:
        MachineError: there is no room for it.
        DataError: the data cannot be read.
    """
    store = find_store(folder, fingerprint)
    if store is not None:
        return store
    report("waiting for the data", None, None)
    with building(folder, fingerprint):
        return find_store(folder, fingerprint) or _built(rows, pipeline, job, fingerprint, folder, report)


def _built(
    rows: RowSet, pipeline: DataPipeline, job: Job, fingerprint: str, folder: Path, report: Report
) -> ExampleStore:
    tally = Tally(job.config.data)
    with StoreWriter(folder, fingerprint, pipeline.tokenizer.num_ids) as writer:
        report("tokenising", 0, rows.num_rows)
        for examples in _examples(rows, pipeline, job, fingerprint):
            writer.add(examples)
            tally.add(examples)
            report("tokenising", tally.num_rows, rows.num_rows)
        meta = {VERDICT: tally.result(rows.where), PART_ROWS: [part.source.count() for part in rows.parts]}
        return writer.publish(meta, tally.problem_rows())


def _examples(rows: RowSet, pipeline: DataPipeline, job: Job, fingerprint: str) -> Iterator[list[Example]]:
    size = crew_size(job.config.data.num_proc, rows.num_rows) if rows.is_local else 1
    if size > 1:
        yield from crew_examples(job, rows, fingerprint, size)
    else:
        yield from map(pipeline.examples, rows.batches(BATCH_ROWS))
