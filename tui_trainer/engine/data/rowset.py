"""The rows a run is given: the chosen splits of its sources, one behind the other, each row with its number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tui_trainer.config.data import DataConfig, SourceConfig, SourceFields
from tui_trainer.engine.data.formats.detect import SAMPLE_ROWS, FormatSpec, resolve_format
from tui_trainer.engine.data.rows import BadRow, Heartbeat, Record, Row, RowSource, no_heartbeat
from tui_trainer.engine.data.sources.opening import DEMO_PREFIX, Dataset, open_dataset
from tui_trainer.engine.data.sources.splits import Joined, Slice, has_split, select_split
from tui_trainer.engine.report import Report, ignore_report
from tui_trainer.errors import ConfigurationError, DataError, Problem

_FIRST_BATCH = 64
_SIZED_ROWS = 16
"""Rows of a batch whose length decides about the size of the next."""

_SAMPLED_ROWS = 1 << 16
"""Rows among which whole ones are looked for to tell the format from."""

_BATCH_CHARACTERS = 4_000_000
"""Text that is tokenised at a time; bounds the memory it takes."""


@dataclass(frozen=True)
class Part:
    """One source of the mixture.

    Attributes:
        number: which format of the pipeline its rows have.
        source: the rows.
        spec: their format.
        weight: how often its rows are used for training.
        is_local: whether it lies in files of this machine.
    """

    number: int
    source: RowSource
    spec: FormatSpec
    weight: float = 1.0
    is_local: bool = True


class RowSet:
    """Parts one behind the other; rows are numbered through."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        self._joined = parts[0].source if len(parts) == 1 else Joined([part.source for part in parts], "the mixture")

    @property
    def num_rows(self) -> int | None:
        """Number of rows; None until they have been counted."""
        return self._joined.num_rows

    @property
    def is_local(self) -> bool:
        """Whether all parts are files of this machine, which other processes can open as well."""
        return all(part.is_local for part in self.parts)

    @property
    def features(self) -> dict[str, str]:
        """Column to type."""
        return self._joined.features

    def count(self, heartbeat: Heartbeat = no_heartbeat) -> int:
        """Count the rows to the end."""
        return self._joined.count(heartbeat)

    def where(self, row: int) -> str:
        """Where a row stands."""
        return self._joined.where(row)

    def records(self, start: int, stop: int) -> list[Record]:
        """The rows from `start` up to `stop`."""
        values = self._joined.rows(start, stop)
        return [
            Record(start + offset, self._part_of(start + offset), value, self._joined.where(start + offset))
            for offset, value in enumerate(values)
        ]

    def batches(self, size: int, start: int = 0) -> Iterator[list[Record]]:
        """All rows from `start` on, `size` at a time, fewer where they are long."""
        count = min(size, _FIRST_BATCH)
        while records := self.records(start, start + count):
            yield records
            start += len(records)
            sample = records[-_SIZED_ROWS:]
            mean = sum(_num_characters(record.value) for record in sample) / len(sample)
            count = max(1, min(size, int(_BATCH_CHARACTERS / max(mean, 1))))

    def _part_of(self, row: int) -> int:
        if len(self.parts) == 1:
            return self.parts[0].number
        for part in self.parts:
            count = part.source.num_rows
            if count is None or row < count:
                return part.number
            row -= count
        return self.parts[-1].number


