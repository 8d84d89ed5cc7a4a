"""The door to the data: from what the configuration names to splits of rows."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from tui_trainer.config.data import SourceFields
from tui_trainer.engine.data.rows import RowSource
from tui_trainer.engine.data.sources.content import read_head
from tui_trainer.engine.data.sources.folder import data_files, saved_splits, split_files
from tui_trainer.engine.data.sources.recognise import DataFile, recognise
from tui_trainer.engine.data.sources.splits import Joined
from tui_trainer.engine.report import Report, ignore_report
from tui_trainer.errors import ConfigurationError, DataError, Problem

DEMO_PREFIX = "demo:"
_HEAD_BYTES = 1 << 17


@dataclass(frozen=True)
class Dataset:
    """What lies behind one path, as a `DatasetDict` would show it.

    Attributes:
        path: what the user called it.
        splits: name to rows.
        is_local: whether it lies in files of this machine.
    """

    path: str
    splits: dict[str, RowSource]
    is_local: bool = True


def open_dataset(
    fields: SourceFields,
    *,
    cache_dir: str | None = None,
    num_proc: int | None = None,
    streaming: bool = False,
    report: Report = ignore_report,
) -> Dataset:
    """Open a file, a folder, a shipped sample or a dataset of the hub.

    Args:
        fields: path and what else `load_dataset` takes.
        cache_dir: cache of the hub.
        num_proc: processes that load from the hub.
        streaming: read rows of the hub as they are needed instead of fetching all first.
        report: told when the hub is asked.

    Raises:
        DataError: there is nothing there, or nothing that can be read.
        MachineError: the hub is needed and does not answer.
        ConfigurationError: no path is set.
    """
    if not fields.path:
        raise ConfigurationError.of(
            [Problem("data.path", "is not set", "name a file, a folder or a dataset of the hub")]
        )
    if fields.path.startswith(DEMO_PREFIX):
        return Dataset(fields.path, _open_path(_demo_path(fields.path), fields))
    path = Path(fields.path).expanduser()
    if path.exists() or path.is_symlink():
        return Dataset(fields.path, _open_path(path, fields))
    if not _may_be_on_hub(fields.path):
        raise _missing(path)
    report(f"asking the hub for {fields.path}", None, None)
    from tui_trainer.engine.data.sources.hub import load_from_hub

    splits = load_from_hub(fields, cache_dir, num_proc, streaming=streaming)
    return Dataset(fields.path, splits, is_local=False)


def _demo_path(reference: str) -> Path:
    from tui_trainer.engine.demo.samples import sample_path

    return sample_path(reference.removeprefix(DEMO_PREFIX))


def _open_path(path: Path, fields: SourceFields) -> dict[str, RowSource]:
    if not path.is_dir():
        return _splits_of(recognise(path))
    patterns = [fields.data_files] if isinstance(fields.data_files, str) else fields.data_files or []
    saved = None if patterns else saved_splits(path)
    files = saved if saved is not None else split_files(path, data_files(path, patterns))
    return {split: _open_shards(path, split, shards) for split, shards in files.items()}


def _splits_of(file: DataFile) -> dict[str, RowSource]:
    """The splits of one file: all it holds, unless it is JSON that names several."""
    if file.kind != "json":
        return {"train": open_file(file)}
    from tui_trainer.engine.data.sources.json_values import JsonValues

    values = JsonValues(file)
    return {"train": values, **values.other_splits}


def _open_shards(folder: Path, split: str, files: list[Path]) -> RowSource:
    sources = [open_file(recognise(file)) for file in files]
    if len(sources) == 1:
        return sources[0]
    first, *others = sources
    stranger = next((source for source in others if not set(source.features) & set(first.features)), None)
    if first.features and stranger is not None and stranger.features:
        raise DataError(
            f"the files of the split {split} share no column: {Path(first.name).name} has {_columns(first)}, "
            f"{Path(stranger.name).name} has {_columns(stranger)}",
            where=str(folder),
            remedy="Name one of the files, or set data.data_files.",
        )
    return Joined(sources, f"{folder}/{split}")


def _columns(source: RowSource) -> str:
    return ", ".join(list(source.features)[:6])


def open_file(file: DataFile) -> RowSource:
    """The rows of a file.

    Raises:
        DataError: it is broken from its start.
    """
    match file.kind:
        case "jsonl":
            from tui_trainer.engine.data.sources.json_lines import JsonLines

            return JsonLines(file)
        case "json":
            from tui_trainer.engine.data.sources.json_values import JsonValues

            return JsonValues(file)
        case "csv" | "tsv":
            from tui_trainer.engine.data.sources.tables import Table

            return Table(file, read_head(file.path, file.compression, _HEAD_BYTES))
        case "parquet" | "arrow":
            from tui_trainer.engine.data.sources.arrow import ArrowRows

            return ArrowRows(file)
        case "text":
            from tui_trainer.engine.data.sources.passages import open_text

            return open_text(file, read_head(file.path, file.compression, _HEAD_BYTES))
        case "document":
            from tui_trainer.engine.data.sources.passages import Document

            return Document(file)


def _may_be_on_hub(path: str) -> bool:
    """Whether it could be a hub id: a name, or an owner and a name, and no sign of a path."""
    parts = path.split("/")
    is_path = path.startswith(("/", ".", "~")) or "\\" in path
    return not is_path and len(parts) <= 2 and all(parts) and not Path(path).suffix


def _missing(path: Path) -> DataError:
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return DataError(
            "there is no such file or folder", where=str(path), remedy=f"{path.parent} is no folder either."
        )
    near = difflib.get_close_matches(path.name, names, n=1)
    hint = f"Did you mean {path.parent / near[0]}?" if near else "Check the path."
    return DataError("there is no such file or folder", where=str(path), remedy=hint)
