"""Datasets from the hub, by `datasets.load_dataset`; scripts of a repository are never run."""

from __future__ import annotations

import itertools
import json
import os
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from tui_trainer.config.data import SourceFields
from tui_trainer.engine.data.rows import BadRow, Heartbeat, Row, RowSource, features_of, no_heartbeat
from tui_trainer.engine.data.sources.arrow import without_absent
from tui_trainer.engine.models.hub import is_online
from tui_trainer.errors import ConfigurationError, DataError, MachineError, Problem

_FEATURE_ROWS = 100
_KEPT_ROWS = 1024
"""First rows of a stream that are kept, because they are asked for again and again."""


class HubRows:
    """One split of a dataset of the library `datasets`; implements `RowSource`."""

    def __init__(self, dataset: Any, name: str) -> None:
        self._dataset = dataset
        self.name = name
        self.num_rows: int | None = dataset.num_rows
        self.features = {column: _type_name(feature) for column, feature in dataset.features.items()}
        self.fingerprint: str = dataset._fingerprint

    def count(self, heartbeat: Heartbeat = no_heartbeat) -> int:
        """The number of rows, which is known."""
        heartbeat(self._dataset.num_rows)
        return int(self._dataset.num_rows)

    def where(self, row: int) -> str:
        """Dataset and number of a row."""
        return f"{self.name}: row {row}"

    def rows(self, start: int, stop: int) -> Sequence[Row | BadRow]:
        """The rows from `start` up to `stop`."""
        columns = self._dataset[start : min(stop, self._dataset.num_rows)]
        names = list(columns)
        return [
            {name: without_absent(value) for name, value in zip(names, cells, strict=True)}
            for cells in zip(*columns.values(), strict=True)
        ]


class HubStream:
    """One split of a dataset of the library `datasets` that is read as it is needed; implements `RowSource`.

    Rows come in order; going back to a row that is no longer kept begins anew.

    Args:
        dataset: a `datasets.IterableDataset`.
        name: what messages call it.
        fingerprint: what it was made from.
    """

    num_rows: int | None = None

    def __init__(self, dataset: Any, name: str, fingerprint: str) -> None:
        self._dataset = dataset
        self.name = name
        self.fingerprint = fingerprint
        self._lock = threading.Lock()
        self._first: list[Row] = []
        self._rest: Iterator[Row] = iter(())
        self._at = 0
        self._begin()
        self.features = features_of(self.rows(0, _FEATURE_ROWS))

    def count(self, heartbeat: Heartbeat = no_heartbeat) -> int:
        """Count the rows by reading all of them."""
        while self.num_rows is None:
            self.rows(self._at, self._at + _FEATURE_ROWS)
            heartbeat(self._at)
        return self.num_rows

    def where(self, row: int) -> str:
        """Dataset and number of a row."""
        return f"{self.name}: row {row}"

    def rows(self, start: int, stop: int) -> Sequence[Row | BadRow]:
        """The rows from `start` up to `stop`."""
        with self._lock:
            if start < len(self._first) and (stop <= len(self._first) or self.num_rows == len(self._first)):
                return self._first[start:stop]
            if start < self._at:
                self._begin()
            self._read(start - self._at)
            return self._read(stop - start)

    def _begin(self) -> None:
        self._at = 0
        try:
            self._rest = iter(self._dataset)
        except Exception as error:  # as in `_read`
            raise _explained(error, self.name) from None

    def _read(self, count: int) -> list[Row]:
        rows: list[Row] = []
        try:
            rows.extend(itertools.islice(self._rest, max(count, 0)))
        except Exception as error:  # the library raises what the network and the parsers raise
            raise _explained(error, self.name) from None
        rows = [{column: without_absent(value) for column, value in row.items()} for row in rows]
        if self._at == len(self._first) < _KEPT_ROWS:
            self._first += rows[: _KEPT_ROWS - self._at]
        self._at += len(rows)
        if len(rows) < count:
            self.num_rows = self._at
        return rows


def load_from_hub(
    fields: SourceFields, cache_dir: str | None, num_proc: int | None, *, streaming: bool = False
) -> dict[str, RowSource]:
    """The splits of a dataset of the hub.

    Args:
        fields: which dataset.
        cache_dir: cache of the hub.
        num_proc: processes that load it.
        streaming: read rows as they are needed instead of fetching all first.

    Raises:
        ConfigurationError: the environment variable that should hold the token is not set.
        MachineError: the hub does not answer and the dataset is not in the cache.
        DataError: there is no such dataset, or it needs a script.
    """
    import datasets
    import huggingface_hub

    repository = str(fields.path)
    if not is_online():
        # asked once here; the libraries would ask five times for each file
        datasets.config.HF_HUB_OFFLINE = True
        huggingface_hub.constants.HF_HUB_OFFLINE = True
    try:
        loaded = datasets.load_dataset(
            repository,
            fields.name,
            data_files=fields.data_files,
            revision=fields.revision,
            token=_token(fields),
            cache_dir=cache_dir,
            num_proc=None if streaming else num_proc,
            streaming=streaming,
        )
    except Exception as error:  # the library raises what the network, the parsers and its own checks raise
        raise _explained(error, repository) from None
    made_from = json.dumps([repository, fields.name, fields.data_files, fields.revision])
    return {
        str(split): HubStream(rows, f"{repository}/{split}", f"{made_from}/{split}")
        if streaming
        else HubRows(rows, f"{repository}/{split}")
        for split, rows in loaded.items()
    }


def _token(fields: SourceFields) -> str | None:
    if fields.token_env is None:
        return None
    token = os.environ.get(fields.token_env)
    if not token:
        problem = Problem(
            "data.token_env", f"the environment variable {fields.token_env} is not set", "set it and try again"
        )
        raise ConfigurationError.of([problem])
    return token


def _explained(error: Exception, repository: str) -> MachineError | DataError:
    kind, text = type(error).__name__, str(error).split("\n", 1)[0][:300]
    if "script" in text.lower() or "trust_remote_code" in text:
        return DataError(
            "needs a Python script of its repository, which is not run",
            where=repository,
            remedy="Use a Parquet version of it: set data.revision to refs/convert/parquet.",
        )
    is_offline = isinstance(error, (ConnectionError, OSError)) or "Connection" in kind or "Offline" in kind
    if kind in ("DatasetNotFoundError", "RepositoryNotFoundError"):
        return DataError(f"there is no file, folder or dataset {repository!r}: {text}", remedy="Check the spelling.")
    if is_offline:
        return MachineError(
            f"there is no file or folder {repository!r}, and the hub cannot be asked: {text}",
            remedy="Check the spelling and the network, or give the path of a local dataset.",
        )
    return DataError(f"cannot be loaded: {kind}: {text}", where=repository)


def _type_name(feature: Any) -> str:
    return str(getattr(feature, "dtype", None) or type(feature).__name__)