def _num_characters(value: Any) -> int:
    """About how much text a value holds."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_num_characters, value.values()))
    return sum(map(_num_characters, value)) if isinstance(value, list) else 8


@dataclass(frozen=True)
class OpenedData:
    """Everything that was opened for a run.

    Attributes:
        datasets: what lies behind each path, with all its splits.
        train: the rows to train on.
        evaluation: the rows to evaluate on, where they are a split or a file of their own.
        specs: the format of every part, in the order of their numbers.
    """

    datasets: list[Dataset]
    train: RowSet
    evaluation: RowSet | None
    specs: list[FormatSpec]


def open_data(data: DataConfig, stage: str, *, split: str | None = None, report: Report = ignore_report) -> OpenedData:
    """Open what the section `[data]` names.

    Args:
        data: the section.
        stage: the stage of the run.
        split: look at this split instead of the one to train on.
        report: told when the hub is asked.

    Raises:
        ConfigurationError: a split, format or column does not fit the data.
        DataError: the data is missing or cannot be read.
        MachineError: the hub is needed and does not answer.
    """
    datasets = []
    parts: list[Part] = []
    for fields in sources_of(data):
        dataset = open_dataset(
            fields, cache_dir=data.cache_dir, num_proc=data.num_proc, streaming=data.streaming, report=report
        )
        datasets.append(dataset)
        rows = select_split(dataset.splits, split or _split_wanted(dataset, fields), dataset.path)
        part = _part(len(parts), _limited(rows, data), fields, data, stage)
        parts.append(replace(part, is_local=dataset.is_local))
    evaluation = _evaluation(data, datasets, parts, stage, report) if split is None else []
    specs = [part.spec for part in (*parts, *evaluation)]
    return OpenedData(datasets, RowSet(parts), RowSet(evaluation) if evaluation else None, specs)


def sources_of(data: DataConfig) -> list[SourceFields]:
    """The sources of the section: `[[data.sources]]`, or the one that `path` names."""
    return list(data.sources) or [data]


def _split_wanted(dataset: Dataset, fields: SourceFields) -> str:
    """The split to train on; a dataset with one split needs no name for it."""
    if "split" in fields.model_fields_set or has_split(dataset.splits, fields.split) or len(dataset.splits) != 1:
        return fields.split
    return next(iter(dataset.splits))


def _limited(source: RowSource, data: DataConfig) -> RowSource:
    return Slice(source, "", str(data.max_samples)) if data.max_samples else source


def _part(number: int, source: RowSource, fields: SourceFields, data: DataConfig, stage: str) -> Part:
    own = fields if isinstance(fields, SourceConfig) else None
    name = own.format if own and own.format != "auto" else data.format
    columns = own.columns if own and own.columns else data.columns
    rows = _sample(source)
    if not rows:
        raise DataError("holds no rows", where=source.name, remedy="Check data.path and data.split.")
    spec = resolve_format(rows, name, columns, stage, source.name)
    return Part(number, source, spec, own.weight if own else 1.0)


def _sample(source: RowSource) -> Sequence[Row | BadRow]:
    """The first rows; where none of them is whole, later ones, so that a broken beginning does not decide for all."""
    first = rows = source.rows(0, SAMPLE_ROWS)
    start = SAMPLE_ROWS
    while rows and all(isinstance(row, BadRow) for row in rows) and start < _SAMPLED_ROWS:
        rows = source.rows(start, start + SAMPLE_ROWS)
        start *= 2
    return rows or first


def _evaluation(
    data: DataConfig, datasets: Sequence[Dataset], parts: Sequence[Part], stage: str, report: Report
) -> list[Part]:
    wanted = data.eval_split
    if not isinstance(wanted, str):
        if isinstance(wanted, float) and not 0 < wanted < 1:
            problem = Problem(
                "data.eval_split", f"is {wanted:g}, but a share lies between 0 and 1", "set 0.1 for a tenth"
            )
            raise ConfigurationError.of([problem])
        return []
    found: list[Part] = []
    for dataset, fields in zip(datasets, sources_of(data), strict=True):
        if has_split(dataset.splits, wanted):
            rows = select_split(dataset.splits, wanted, dataset.path, "data.eval_split")
            part = _part(len(parts) + len(found), rows, fields, data, stage)
            found.append(replace(part, is_local=dataset.is_local))
    if found:
        return found
    if not wanted.startswith(DEMO_PREFIX) and not Path(wanted).expanduser().exists():
        splits = ", ".join(dict.fromkeys(name for dataset in datasets for name in dataset.splits))
        problem = Problem(
            "data.eval_split", f"{wanted!r} is neither a split ({splits}) nor a file", "name one, or a share"
        )
        raise ConfigurationError.of([problem])
    dataset = open_dataset(SourceFields(path=wanted), cache_dir=data.cache_dir, report=report)
    held_out = [name for name in dataset.splits if name != "train"]
    rows = dataset.splits[held_out[0] if held_out else "train"]
    return [_part(len(parts), rows, data, data, stage)]
