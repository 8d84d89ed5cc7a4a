"""From rows to a store of examples and their verdict, in one pass; the worker's verdict and training share it."""

from __future__ import annotations

from pathlib import Path

from tui_trainer.config.data import DataConfig
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
    data: DataConfig,
    fingerprint: str,
    folder: Path,
    report: Report = ignore_report,
) -> ExampleStore:
    """The store of some rows: the one in the cache, or a new one.

    Args:
        rows: the rows.
        pipeline: turns them into examples.
        data: the section `[data]`.
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
        return find_store(folder, fingerprint) or _built(rows, pipeline, data, fingerprint, folder, report)


def _built(
    rows: RowSet, pipeline: DataPipeline, data: DataConfig, fingerprint: str, folder: Path, report: Report
) -> ExampleStore:
    tally = Tally(data)
    with StoreWriter(folder, fingerprint, pipeline.tokenizer.num_ids) as writer:
        report("tokenising", 0, rows.num_rows)
        for records in rows.batches(BATCH_ROWS):
            examples = pipeline.examples(records)
            writer.add(examples)
            tally.add(examples)
            report("tokenising", tally.num_rows, rows.num_rows)
        meta = {VERDICT: tally.result(rows.where), PART_ROWS: [part.source.count() for part in rows.parts]}
        return writer.publish(meta, tally.problem_rows())
