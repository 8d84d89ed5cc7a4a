"""Tokenised examples on the disk: written once in order, mapped by every rank and every later run.

A store is a folder of flat arrays, named by its fingerprint and put in place by one rename, so that there is a whole
one or none. It holds what `verdict` found out too. Layout: `ids.bin` (uint16 or uint32) and `mask.bin` (uint8, 1 where
the token counts in the loss), all examples one behind the other; `offsets.npy`, `rows.npy` and `trained.npy`, one
number an example; `weighted.npy`, shape (num_stretches, 4), example, start, end and weight of the stretches that do not
weigh 1; `lengths.npy`, one number a row; `problems.npz`, the rows of each problem; `meta.json`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tui_trainer.engine.data.example import IGNORED, LOSS_WEIGHTS, Example, Weighted, weights_of
from tui_trainer.errors import MachineError
from tui_trainer.paths import cache_dir, make_private
from tui_trainer.runs.files import read_json, write_json

_META = "meta.json"
_MAX_CACHE_BYTES = 64 << 30
_LARGEST_SMALL_ID = np.iinfo(np.uint16).max


class ExampleStore:
    """The examples of some rows, mapped from the disk.

    Attributes:
        fingerprint: name of the store.
        meta: counts and verdict.
        rows: for each example the row it comes from.
        trained: for each example its tokens that count in the loss.
        lengths: for each row its tokens before anything was cut; 0 where it could not be read.
    """

    def __init__(self, folder: Path) -> None:
        self.fingerprint = folder.name
        self.meta: dict[str, Any] = read_json(folder / _META) or {}
        self._offsets: np.ndarray = np.load(folder / "offsets.npy")
        self.rows: np.ndarray = np.load(folder / "rows.npy")
        self.trained: np.ndarray = np.load(folder / "trained.npy")
        self.lengths: np.ndarray = np.load(folder / "lengths.npy")
        self._weighted: np.ndarray = np.load(folder / "weighted.npy")
        self._folder = folder
        self._ids = _mapped(folder / "ids.bin", np.dtype(self.meta["dtype"]))
        self._mask = _mapped(folder / "mask.bin", np.dtype(np.uint8))

    def __reduce__(self) -> tuple[type[ExampleStore], tuple[Path]]:
        # another process maps the files itself; pickling the arrays would copy all tokens
        return ExampleStore, (self._folder,)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        """`input_ids` and `labels` of an example, int64, shape (num_tokens,).

        With `loss_weights`, float32 of the same shape, where not all labels weigh 1.
        """
        start, end = self._offsets[index], self._offsets[index + 1]
        ids = self._ids[start:end].astype(np.int64)
        item = {"input_ids": ids, "labels": np.where(self._mask[start:end], ids, IGNORED)}
        if self.is_weighted:
            first, last = np.searchsorted(self._weighted[:, 0], (index, index + 1))
            stretches = [Weighted(int(row[1]), int(row[2]), row[3]) for row in self._weighted[first:last]]
            if stretches:
                item[LOSS_WEIGHTS] = weights_of(len(ids), stretches)
        return item

    @property
    def is_weighted(self) -> bool:
        """Whether some labels do not weigh 1."""
        return len(self._weighted) > 0

    def problem_rows(self, code: str) -> np.ndarray:
        """The rows that have a problem."""
        with np.load(self._folder / "problems.npz") as problems:
            rows: np.ndarray = problems[code] if code in problems else np.zeros(0, dtype=np.int64)
        return rows

    @property
    def example_lengths(self) -> np.ndarray:
        """Tokens of each example."""
        lengths: np.ndarray = np.diff(self._offsets)
        return lengths


def stores_dir(cache: str | None = None) -> Path:
    """The folder of all stores.

    Args:
        cache: `data.cache_dir`, None for the usual one.
    """
    return (Path(cache).expanduser() if cache else cache_dir()) / "examples"


def find_store(folder: Path, fingerprint: str) -> ExampleStore | None:
    """The store of that name, None if there is none."""
    path = folder / fingerprint
    if not (path / _META).is_file():
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    try:
        return ExampleStore(path)
    except (OSError, ValueError, KeyError):
        shutil.rmtree(path, ignore_errors=True)
        return None


@contextlib.contextmanager
def building(folder: Path, fingerprint: str) -> Iterator[None]:
    """Let one process at a time build the store of that name; the others wait, and then find it there."""
    make_private(folder)
    with (folder / f".{fingerprint}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class StoreWriter:
    """Writes a store; `publish` puts it in place, leaving the context without it removes what was written.

    Args:
        folder: the folder of all stores.
        fingerprint: name of the store.
        vocab_size: ids are below it.

    Raises:
        MachineError: the disk is full or not writable.
    """

    def __init__(self, folder: Path, fingerprint: str, vocab_size: int) -> None:
        self._folder = folder
        self._target = folder / fingerprint
        self._staging = folder / f".{fingerprint}.{os.getpid()}.tmp"
        self._dtype = np.dtype(np.uint16 if vocab_size <= _LARGEST_SMALL_ID else np.uint32)
        self._offsets = array("q", [0])
        self._rows = array("q")
        self._lengths = array("q")
        self._trained = array("q")
        self._weighted = array("d")

    def __enter__(self) -> StoreWriter:
        try:
            make_private(self._folder)
            _remove_old(self._folder)
            shutil.rmtree(self._staging, ignore_errors=True)
            self._staging.mkdir(mode=0o700)
            self._ids: BinaryIO = (self._staging / "ids.bin").open("wb")
            self._mask: BinaryIO = (self._staging / "mask.bin").open("wb")
        except OSError as error:
            raise self._refused(error) from None
        return self

    def __exit__(self, *exc: object) -> None:
        self._ids.close()
        self._mask.close()
        shutil.rmtree(self._staging, ignore_errors=True)

    def add(self, examples: Sequence[Example]) -> None:
        """Append the usable examples, and note the length of every row."""
        usable = [example for example in examples if example.is_usable]
        masks = []
        for example in usable:
            mask = np.zeros(example.num_tokens, dtype=np.uint8)
            for start, end in example.trained:
                mask[start:end] = 1
            masks.append(mask)
            for part in example.weighted:
                self._weighted.extend((len(self._rows), part.start, part.end, part.weight))
            self._offsets.append(self._offsets[-1] + example.num_tokens)
            self._rows.append(example.row)
            self._trained.append(example.num_trained)
        for example in examples:
            if example.row == len(self._lengths):
                self._lengths.append(example.num_tokens_before)
        if usable:
            ids = [token for example in usable for token in example.input_ids]
            try:
                self._ids.write(np.array(ids, dtype=self._dtype).tobytes())
                self._mask.write(np.concatenate(masks).tobytes())
            except OSError as error:
                raise self._refused(error) from None

    def publish(self, meta: dict[str, Any], problem_rows: Mapping[str, np.ndarray]) -> ExampleStore:
        """Put the store in place.

        Args:
            meta: what is to be known of it.
            problem_rows: for each problem code the rows that have it.
        """
        arrays = {"offsets": self._offsets, "rows": self._rows, "lengths": self._lengths, "trained": self._trained}
        try:
            self._ids.close()
            self._mask.close()
            for name, values in arrays.items():
                np.save(self._staging / f"{name}.npy", np.frombuffer(values, dtype=np.int64))
            np.save(self._staging / "weighted.npy", np.frombuffer(self._weighted, dtype=np.float64).reshape(-1, 4))
            np.savez(self._staging / "problems.npz", **problem_rows)  # type: ignore[arg-type]
            counts = {"num_rows": len(self._lengths), "num_examples": len(self._rows), "num_tokens": self._offsets[-1]}
            write_json(self._staging / _META, {"dtype": self._dtype.name, **counts, **meta})
            shutil.rmtree(self._target, ignore_errors=True)
            self._staging.rename(self._target)
        except OSError as error:
            raise self._refused(error) from None
        return ExampleStore(self._target)

    def _refused(self, error: OSError) -> MachineError:
        return MachineError(
            f"prepared data cannot be written: {error.strerror}",
            where=str(self._folder),
            remedy="Free some space, or set data.cache_dir to a folder with more.",
        )


def _mapped(path: Path, dtype: np.dtype[Any]) -> np.ndarray:
    if path.stat().st_size == 0:
        return np.zeros(0, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r")


def _is_left_behind(path: Path) -> bool:
    """Whether nobody writes a store any more: it is a day old, and, clocks being set, its writer is gone as well."""
    writer = path.name.removesuffix(".tmp").rpartition(".")[2]
    is_at_work = Path("/proc", writer).exists() if writer.isdigit() else False
    return path.name.endswith(".tmp") and not is_at_work and time.time() - path.stat().st_mtime > 86_400


def _remove_old(folder: Path) -> None:
    """Remove the stores used longest ago, as long as all together take too much room."""
    stores = []
    for path in folder.iterdir():
        if path.name.startswith("."):
            if _is_left_behind(path):
                shutil.rmtree(path, ignore_errors=True)
        elif path.is_dir():
            size = sum(file.stat().st_size for file in path.iterdir())
            stores.append((path.stat().st_mtime, size, path))
    total = sum(size for _, size, _ in stores)
    for _, size, path in sorted(stores):
        if total <= _MAX_CACHE_BYTES:
            break
        shutil.rmtree(path, ignore_errors=True)
        total -= size
