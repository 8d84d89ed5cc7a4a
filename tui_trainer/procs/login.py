"""Whether the login manager would end a run at logout, and the way out: a scope of the user's own service manager.

systemd-logind with KillUserProcesses=yes kills all that was started in a session when the session ends, whatever
session of its own it has made for itself. A scope of the user manager is not part of the session; it lives as long as
the manager does, which is to the user's last logout, or for good with `loginctl enable-linger`. Used by `spawn`, by
the commands and screens that start runs, and by `doctor`. Where there is no systemd nothing is asked for long.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

_SECONDS = 2.0
_LOGIND = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager")
_SCOPE = ("systemd-run", "--user", "--scope", "--quiet", "--collect")


@dataclass(frozen=True)
class Logout:
    """What the end of a session does to the user's processes.

    Attributes:
        kills: whether all of them are killed; None where that cannot be known.
        lingers: whether the user's service manager goes on after the last logout.
        has_scopes: whether a run can be put into the care of that manager.
    """

    kills: bool | None = None
    lingers: bool = False
    has_scopes: bool = False

    @property
    def warning(self) -> str:
        """What to know and do before logging out; empty if a run survives it."""
        if not self.kills or (self.has_scopes and self.lingers):
            return ""
        if self.has_scopes:
            return "this machine ends the run at your last logout; `loginctl enable-linger` lets it go on"
        return (
            "this machine kills a user's processes at logout, this run among them: stay logged in, as in a second "
            "terminal, or ask its administrator for KillUserProcesses=no"
        )


def logout() -> Logout:
    """Ask the login manager; takes some tens of milliseconds where there is one."""
    kills = _kills_user_processes()
    if not kills:
        return Logout(kills, _lingers())
    return Logout(kills, _lingers(), _answers(*_SCOPE, "true") is not None)


def scope_of(what: str) -> list[str]:
    """What to put before a command so that a logout does not end it; empty where that is not needed or possible."""
    if not _kills_user_processes() or _answers(*_SCOPE, "true") is None:
        return []
    return [*_SCOPE, f"--description={what}", "--"]


def _kills_user_processes() -> bool | None:
    answer = _answers("busctl", "get-property", *_LOGIND, "KillUserProcesses")
    return None if answer is None else answer == "b true"


def _lingers() -> bool:
    user = os.environ.get("USER") or os.environ.get("LOGNAME") or str(os.getuid())
    return _answers("loginctl", "show-user", user, "--property=Linger") == "Linger=yes"


def _answers(*command: str) -> str | None:
    """What a program of the system writes; None if there is no such program, or it fails."""
    return _run(command) if shutil.which(command[0]) else None


def _run(command: Sequence[str]) -> str | None:
    try:
        answer = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.decode("utf-8", "replace").strip() if answer.returncode == 0 else None
