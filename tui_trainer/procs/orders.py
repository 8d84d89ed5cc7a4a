"""What a supervisor is told: what to start (`launch.json`) and to stop it (`stop.json`).

Both are files in the run directory, so that an order outlives whoever gave it. Written by `start` and `stop`, read by
`supervisor`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tui_trainer.errors import UsageError
from tui_trainer.runs.files import number, read_json, whole_number, write_json
from tui_trainer.runs.layout import RunLayout

VERSION = 1


@dataclass(frozen=True)
class LaunchOrder:
    """The command that is the run.

    Attributes:
        argv: program and arguments; never a secret.
        env: additions to the environment, which is inherited otherwise; never a secret.
        cwd: where it runs, so that relative paths mean what they meant to the user.
        grace_seconds: how long it may take to save when it is to stop.
        max_restarts: how often it is started again after a failure that may pass.
        restart_delay: seconds before the first restart.
        num_gpus, num_cpus: what it uses of this machine; cores count where it uses no GPU.
        gpu_ids: the GPUs that it insists on; empty for any.
        requeues: whether its scheduler starts it again when it took the machine away.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "."
    grace_seconds: float = 30.0
    max_restarts: int = 0
    restart_delay: float = 0.0
    num_gpus: int = 0
    num_cpus: int = 0
    gpu_ids: tuple[int, ...] = ()
    requeues: bool = False

    def write(self, layout: RunLayout) -> None:
        """Put the order into the run directory."""
        write_json(
            layout.launch,
            {
                "version": VERSION,
                "argv": list(self.argv),
                "env": dict(self.env),
                "cwd": self.cwd,
                "grace_seconds": self.grace_seconds,
                "max_restarts": self.max_restarts,
                "restart_delay": self.restart_delay,
                "num_gpus": self.num_gpus,
                "num_cpus": self.num_cpus,
                "gpu_ids": list(self.gpu_ids),
                "requeues": self.requeues,
            },
        )

    @classmethod
    def read(cls, layout: RunLayout) -> LaunchOrder:
        """The order in the run directory.

        Raises:
            UsageError: there is none, or it cannot be understood.
        """
        data = read_json(layout.launch) or {}
        argv, env = data.get("argv"), data.get("env", {})
        if not argv or not isinstance(argv, list) or not isinstance(env, dict):
            raise UsageError(
                "does not say what to start", where=str(layout.launch), remedy="Train again from the run's config.toml."
            )
        if (whole_number(data.get("version")) or 0) > VERSION:
            raise UsageError(
                "was written by a newer tui-trainer", where=str(layout.launch), remedy="Start it with that version."
            )
        return cls(
            tuple(map(str, argv)),
            {str(name): str(value) for name, value in env.items()},
            str(data.get("cwd") or "."),
            number(data.get("grace_seconds")) or 0.0,
            whole_number(data.get("max_restarts")) or 0,
            number(data.get("restart_delay")) or 0.0,
            whole_number(data.get("num_gpus")) or 0,
            whole_number(data.get("num_cpus")) or 0,
            tuple(index for item in data.get("gpu_ids") or () if (index := whole_number(item)) is not None),
            data.get("requeues") is True,
        )


def started_in(layout: RunLayout) -> Path:
    """The folder that a run's relative paths start from; the present one where that is not known."""
    folder = (read_json(layout.launch) or {}).get("cwd")
    return Path(folder) if isinstance(folder, str) and folder else Path.cwd()


@dataclass(frozen=True)
class StopOrder:
    """The wish that the run ends.

    Attributes:
        is_now: do not wait for it to save.
        is_kill: do not ask its processes either; includes `is_now`.
        by: who wants it, for the record.
    """

    is_now: bool = False
    by: str = ""
    is_kill: bool = False

    def write(self, layout: RunLayout) -> None:
        """Put the order into the run directory for good; a harder order is not softened by a later one."""
        order = self.hardened(StopOrder.read(layout))
        fields = {"version": VERSION, "now": order.is_now, "kill": order.is_kill, "by": self.by, "sent": time.time()}
        write_json(layout.stop_request, fields, durable=True)

    def hardened(self, standing: StopOrder | None) -> StopOrder:
        """This order, pressing at least as hard as one that was given before."""
        if standing is None:
            return self
        is_kill = self.is_kill or standing.is_kill
        return StopOrder(self.is_now or standing.is_now or is_kill, self.by or standing.by, is_kill)

    @classmethod
    def read(cls, layout: RunLayout) -> StopOrder | None:
        """The order in the run directory, if there is one; what cannot be understood is the mildest."""
        if not layout.stop_request.exists():
            return None
        data = read_json(layout.stop_request) or {}
        is_kill = data.get("kill") is True
        return cls(is_kill or data.get("now") is True, str(data.get("by") or ""), is_kill)

    @staticmethod
    def withdraw(layout: RunLayout) -> None:
        """Remove an order that an earlier start of the run left behind."""
        with contextlib.suppress(OSError):
            layout.stop_request.unlink()
