"""Everything a run needs of its data: tokenised once, split into training and evaluation, packed, ready to be collated.

Every rank calls `prepare_data`; one of them does the work while the others wait, then all map the same store.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
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
from tui_trainer.engine.data.selection import Selection, select
from tui_trainer.engine.data.store import ExampleStore, stores_dir
from tui_trainer.engine.data.tokenizer import TextTokenizer
from tui_trainer.engine.report import Report, ignore_report
from tui_trainer.errors import ConfigurationError, DataError, Problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NUM_REFERENCES = 200
"""Evaluation rows whose prompts and answers are handed over, unless the run asks for more of them."""

_ROWS_KEPT = 20


@dataclass
class PreparedData:
    """The data of a run.

    Attributes:
        train: the examples or packed rows to train on; map-style, items are dicts of arrays.
        eval: those to evaluate on, never packed; None if there are none.
        collator: makes a batch of training items.
        eval_collator: makes a batch of evaluation items.
        fingerprint: name of the tokenised rows, the same that the preview shows.
        num_rows: rows trained on in an epoch; a row of weight 2 counts twice.
        num_tokens: their tokens.
        num_trained_tokens: those that count in the loss.
        is_packed: whether an item holds several examples.
        is_weighted: whether some labels may weigh more or less than others.
        summary: what becomes data.json.
        eval_references: prompts and answers of the first evaluation rows.
    """

    train: Examples | PackedExamples
    eval: Examples | None
    collator: PaddedCollator | PackedCollator
    eval_collator: PaddedCollator
    fingerprint: str
    num_rows: int
    num_tokens: int
    num_trained_tokens: int
    is_packed: bool = False
    is_weighted: bool = False
    summary: dict[str, Any] = field(default_factory=dict)
    eval_references: list[EvalReference] = field(default_factory=list)


def prepare_data(
    config: RunConfig,
    tokenizer: PreTrainedTokenizerBase,
    report: Report = ignore_report,
    *,
    stop_token_ids: Iterable[int] = (),
) -> PreparedData:
    """Open, tokenise, split and pack the data of a run.

    Args:
        config: the run.
        tokenizer: its tokenizer.
        report: told what is going on; what it raises ends the preparation.
        stop_token_ids: ids at which generation stops, where they are known.

    Raises:
        ConfigurationError: a setting does not fit the data.
        DataError: the data cannot be read, or nothing of it would be trained.
        MachineError: the hub or the disk.
    """
    data = config.data
    if data.streaming:
        raise ConfigurationError.of([Problem("data.streaming", "is not supported yet", "set it to false")])
    text_tokenizer = TextTokenizer.of(tokenizer, config.model.tokenizer_name_or_path or config.model.name_or_path or "")
    report("opening the data", None, None)
    opened = open_data(data, config.stage, report=report)
    pipeline = pipeline_for(config, text_tokenizer, opened, stop_token_ids)
    folder = stores_dir(data.cache_dir)
    job = Job(config, text_tokenizer.state)
    store = _store(opened.train, pipeline, job, folder, report)
    eval_job = replace(job, is_evaluation=True)
    eval_store = _store(opened.evaluation, pipeline, eval_job, folder, report) if opened.evaluation else None
    selection = select(config, opened.train.parts, store)
    train = Examples(store, selection.train)
    if len(train) == 0:
        raise DataError("leaves no row to train on", where="data.eval_split", remedy="Evaluate on fewer rows.")
    evaluation, held_out = _evaluation(opened, selection, store, eval_store)
    padding = Padding.of(data, text_tokenizer.padded_with(data.pad_token))
    is_packed = selection.bins is not None
    num_references = max(NUM_REFERENCES, config.sampling.num_exact_match)
    prepared = PreparedData(
        train=PackedExamples(train, selection.bins) if selection.bins is not None else train,
        eval=evaluation,
        collator=PackedCollator() if is_packed else PaddedCollator(padding),
        eval_collator=PaddedCollator(padding),
        fingerprint=store.fingerprint,
        num_rows=len(train),
        num_tokens=int(train.lengths.sum()),
        num_trained_tokens=int(store.trained[train.indices].sum()),
        is_packed=is_packed,
        is_weighted=store.is_weighted or (eval_store is not None and eval_store.is_weighted),
        eval_references=references(pipeline, *held_out, num_references) if held_out else [],
    )
    prepared.summary = _summary(config, prepared, pipeline, opened, store)
    return prepared


def fingerprint_for(rows: RowSet, pipeline: DataPipeline, config: RunConfig) -> str:
    """The fingerprint of rows as the run tokenises them."""
    return fingerprint_of(rows, config.data, config.stage, pipeline.tokenizer, pipeline.template)


def _store(rows: RowSet, pipeline: DataPipeline, job: Job, folder: Path, report: Report) -> ExampleStore:
    store = build_store(rows, pipeline, job, fingerprint_for(rows, pipeline, job.config), folder, report)
    verdict = store.meta[VERDICT]
    if verdict["blocks_launch"]:
        worst = next((problem["message"] for problem in verdict["problems"]), "")
        raise DataError(
            f"cannot be trained on: {verdict['reason']}" + (f". {worst}" if worst else ""),
            where=", ".join(part.source.name for part in rows.parts),
            remedy=next((problem["remedy"] for problem in verdict["problems"]), ""),
        )
    return store


_HeldOut = tuple[RowSet, np.ndarray]
"""Rows, and the numbers of those that are evaluated on."""


def _evaluation(
    opened: OpenedData, selection: Selection, store: ExampleStore, eval_store: ExampleStore | None
) -> tuple[Examples | None, _HeldOut | None]:
    """The examples to evaluate on, and their rows."""
    if selection.evaluation is not None and selection.held_out_rows is not None:
        examples, held_out = Examples(store, selection.evaluation), (opened.train, selection.held_out_rows)
    elif eval_store is not None and opened.evaluation is not None:
        examples = Examples(eval_store, np.arange(len(eval_store)))
        held_out = opened.evaluation, np.arange(int(eval_store.meta["num_rows"]))
    else:
        return None, None
    if len(examples) == 0:
        raise DataError("leaves no usable row to evaluate on", where="data.eval_split", remedy="Evaluate on more rows.")
    return examples, held_out


def _summary(
    config: RunConfig, prepared: PreparedData, pipeline: DataPipeline, opened: OpenedData, store: ExampleStore
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
            for part, count in zip(opened.train.parts, store.meta[PART_ROWS], strict=True)
        ],
        "template": template.to_dict() if template else None,
        "template_kwargs": config.data.template_kwargs,
        "tokenizer": pipeline.tokenizer.fingerprint,
        "num_rows": prepared.num_rows,
        "num_eval_rows": len(prepared.eval) if prepared.eval is not None else 0,
        "num_items": len(prepared.train),
        "num_tokens": prepared.num_tokens,
        "num_trained_tokens": prepared.num_trained_tokens,
        "packing": prepared.is_packed,
        "seed": config.training.seed,
        "verdict": _brief(store.meta[VERDICT]),
    }


def _brief(verdict: dict[str, Any]) -> dict[str, Any]:
    """The verdict with a few rows of each problem; the store has them all."""
    return {
        **verdict,
        "problems": [{**problem, "rows": problem["rows"][:_ROWS_KEPT]} for problem in verdict["problems"]],
    }
