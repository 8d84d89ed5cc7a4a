"""The errors a user may meet, each with its exit code; raised everywhere, shown by `cli` and `tui`.

An error says what happened, where (file, row, key) and what to do now. Anything that is not a `WorkbenchError` is a
bug of ours and is reported as one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, ClassVar, Literal

Severity = Literal["error", "warning"]


class ExitCode(IntEnum):
    """Exit codes of the command line; other programs rely on them.

    PREEMPTED (EX_TEMPFAIL of sysexits.h) asks a scheduler to start the same command again.
    """

    DONE = 0
    FAILED = 1
    USAGE = 2
    LACKING = 3
    REFUSED = 4
    PREEMPTED = 75
    INTERRUPTED = 130


class WorkbenchError(Exception):
    """Base of all errors meant for the user.

    Args:
        what: what happened, one sentence without the final stop.
        where: file, row or key it happened at, if there is one.
        remedy: what to do now.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.FAILED

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        located = f"{self.where}: {self.what}" if self.where else self.what
        return f"{located}. {self.remedy}" if self.remedy else located

    def to_dict(self) -> dict[str, Any]:
        """The error as a JSON object, the inverse of `error_from_dict`."""
        return {
            "kind": type(self).__name__,
            "what": self.what,
            "where": self.where,
            "remedy": self.remedy,
        }


class RunFailedError(WorkbenchError):
    """The run or the generation failed."""


class UsageError(WorkbenchError):
    """Wrong command line."""

    exit_code = ExitCode.USAGE


class DataError(WorkbenchError):
    """The data cannot be used as asked."""

    exit_code = ExitCode.USAGE


class MachineError(WorkbenchError):
    """Something the machine lacks: a package, the hub, a GPU, disk space."""

    exit_code = ExitCode.LACKING


class RefusedError(WorkbenchError):
    """Refused by a safety check."""

    exit_code = ExitCode.REFUSED


class CancelledError(WorkbenchError):
    """The user cancelled the task."""

    exit_code = ExitCode.INTERRUPTED


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a configuration.

    Attributes:
        key: dotted key, "training.learning_rate".
        message: what is wrong.
        remedy: what to do about it, may be empty.
        where: "file:line" or the layer the value came from.
        severity: an error forbids a launch, a warning does not.
        keys: the keys that mend it, for a jump on the Args screen; `key` if empty.
    """

    key: str
    message: str
    remedy: str = ""
    where: str = ""
    severity: Severity = "error"
    keys: tuple[str, ...] = ()

    def __str__(self) -> str:
        located = f"{self.where}: {self.key}: {self.message}" if self.where else f"{self.key}: {self.message}"
        return f"{located}; {self.remedy}" if self.remedy else located

    def to_dict(self) -> dict[str, Any]:
        """The problem as a JSON object."""
        return {
            "key": self.key,
            "message": self.message,
            "remedy": self.remedy,
            "where": self.where,
            "severity": self.severity,
        }


class ConfigurationError(WorkbenchError):
    """A configuration with one or more problems; all of them are reported, not only the first."""

    exit_code = ExitCode.USAGE

    def __init__(self, what: str, *, where: str = "", remedy: str = "", problems: Sequence[Problem] = ()) -> None:
        super().__init__(what, where=where, remedy=remedy)
        self.problems = tuple(problems)

    @classmethod
    def of(cls, problems: Sequence[Problem]) -> ConfigurationError:
        """An error that reports `problems`, one line each."""
        count = f"{len(problems)} problems" if len(problems) != 1 else "1 problem"
        return cls(f"the configuration has {count}", problems=problems)

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems)) if self.problems else super().__str__()

    def to_dict(self) -> dict[str, Any]:
        """The error with all its problems."""
        return super().to_dict() | {"problems": [problem.to_dict() for problem in self.problems]}


_KINDS: dict[str, type[WorkbenchError]] = {
    kind.__name__: kind
    for kind in (
        WorkbenchError,
        RunFailedError,
        UsageError,
        DataError,
        MachineError,
        RefusedError,
        CancelledError,
        ConfigurationError,
    )
}


def error_from_dict(data: Mapping[str, Any]) -> WorkbenchError:
    """Rebuild an error that crossed a process border as `WorkbenchError.to_dict()`."""
    kind = _KINDS.get(str(data.get("kind")), WorkbenchError)
    what, where, remedy = (str(data.get(name, "")) for name in ("what", "where", "remedy"))
    if kind is ConfigurationError:
        problems = [Problem(**problem) for problem in data.get("problems", ())]
        return ConfigurationError(what, where=where, remedy=remedy, problems=problems)
    return kind(what, where=where, remedy=remedy)
