"""GGUF files (llama.cpp's format), turned once into safetensors and a tokenizer in the cache.

transformers reads GGUF, but slowly, and a model read so can neither be saved nor trained: it counts as quantised
although its weights have been unpacked. Converting once makes an ordinary model of it that loads in a fraction of a
second.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tui_trainer.engine.models.folder import is_model
from tui_trainer.engine.models.messages import first_line
from tui_trainer.engine.report import Report, ignore_report
from tui_trainer.errors import DataError, MachineError, WorkbenchError
from tui_trainer.paths import cache_dir, make_private
from tui_trainer.units import size

_MAGIC = b"GGUF"
_HEAD_BYTES = 1 << 20
_SMALL_MODEL = 1_000_000_000
"""Below this many parameters the unpacked weights are kept in float32, above it in bfloat16, half the size."""


def converted(path: Path, *, report: Report = ignore_report) -> Path:
    """The folder with the model of a GGUF file, made if it is not there yet.

    Raises:
        DataError: it is no GGUF file, or one that transformers cannot read.
        MachineError: there is no room for the unpacked weights.
    """
    name = f"{re.sub(r'[^A-Za-z0-9._-]', '-', path.stem)[:60]}-{_fingerprint(path)}"
    return make_once(name, lambda folder: convert(path, folder, report), report)


def make_once(name: str, make: Callable[[Path], None], report: Report) -> Path:
    """A model folder in the cache, made by `make` if it is not there, by one process at a time and never by halves.

    Args:
        name: name of the folder, which has to tell all that its contents depend on.
        make: fills the folder it is given.
        report: told when another process is at it.

    Raises:
        MachineError: the cache cannot be written.
    """
    models = cache_dir() / "models"
    target = models / name
    if is_model(target):
        return target
    try:
        make_private(models)
        with _locked(models / f".{name}.lock", report):
            if is_model(target):
                return target
            unfinished = models / f".{name}.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(mode=0o700)
            try:
                make(unfinished)
                unfinished.rename(target)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        raise MachineError(
            f"the cache of converted models cannot be written: {error.strerror or error}",
            where=str(models),
            remedy="Free space, or move the cache with TUI_TRAINER_HOME.",
        ) from None
    return target


@contextmanager
def _locked(path: Path, report: Report) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                report("waiting for another process that converts the same model", None, None)
                time.sleep(0.1)
        yield
    finally:
        os.close(descriptor)


def convert(path: Path, target: Path, report: Report = ignore_report) -> None:
    """Write the model and the tokenizer of a GGUF file into a folder.

    Raises:
        DataError: transformers cannot read it.
        MachineError: there is no room for the unpacked weights.
    """
    import torch
    from gguf import GGUFReader
    from transformers import AutoModelForCausalLM, AutoTokenizer

    report(f"reading {path.name}", 0, 4)
    try:
        num_parameters = sum(int(tensor.n_elements) for tensor in GGUFReader(path).tensors)
        dtype = torch.float32 if num_parameters < _SMALL_MODEL else torch.bfloat16
        _check_room(target, num_parameters * dtype.itemsize)
        report(f"converting the tokenizer of {path.name}", 1, 4)
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
        report(f"unpacking the weights of {path.name}", 2, 4)
        model: Any = AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=dtype, local_files_only=True
        )
    except (WorkbenchError, OSError, MemoryError):
        raise
    except Exception as error:  # the readers raise errors of many kinds, the tokenizer's a bare one
        raise _unreadable(path, error) from None
    report(f"saving {path.name} as safetensors", 3, 4)
    if getattr(model, "hf_quantizer", None) is not None:
        model.hf_quantizer.remove_quantization_config(model)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    report(f"saving {path.name} as safetensors", 4, 4)


def read_sizes(path: Path) -> dict[str, Any]:
    """The fields of config.json for the model of a GGUF file; its weights are not read.

    Raises:
        DataError: transformers cannot read it.
    """
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    _fingerprint(path)
    try:
        parsed = load_gguf_checkpoint(str(path), return_tensors=False)  # type: ignore[no-untyped-call]
    except Exception as error:  # as in `convert`
        raise _unreadable(path, error) from None
    sizes: dict[str, Any] = parsed["config"]
    return sizes


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(
        f"transformers cannot read this GGUF file: {first_line(error)}",
        where=str(path),
        remedy="Use the model's safetensors instead, or another GGUF file of it.",
    )


def _check_room(folder: Path, num_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < num_bytes * 1.05:
        raise MachineError(
            f"the unpacked weights need {size(num_bytes)} and {size(free)} are free",
            where=str(folder.parent),
            remedy="Free space, or move the cache with TUI_TRAINER_HOME.",
        )


def _fingerprint(path: Path) -> str:
    """What tells one file from another without reading gigabytes: size, time of change, and the first megabyte."""
    try:
        stat = path.stat()
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from None
    if not head.startswith(_MAGIC):
        raise DataError(
            "is no GGUF file: it does not begin with GGUF",
            where=str(path),
            remedy="Fetch it again; a page or a pointer may have been saved in its place.",
        )
    digest = hashlib.sha256(head)
    digest.update(f"{stat.st_size} {stat.st_mtime_ns}".encode())
    return digest.hexdigest()[:12]
