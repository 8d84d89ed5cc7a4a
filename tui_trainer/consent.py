"""Consent to run the Python code of a model's repository: given once for a repository and revision, and remembered.

`model.trust_remote_code = true` says that a user wants it; this says that somebody at this machine agreed, to this very
code. The front ends ask and `allow`; the loaders `check` what they are about to run. Code that changed since, by a new
commit or on the disk, is asked for anew. Standard library only.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tui_trainer.errors import MachineError
from tui_trainer.paths import make_private, state_dir
from tui_trainer.runs.files import read_json, write_json

VERSION = 1
_HUB_PREFIX = "models--"


def repository_of(reference: str) -> str:
    """What consent is given to: the hub id as it is, a folder by its one name."""
    path = Path(reference).expanduser()
    return str(path.resolve()) if path.is_dir() else reference


def identity_of(folder: Path) -> tuple[str, str]:
    """Repository and revision of the code in a folder: hub id and commit in the hub's cache, else path and digest."""
    cache = folder.parent.parent.name
    if folder.parent.name == "snapshots" and cache.startswith(_HUB_PREFIX):
        return cache.removeprefix(_HUB_PREFIX).replace("--", "/"), folder.name
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return str(folder.resolve()), digest.hexdigest()[:16]


def is_allowed(reference: str) -> bool:
    """Whether somebody agreed to the code of a repository, at whatever revision."""
    return any(repository == repository_of(reference) for repository, _ in _consents())


def allow(reference: str) -> None:
    """Agree to the code of a repository, at the revision that is loaded next.

    Raises:
        MachineError: it cannot be remembered.
    """
    repository = repository_of(reference)
    _write([*_without_open(repository), (repository, "")])


def revoke(reference: str) -> bool:
    """Take back all consent to a repository; returns whether there was any.

    Raises:
        MachineError: it cannot be remembered.
    """
    known = list(_consents())
    rest = [consent for consent in known if consent[0] != repository_of(reference)]
    was_allowed = len(rest) < len(known)
    if was_allowed:
        _write(rest)
    return was_allowed


def check(folder: Path) -> bool:
    """Whether somebody agreed to the code in a folder; open consent is bound to its revision.

    Raises:
        MachineError: it cannot be remembered.
    """
    repository, revision = identity_of(folder)
    known = list(_consents())
    if (repository, revision) in known:
        return True
    if (repository, "") not in known:
        return False
    _write([*_without_open(repository), (repository, revision)])
    return True


def _without_open(repository: str) -> list[tuple[str, str]]:
    """All consents but the open one to a repository, which holds for no revision yet."""
    return [consent for consent in _consents() if consent != (repository, "")]


def _consents() -> Iterator[tuple[str, str]]:
    entries: Any = (read_json(state_dir() / "consents.json") or {}).get("consents")
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict):
            yield str(entry.get("repository")), str(entry.get("revision"))


def _write(consents: list[tuple[str, str]]) -> None:
    entries = [{"repository": repository, "revision": revision} for repository, revision in consents]
    path = make_private(state_dir()) / "consents.json"
    try:
        write_json(path, {"version": VERSION, "consents": entries, "written": time.time()})
    except OSError as error:
        raise MachineError(f"consent cannot be remembered: {error.strerror}", where=str(path)) from None
