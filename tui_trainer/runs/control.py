"""The mailbox of a run: commands as small files, written by screens and the command line, read by rank 0.

A command is written to a temporary name, synced, and renamed: it is there whole or not at all. Its name starts with the
time in nanoseconds, or just after that of the newest one waiting where the clock was set back, which gives the order.
A mailbox never raises at the reader: what is no command is refused.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tui_trainer.paths import make_private
from tui_trainer.runs.identity import boot_id
from tui_trainer.runs.layout import RunLayout

VERSION = 1
COMMANDS = ("set", "save", "eval", "sample", "pause", "continue", "stop")
_NAME = re.compile(r"(\d{20})-[0-9a-f]{8}")
_MAX_BYTES = 1 << 16
_MAX_AT_ONCE = 100
"""Commands taken at one look, so that a folder full of them does not hold up a step."""


@dataclass(frozen=True)
class Command:
    """One command to a running trainer.

    Attributes:
        name: one of `COMMANDS`.
        arguments: for "set" the fields and their new values.
        by: who sent it, for the record.
        sent: Unix time in seconds, for the record.
        sent_at: boot of the sender's machine and its monotonic time, for the latency; a clock may be set meanwhile.
        id: names the command and orders it.
        error: why it cannot be a command; such a one is reported and removed, never carried out.
    """

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    by: str = ""
    sent: float = 0.0
    id: str = ""
    error: str = ""
    sent_at: tuple[str, float] = ("", 0.0)

    @property
    def age(self) -> float | None:
        """Seconds since it was sent; between machines as their clocks tell, None if it was not sent at all."""
        boot, at = self.sent_at
        if boot and boot == boot_id():
            return max(time.monotonic() - at, 0.0)
        return max(time.time() - self.sent, 0.0) if self.sent else None


def send(layout: RunLayout, name: str, arguments: dict[str, Any] | None = None, *, by: str = "") -> Command:
    """Put a command into the mailbox of a run.

    Raises:
        OSError: the run directory cannot be written.
    """
    directory = make_private(layout.control)
    identifier = f"{_next_number(layout):020d}-{os.urandom(4).hex()}"
    sent_at = (boot_id(), time.monotonic())
    command = Command(name, arguments or {}, by, time.time(), identifier, sent_at=sent_at)
    temporary = directory / f".{identifier}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(
            {
                "version": VERSION,
                "id": identifier,
                "command": name,
                "arguments": command.arguments,
                "by": by,
                "sent": command.sent,
                "boot_id": command.sent_at[0],
                "monotonic": command.sent_at[1],
            },
            file,
        )
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(directory / f"{identifier}.json")
    return command


def pending(layout: RunLayout) -> list[Command]:
    """The oldest commands waiting in the mailbox, in order, malformed ones among them with `error` set."""
    return [_read(layout.control / f"{name}.json") for name in waiting(layout)[:_MAX_AT_ONCE]]


def waiting(layout: RunLayout) -> list[str]:
    """Ids of all that waits in the mailbox, in order, read or not."""
    try:
        names = sorted(name for name in os.listdir(layout.control) if name.endswith(".json") and name[0] != ".")
    except OSError:
        return []
    return [name.removesuffix(".json") for name in names]


def _next_number(layout: RunLayout) -> int:
    """A number after those of all commands that wait."""
    found = [int(match[1]) for name in waiting(layout) if (match := _NAME.fullmatch(name))]
    after = max(found, default=0) + 1
    return max(time.time_ns(), after if after < 10**20 else 0)


def remove(layout: RunLayout, command: Command) -> None:
    """Take a command out of the mailbox."""
    path = layout.control / f"{command.id}.json"
    try:
        path.unlink()
    except OSError:
        # a folder of that name is no command either, and must not be refused again and again
        with contextlib.suppress(OSError):
            path.rename(path.with_name(f".{command.id}.refused"))


def _read(path: Path) -> Command:
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("is not a plain file")
        if status.st_uid != os.getuid():
            raise ValueError("belongs to another user")
        if status.st_size > _MAX_BYTES:
            raise ValueError(f"is larger than {_MAX_BYTES} bytes")
        data = _parsed(path.read_bytes())
        if not isinstance(data, dict) or not isinstance(data.get("arguments", {}), dict):
            raise ValueError("is not a JSON object with arguments")
        if data.get("id") != path.stem:
            raise ValueError("has an id that is not its name")
        if data.get("version", VERSION) != VERSION:
            raise ValueError(f"is of version {str(data['version'])[:20]}, this trainer knows version {VERSION}")
        if data.get("command") not in COMMANDS:
            raise ValueError(f"has a command that is not one of {', '.join(COMMANDS)}")
        return Command(
            data["command"],
            data.get("arguments", {}),
            str(data.get("by", "")),
            float(data.get("sent", 0)),
            path.stem,
            sent_at=(str(data.get("boot_id", "")), float(data.get("monotonic", 0))),
        )
    except OSError as error:
        return _refused(path, f"cannot be read: {error.strerror}")
    except (ValueError, TypeError, ArithmeticError) as error:
        return _refused(path, str(error))


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from None


def _refused(path: Path, why: str) -> Command:
    return Command("refused", id=path.stem, error=f"the file control/{path.name} {why}")
