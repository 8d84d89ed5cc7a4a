"""Who a process is: pid, start time and boot, so that a recycled pid is never taken for the process it replaced.

Reads Linux's /proc. Used to write status and rank files and to decide whether a run is alive.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any


@cache
def boot_id() -> str:
    """The kernel's id of this boot; empty where there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


def start_time(pid: int) -> int | None:
    """Clock ticks from boot to the start of a process; None if there is none, or it is a zombie.

    A zombie whose threads go on counts as live: they still hold its memory and its GPU.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        is_gone = fields[0] in "ZX" and int(fields[17]) <= 1
        return None if is_gone else int(fields[19])
    except (OSError, IndexError):
        return None


@dataclass(frozen=True)
class ProcessIdentity:
    """One process of one boot of one machine.

    Attributes:
        pid: process id.
        start_time: clock ticks from boot to its start.
        boot_id: the kernel's id of the boot.
        host: name of the machine.
    """

    pid: int
    start_time: int
    boot_id: str
    host: str

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity | None:
        """The identity of a live process of this machine."""
        ticks = start_time(pid)
        return None if ticks is None else cls(pid, ticks, boot_id(), platform.node())

    @classmethod
    def current(cls) -> ProcessIdentity:
        """The identity of this process."""
        return cls(os.getpid(), start_time(os.getpid()) or 0, boot_id(), platform.node())

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ProcessIdentity | None:
        """The identity in a status or rank file; None if it has none."""
        try:
            return cls(int(data["pid"]), int(data["start_time"]), str(data["boot_id"]), str(data["host"]))
        except (KeyError, TypeError, ValueError, OverflowError):
            return None

    def to_dict(self) -> dict[str, Any]:
        """The identity as a JSON object."""
        return asdict(self)

    @property
    def is_local(self) -> bool:
        """Whether it can be looked for on this machine."""
        return self.host == platform.node()

    @property
    def is_alive(self) -> bool:
        """Whether exactly this process lives on this machine."""
        return self.is_local and self.boot_id == boot_id() and start_time(self.pid) == self.start_time
