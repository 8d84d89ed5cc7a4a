"""Why a run ended by an error: an exception sorted into the reasons that the supervisor and the screens know.

Knows the libraries by the names and texts of their exceptions, so that it can be used before any of them is imported.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from tui_trainer.errors import (
    CancelledError,
    ConfigurationError,
    DataError,
    MachineError,
    RefusedError,
    UsageError,
    WorkbenchError,
)

_FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
_MAX_MESSAGE = 2000


class NotANumberError(WorkbenchError):
    """The loss stayed NaN or infinite: the weights are lost, the last good checkpoint is not."""


class DiskFullError(WorkbenchError):
    """The end of the run could not be saved for lack of space."""


@dataclass(frozen=True)
class Failure:
    """What is recorded of an error.

    Attributes:
        kind: name of the exception's class.
        message: what happened, one paragraph.
        reason: short code: "out_of_memory", "gpu_out_of_memory", "nan", "disk_full", "data", "configuration",
            "machine", "refused", "stopped", "library_error".
        remedy: what to do now.
    """

    kind: str
    message: str
    reason: str
    remedy: str

    def to_dict(self) -> dict[str, Any]:
        """The failure as it stands in the rank's file."""
        return asdict(self)


_REMEDIES = {
    "gpu_out_of_memory": (
        "Halve training.per_device_train_batch_size and double training.gradient_accumulation_steps, shorten "
        "data.max_length, or set training.activation_checkpointing."
    ),
    "out_of_memory": (
        "Halve training.per_device_train_batch_size and double training.gradient_accumulation_steps, shorten "
        "data.max_length, or take a smaller model."
    ),
    "disk_full": "Free space on the disk of the run directory, then start the run again from its last checkpoint.",
    "library_error": "train.log in the run directory has the whole report.",
}

_REASONS: dict[type[WorkbenchError], str] = {
    NotANumberError: "nan",
    DiskFullError: "disk_full",
    DataError: "data",
    ConfigurationError: "configuration",
    UsageError: "configuration",
    MachineError: "machine",
    RefusedError: "refused",
    CancelledError: "stopped",
}

_TEXTS: tuple[tuple[str, str], ...] = (
    ("CUDA out of memory", "gpu_out_of_memory"),
    ("CUDA error: out of memory", "gpu_out_of_memory"),
    ("HIP out of memory", "gpu_out_of_memory"),
    ("CUBLAS_STATUS_ALLOC_FAILED", "gpu_out_of_memory"),
    ("can't allocate memory", "out_of_memory"),
    ("Cannot allocate memory", "out_of_memory"),
    ("not enough memory", "out_of_memory"),
    ("No space left on device", "disk_full"),
    ("Disk quota exceeded", "disk_full"),
)


def classify(error: BaseException) -> Failure:
    """Sort an exception, its causes among them, into the reasons above."""
    if isinstance(error, WorkbenchError):
        reason = next((_REASONS[kind] for kind in type(error).__mro__ if kind in _REASONS), "library_error")
        located = f"{error.where}: {error.what}" if error.where else error.what
        what = str(error) if isinstance(error, ConfigurationError) and error.problems else located
        return Failure(type(error).__name__, what[:_MAX_MESSAGE], reason, error.remedy or _REMEDIES.get(reason, ""))
    if isinstance(error, KeyboardInterrupt):
        return Failure(type(error).__name__, "the run was interrupted", "stopped", "")
    reason = next((found for link in _chain(error) if (found := _reason(link))), "library_error")
    message = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if reason == "disk_full" and isinstance(error, OSError):
        message = f"the disk is full: {error.filename or error.strerror}"
    return Failure(type(error).__name__, message[:_MAX_MESSAGE], reason, _REMEDIES[reason])


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that the disk is full, in any of the ways the libraries say it."""
    return any(_reason(link) == "disk_full" for link in _chain(error))


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno in _FULL_DISK:
        return "disk_full"
    if type(error).__name__ == "OutOfMemoryError":
        return "gpu_out_of_memory"
    if isinstance(error, MemoryError):
        return "out_of_memory"
    text = str(error)
    return next((reason for part, reason in _TEXTS if part in text), "")


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__
