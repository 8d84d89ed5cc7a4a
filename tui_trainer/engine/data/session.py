"""A dataset that is looked at: opened at once, its tokenizer loaded when tokens are asked for first.

Used by the data worker and by the commands `preview` and `check`. Methods may be called from several threads.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from tui_trainer.config.schema import RunConfig
from tui_trainer.engine.data.building import VERDICT, build_store
from tui_trainer.engine.data.crew import Job
from tui_trainer.engine.data.dataset import Examples, PackedExamples
from tui_trainer.engine.data.example import Example
from tui_trainer.engine.data.formats.roles import WITHOUT_TURNS
from tui_trainer.engine.data.generation import configured_stops
from tui_trainer.engine.data.judged import Judged
from tui_trainer.engine.data.pipeline import DataPipeline
from tui_trainer.engine.data.pipeline_setup import pipeline_for
from tui_trainer.engine.data.prepare import fingerprint_for
from tui_trainer.engine.data.problems import RowProblem
from tui_trainer.engine.data.rows import Heartbeat, Record, no_heartbeat
from tui_trainer.engine.data.rowset import OpenedData, open_data
from tui_trainer.engine.data.selection import Selection, items_of, select
from tui_trainer.engine.data.store import ExampleStore, find_store, stores_dir
from tui_trainer.engine.data.streaming.judging import JUDGED_ROWS, FirstRows, judge_first_rows
from tui_trainer.engine.data.tokenizer_cache import text_tokenizer
from tui_trainer.engine.data.verdict import Tally, needing_yes, problem_of_all
from tui_trainer.engine.report import Report, ignore_report
from tui_trainer.errors import UsageError


class DataSession:
    """One configuration's data.

    Args:
        config: the run.
        split: look at this split instead of the one to train on.
        report: told what opening does.
        opened: the data, where it is open already.

    Raises:
        WorkbenchError: as `open_data`.
    """

    def __init__(
        self,
        config: RunConfig,
        split: str | None = None,
        report: Report = ignore_report,
        opened: OpenedData | None = None,
    ) -> None:
        self.config = config
        self.split = split
        self._lock = threading.Lock()
        self._pipeline: DataPipeline | None = None
        self._judged: ExampleStore | None = None
        self._judgement: Judged | None = None
        self._first: FirstRows | None = None
        self.selection: Selection | None = None
        """What is trained on and how it is packed, once the verdict was asked for."""
        self.opened = opened or open_data(config.data, config.stage, split=split, report=report)
        self.rows = self.opened.train

    def with_template(self, name: str | None) -> DataSession:
        """The same rows with another chat template, as `data.template` names it; nothing is read anew."""
        data = self.config.data.model_copy(update={"template": name})
        return DataSession(self.config.model_copy(update={"data": data}), self.split, opened=self.opened)

    # -- what is known without a tokenizer

    def count(self, heartbeat: Heartbeat = no_heartbeat) -> int:
        """Count the rows to the end; of a stream of the hub only the first rows are looked at, and counted."""
        return len(self._shown_rows()) if self._is_uncounted else self.rows.count(heartbeat)

    @property
    def num_rows(self) -> int | None:
        """Rows that can be looked at; None until they have been counted."""
        return len(self._shown_rows()) if self._is_uncounted else self.rows.num_rows

    @property
    def _is_uncounted(self) -> bool:
        return self.config.data.streaming and not self.rows.is_local and self.rows.num_rows is None

    def _shown_rows(self) -> list[Record]:
        return self.rows.records(0, JUDGED_ROWS)

    def count_all(self) -> None:
        """Count the rows of every split of every source."""
        for dataset in self.opened.datasets:
            for source in dataset.splits.values():
                if not self.config.data.streaming:
                    source.count()

    def info(self) -> dict[str, Any]:
        """Sources with their splits, the format, and the rows as far as they are counted."""
        spec = self.opened.specs[0]
        return {
            "sources": [
                {
                    "path": dataset.path,
                    "format": part.spec.format,
                    "columns": dict(part.spec.columns),
                    "confidence": round(part.spec.confidence, 3),
                    "weight": part.weight,
                    "splits": {
                        name: {"num_rows": source.num_rows, "features": dict(source.features)}
                        for name, source in dataset.splits.items()
                    },
                }
                for dataset, part in zip(self.opened.datasets, self.rows.parts, strict=True)
            ],
            "split": self.split_name,
            "num_rows": self.num_rows,
            "format": spec.format,
            "columns": dict(spec.columns),
            "confidence": round(spec.confidence, 3),
            "reason": spec.reason,
            "features": dict(self.rows.features),
        }

    @property
    def split_name(self) -> str:
        """The split that is looked at; of a dataset that has only one, that one."""
        wanted = self.split or self.config.data.split
        splits = self.opened.datasets[0].splits
        return next(iter(splits)) if wanted not in splits and len(splits) == 1 else wanted

    def records(self, start: int, stop: int) -> list[Record]:
        """Rows as they stand in the data."""
        return self.rows.records(start, stop)

    def record(self, row: int) -> Record:
        """One row.

        Raises:
            UsageError: there is no such row.
        """
        found = self.rows.records(row, row + 1) if row >= 0 else []
        if not found:
            raise UsageError(f"there is no row {row}; the data has {self.count():,}", remedy="The first is row 0.")
        return found[0]

    # -- what needs the tokenizer

    @property
    def has_pipeline(self) -> bool:
        """Whether tokens can be had at once."""
        return self._pipeline is not None

    @property
    def is_stand_in(self) -> bool:
        """Whether tokens are shown by a stand-in, because no model is named."""
        return self.config.model.name_or_path is None and self.config.model.tokenizer_name_or_path is None

    def pipeline(self, report: Report = ignore_report) -> DataPipeline:
        """The pipeline, made at first use.

        Args:
            report: told when the tokenizer has to be loaded.

        Raises:
            WorkbenchError: the tokenizer or the template cannot be had.
        """
        with self._lock:
            if self._pipeline is None:
                tokenizer = text_tokenizer(self.config.model, report)
                stops = configured_stops(self.config.model, tokenizer)
                self._pipeline = pipeline_for(self.config, tokenizer, self.opened, stops)
            return self._pipeline

    @cached_property
    def fingerprint(self) -> str:
        """The fingerprint of the rows as they are tokenised."""
        return fingerprint_for(self.rows, self.pipeline(), self.config)

    def template(self) -> dict[str, str] | None:
        """Name, source and hash of the chat template; None where there is none, or no row has turns to put into it."""
        template = self.pipeline().template
        is_used = any(part.spec.format not in WITHOUT_TURNS for part in self.rows.parts)
        return template.to_dict() if template and is_used else None

    def examples(self, records: Sequence[Record]) -> list[Example]:
        """Examples with spans, for showing."""
        return self.pipeline().examples(records, in_detail=True)

    def partial_verdict(self, examples: Sequence[Example]) -> dict[str, Any]:
        """The verdict over some examples only."""
        tally = Tally(self.config.data)
        tally.add(examples)
        return tally.result(self.rows.where, self._problems_of_all())

    def verdict(self, report: Report = ignore_report) -> dict[str, Any]:
        """The verdict over all rows, from the cache if it was made before; over the first rows of what is streamed.

        Besides what the contract has: `fingerprint`; `lengths`, how many rows have how many tokens before cutting, as
        [tokens, rows] ascending; and `num_train_rows`, the items of an epoch after rows are held out for evaluation,
        weighted and packed, None for a stream.
        """
        self.pipeline(report)
        if self.config.data.streaming:
            self._first = self._first or judge_first_rows(self.rows, self.pipeline(), self.config.data, report)
            return self._completed(self._first.verdict, np.array(self._first.lengths))
        store = self._store(report)
        self.selection = select(self.config, self.rows.parts, store)
        return self._completed(store.meta[VERDICT], store.lengths)

    def items(self, report: Report = ignore_report) -> Examples | PackedExamples:
        """What a run trains on, item by item; tokenised now if it was not before.

        Raises:
            UsageError: the rows are streamed.
        """
        if self.config.data.streaming:
            raise UsageError("the rows of a stream have no numbers of their own")
        self.pipeline(report)
        store = self._store(report)
        return items_of(store, select(self.config, self.rows.parts, store))

    def _completed(self, verdict: dict[str, Any], lengths: np.ndarray) -> dict[str, Any]:
        also = [problem_of_all(problem, verdict["num_usable"]) for problem in self._problems_of_all()]
        tokens, counts = np.unique(lengths, return_counts=True)
        return {
            **verdict,
            "problems": [*verdict["problems"], *also],
            "needs_yes": needing_yes(verdict),
            "fingerprint": self.fingerprint,
            "lengths": np.stack([tokens, counts], axis=1).tolist(),
            "num_train_rows": self.selection.num_items if self.selection else None,
        }

    def judged(self) -> Judged | None:
        """What is known of each row, once the whole set is judged."""
        store = self.known_store()
        if store is not None and self._judgement is None:
            self._judgement = Judged(store)
        return self._judgement

    def problem_rows(self, code: str) -> list[int]:
        """All rows that have a problem, as far as they are judged."""
        if self._first:
            return [int(row) for row in self._first.problem_rows.get(code, ())]
        store = self.known_store()
        return store.problem_rows(code).tolist() if store else []

    def _store(self, report: Report) -> ExampleStore:
        if self._judged is None:
            folder = stores_dir(self.config.data.cache_dir)
            job = Job(self.config, self.pipeline().tokenizer.state, self.split)
            self._judged = build_store(self.rows, self.pipeline(), job, self.fingerprint, folder, report)
        return self._judged

    def known_store(self) -> ExampleStore | None:
        """The prepared examples of all rows, once the whole set is judged."""
        if self._judged is None and self.has_pipeline:
            self._judged = find_store(stores_dir(self.config.data.cache_dir), self.fingerprint)
        return self._judged

    def _problems_of_all(self) -> list[RowProblem]:
        problem = self.pipeline().stop_problem
        return [problem] if problem else []
