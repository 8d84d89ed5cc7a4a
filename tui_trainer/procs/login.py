"""Whether the login manager would end a run at logout, and the way out: a scope of the user's own service manager.

systemd-logind with KillUserProcesses=yes kills all that was started in a session when the session ends, whatever
session of its own it has made for itself. A scope of the user manager is not part of the session; it lives as long as
the manager does, which is to the user's last logout, or for good with `loginctl enable-linger`. Used by `spawn`, by
the commands and screens that start runs, and by `doctor`. Where there is no systemd nothing is asked for long.
"""

from __future__ import annotations

import os
import pwd
import shlex
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
    """Whether the processes of this user are killed; some may be excluded, root is if nobody says otherwise."""
    answer = _property("KillUserProcesses")
    if answer != "b true":
        return None if answer is None else False
    only, excluded, user = _users("KillOnlyUsers"), _users("KillExcludeUsers"), _user()
    return user not in excluded and (not only or user in only)


def _property(name: str) -> str | None:
    return _answers("busctl", "get-property", *_LOGIND, name)


def _users(name: str) -> list[str]:
    """A property that lists users, as `as 2 "root" "anna"`."""
    kind, *rest = shlex.split(_property(name) or "") or [""]
    return rest[1:] if kind == "as" else []


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _lingers() -> bool:
    return _answers("loginctl", "show-user", _user(), "--property=Linger") == "Linger=yes"


def _answers(*command: str) -> str | None:
    """What a program of the system writes; None if there is no such program, or it fails."""
    return _run(command) if shutil.which(command[0]) else None


def _run(command: Sequence[str]) -> str | None:
    try:
        answer = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.decode("utf-8", "replace").strip() if answer.returncode == 0 else None
