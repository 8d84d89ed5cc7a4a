"""Everything a run needs of its data: tokenised once, split into training and evaluation, packed, ready to be collated.

Every rank calls `prepare_data`; one of them does the work while the others wait, then all map the same store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tui_trainer.config.schema import RunConfig
from tui_trainer.engine.data.building import PART_ROWS, VERDICT, build_store
from tui_trainer.engine.data.collate import PackedCollator, PaddedCollator, Padding
from tui_trainer.engine.data.crew import Job
from tui_trainer.engine.data.dataset import Examples, PackedExamples
from tui_trainer.engine.data.fingerprint import fingerprint_of
from tui_trainer.engine.data.pipeline import DataPipeline
from tui_trainer.engine.data.pipeline_setup import pipeline_for
from tui_trainer.engine.data.references import EvalReference, references
from tui_trainer.engine.data.rowset import OpenedData, RowSet, open_data
from tui_trainer.engine.data.selection import items_of, select
from tui_trainer.engine.data.store import ExampleStore, stores_dir
from tui_trainer.engine.data.streaming.judging import judge_first_rows
from tui_trainer.engine.data.streaming.stream import StreamedExamples, streamed_examples
from tui_trainer.engine.data.tokenizer import TextTokenizer
from tui_trainer.engine.data.verdict import needing_yes
from tui_trainer.engine.report import Report, ignore_report
from tui_trainer.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NUM_REFERENCES = 200
"""Evaluation rows whose prompts and answers are handed over, unless the run asks for more of them."""

_ROWS_KEPT = 20


@dataclass
class PreparedData:
    """The data of a run.

    Attributes:
        train: the examples or packed rows to train on; map-style, or a stream without end; items are dicts of arrays.
        eval: those to evaluate on, never packed; None if there are none.
        collator: makes a batch of training items.
        eval_collator: makes a batch of evaluation items.
        fingerprint: name of the tokenised rows, the same that the preview shows.
        num_rows: rows trained on in an epoch; a row of weight 2 counts twice. None for a stream, as what follows.
        num_tokens: their tokens.
        num_trained_tokens: those that count in the loss.
        is_packed: whether an item holds several examples.
        is_weighted: whether some labels may weigh more or less than others.
        summary: what becomes data.json.
        eval_references: prompts and answers of the first evaluation rows.
    """

    train: Examples | PackedExamples | StreamedExamples
    eval: Examples | None
    collator: PaddedCollator | PackedCollator
    eval_collator: PaddedCollator
    fingerprint: str
    num_rows: int | None = None
    num_tokens: int | None = None
    num_trained_tokens: int | None = None
    is_packed: bool = False
    is_weighted: bool = False
    summary: dict[str, Any] = field(default_factory=dict)
    eval_references: list[EvalReference] = field(default_factory=list)

    @property
    def num_left_out(self) -> int | None:
        """Rows of a stream that were of no use so far; None where nothing is streamed."""
        return self.train.num_left_out if isinstance(self.train, StreamedExamples) else None


def prepare_data(
    config: RunConfig,
    tokenizer: PreTrainedTokenizerBase,
    report: Report = ignore_report,
) -> PreparedData:
    """Open, tokenise, split and pack the data of a run.

    Args:
        config: the run.
        tokenizer: its tokenizer.
        report: told what is going on; what it raises ends the preparation.

    Raises:
        ConfigurationError: a setting does not fit the data.
        DataError: the data cannot be read, or nothing of it would be trained.
        MachineError: the hub or the disk.
    """
    data = config.data
    text_tokenizer = TextTokenizer.of(tokenizer, config.model.tokenizer_name_or_path or config.model.name_or_path or "")
    report("opening the data", None, None)
    opened = open_data(data, config.stage, report=report)
    pipeline = pipeline_for(config, text_tokenizer, opened)
    job = Job(config, text_tokenizer.state)
    eval_store = None
    if opened.evaluation:
        eval_store = _store(opened.evaluation, pipeline, replace(job, is_evaluation=True), report)
    make = _streamed if data.streaming else _stored
    prepared, held_out = make(job, opened, pipeline, eval_store, report)
    if prepared.eval is not None and len(prepared.eval) == 0:
        raise DataError("leaves no usable row to evaluate on", where="data.eval_split", remedy="Evaluate on more rows.")
    if held_out:
        num_references = max(NUM_REFERENCES, config.sampling.num_exact_match)
        prepared.eval_references = references(pipeline, *held_out, num_references)
    return prepared


_HeldOut = tuple[RowSet, np.ndarray]
"""Rows, and the numbers of those that are evaluated on."""


def _stored(
    job: Job, opened: OpenedData, pipeline: DataPipeline, eval_store: ExampleStore | None, report: Report
) -> tuple[PreparedData, _HeldOut | None]:
    """The data of a run that tokenises all rows first, and the rows to evaluate on."""
    config = job.config
    store = _store(opened.train, pipeline, job, report)
    selection = select(config, opened.train.parts, store)
    train = Examples(store, selection.train)
    if len(train) == 0:
        raise DataError("leaves no row to train on", where="data.eval_split", remedy="Evaluate on fewer rows.")
    evaluation, held_out = _separate_evaluation(opened, eval_store)
    if selection.evaluation is not None and selection.held_out_rows is not None:
        evaluation, held_out = Examples(store, selection.evaluation), (opened.train, selection.held_out_rows)
    collator, eval_collator = _collators(config, pipeline)
    prepared = PreparedData(
        train=items_of(store, selection),
        eval=evaluation,
        collator=collator,
        eval_collator=eval_collator,
        fingerprint=store.fingerprint,
        num_rows=len(train),
        num_tokens=int(train.lengths.sum()),
        num_trained_tokens=int(store.trained[train.indices].sum()),
        is_packed=selection.bins is not None,
        is_weighted=any(part.is_weighted for part in (store, eval_store) if part),
    )
    prepared.summary = _summary(config, prepared, pipeline, opened, store.meta[VERDICT], store.meta[PART_ROWS])
    prepared.summary["num_items"] = len(prepared.train)
    return prepared, held_out


def _streamed(
    job: Job, opened: OpenedData, pipeline: DataPipeline, eval_store: ExampleStore | None, report: Report
) -> tuple[PreparedData, _HeldOut | None]:
    """The data of a run that reads its rows as it goes, and the rows to evaluate on."""
    config = job.config
    verdict = judge_first_rows(opened.train, pipeline, config.data, report).verdict
    _refuse_blocked(verdict, opened.train)
    fingerprint = fingerprint_for(opened.train, pipeline, config)
    evaluation, held_out = _separate_evaluation(opened, eval_store)
    collator, eval_collator = _collators(config, pipeline)
    prepared = PreparedData(
        train=streamed_examples(config, fingerprint, opened.train.parts, pipeline),
        eval=evaluation,
        collator=collator,
        eval_collator=eval_collator,
        fingerprint=fingerprint,
        is_packed=config.data.packing,
        # only conversations have weights, and their first rows do not tell for all
        is_weighted=any(spec.format in ("messages", "sharegpt") for spec in opened.specs),
    )
    prepared.summary = _summary(config, prepared, pipeline, opened, verdict, [None] * len(opened.train.parts))
    prepared.summary["streaming"] = True
    return prepared, held_out


def _collators(config: RunConfig, pipeline: DataPipeline) -> tuple[PaddedCollator | PackedCollator, PaddedCollator]:
    """What makes batches for training, and for evaluation."""
    padded = PaddedCollator(Padding.of(config.data, pipeline.tokenizer.padded_with(config.data.pad_token)))
    return PackedCollator() if config.data.packing else padded, padded


def fingerprint_for(rows: RowSet, pipeline: DataPipeline, config: RunConfig) -> str:
    """The fingerprint of rows as the run tokenises them."""
    return fingerprint_of(rows, config.data, config.stage, pipeline.tokenizer, pipeline.template)


def _store(rows: RowSet, pipeline: DataPipeline, job: Job, report: Report) -> ExampleStore:
    folder = stores_dir(job.config.data.cache_dir)
    store = build_store(rows, pipeline, job, fingerprint_for(rows, pipeline, job.config), folder, report)
    _refuse_blocked(store.meta[VERDICT], rows)
    return store


def _refuse_blocked(verdict: dict[str, Any], rows: RowSet) -> None:
    if verdict["blocks_launch"]:
        worst = next((problem["message"] for problem in verdict["problems"]), "")
        raise DataError(
            f"cannot be trained on: {verdict['reason']}" + (f". {worst}" if worst else ""),
            where=", ".join(part.source.name for part in rows.parts),
            remedy=next((problem["remedy"] for problem in verdict["problems"]), ""),
        )


def _separate_evaluation(opened: OpenedData, store: ExampleStore | None) -> tuple[Examples | None, _HeldOut | None]:
    """The examples to evaluate on that are a split or a file of their own, and their rows."""
    if store is None or opened.evaluation is None:
        return None, None
    return Examples(store, np.arange(len(store))), (opened.evaluation, np.arange(int(store.meta["num_rows"])))


def _summary(
    config: RunConfig,
    prepared: PreparedData,
    pipeline: DataPipeline,
    opened: OpenedData,
    verdict: dict[str, Any],
    part_rows: Sequence[int | None],
) -> dict[str, Any]:
    template = pipeline.template
    return {
        "version": 1,
        "fingerprint": prepared.fingerprint,
        "sources": [
            {
                "path": part.source.name,
                "num_rows": count,
                "format": part.spec.format,
                "columns": dict(part.spec.columns),
                "weight": part.weight,
            }
            for part, count in zip(opened.train.parts, part_rows, strict=True)
        ],
        "template": template.to_dict() if template else None,
        "template_kwargs": config.data.template_kwargs,
        "tokenizer": pipeline.tokenizer.fingerprint,
        "num_rows": prepared.num_rows,
        "num_eval_rows": len(prepared.eval) if prepared.eval is not None else 0,
        "num_tokens": prepared.num_tokens,
        "num_trained_tokens": prepared.num_trained_tokens,
        "packing": prepared.is_packed,
        "seed": config.training.seed,
        "verdict": _brief(verdict),
    }


def _brief(verdict: dict[str, Any]) -> dict[str, Any]:
    """The verdict with a few rows of each problem; the store has them all."""
    return {
        **verdict,
        "needs_yes": needing_yes(verdict),
        "problems": [{**problem, "rows": problem["rows"][:_ROWS_KEPT]} for problem in verdict["problems"]],
    }
