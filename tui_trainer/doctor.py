"""What this machine has for training and what it lacks, found without importing any heavy library.

`examine` is called by the command `doctor`. It asks nothing of the network but whether the hub answers.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from tui_trainer.errors import Severity
from tui_trainer.paths import cache_dir, runs_dir, state_dir
from tui_trainer.procs.facts import library_versions
from tui_trainer.procs.hardware import detect_gpus, read_disk_free, read_memory, usable_cpus
from tui_trainer.procs.login import logout
from tui_trainer.redact import redact
from tui_trainer.units import size

HUB_SECONDS = 2.0
_AMD = Path("/dev/kfd")
_SMALLEST_DISK = 5 << 30
_SMALLEST_SHARED_MEMORY = 256 << 20
_SMALLEST_TERMINAL = (60, 16)


@dataclass(frozen=True)
class Finding:
    """Something that will get in the way: an error forbids training, a warning limits it."""

    severity: Severity
    what: str
    remedy: str


@dataclass(frozen=True)
class Examination:
    """All that was found; every part is ready for JSON."""

    python: Mapping[str, Any]
    packages: Mapping[str, str]
    gpus: list[dict[str, Any]]
    machine: Mapping[str, Any]
    disks: list[dict[str, Any]]
    hub: Mapping[str, Any]
    session: Mapping[str, Any]
    terminal: Mapping[str, Any]
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_healthy(self) -> bool:
        """Whether nothing forbids training."""
        return not any(finding.severity == "error" for finding in self.findings)


def examine() -> Examination:
    """Look at everything; takes at most a few seconds."""
    total, available = read_memory()
    examination = Examination(
        python={"version": platform.python_version(), "executable": sys.executable, "platform": platform.platform()},
        packages=library_versions(),
        gpus=[
            {"index": gpu.index, "name": gpu.name, "memory_bytes": gpu.memory_total, "used_bytes": gpu.memory_used}
            for gpu in detect_gpus()
        ],
        machine={"cpus": usable_cpus(), "memory_bytes": total, "available_bytes": available} | _shared_memory(),
        disks=[_disk(what, path) for what, path in _places().items()],
        hub=ask_hub(),
        session=_session(),
        terminal=_terminal(),
    )
    examination.findings.extend(_findings(examination))
    return examination


def _places() -> dict[str, Path]:
    hub = os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME") or "~/.cache/huggingface") / "hub"
    return {"runs": runs_dir(), "cache": cache_dir(), "state": state_dir(), "hub cache": Path(hub).expanduser()}


def _disk(what: str, path: Path) -> dict[str, Any]:
    above = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    return {"what": what, "path": str(path), "free_bytes": read_disk_free(path), "writable": os.access(above, os.W_OK)}


def _shared_memory() -> dict[str, Any]:
    shared = Path("/dev/shm")  # noqa: S108 - looked at, not written to
    return {"shared_memory_bytes": read_disk_free(shared) if shared.is_dir() else None}


def ask_hub() -> dict[str, Any]:
    """Whether the model hub answers within `HUB_SECONDS`; any answer counts, also a refusal.

    A name server that hangs cannot be interrupted, which is why the question runs in a thread of its own.
    """
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    is_offline_mode = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    answered = threading.Event()

    def ask() -> None:
        try:
            request = urllib.request.Request(endpoint, method="HEAD")  # noqa: S310 - the user's own setting
            urllib.request.urlopen(request, timeout=HUB_SECONDS).close()  # noqa: S310
        except urllib.error.HTTPError:
            answered.set()
        except (OSError, ValueError):
            return
        else:
            answered.set()

    if not is_offline_mode:
        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(HUB_SECONDS)
    return {"endpoint": redact(endpoint), "reachable": answered.is_set(), "offline_mode": is_offline_mode}


def _session() -> dict[str, Any]:
    """Whether the login manager would kill runs at logout; None where that cannot be known."""
    found = logout()
    return {
        "kills_user_processes": found.kills,
        "lingers": found.lingers,
        "scopes": found.has_scopes,
        "warning": found.warning,
        "ssh": "SSH_CONNECTION" in os.environ,
    }


def _terminal() -> dict[str, Any]:
    columns, lines = shutil.get_terminal_size()
    return {
        "is_terminal": sys.stdin.isatty() and sys.stderr.isatty(),
        "term": os.environ.get("TERM", ""),
        "columns": columns,
        "lines": lines,
        "encoding": sys.stderr.encoding,
        "true_color": os.environ.get("COLORTERM", "") in ("truecolor", "24bit"),
        "no_color": bool(os.environ.get("NO_COLOR")),
        "multiplexer": "tmux" if "TMUX" in os.environ else "screen" if "STY" in os.environ else "",
    }


def _findings(found: Examination) -> Iterator[Finding]:
    yield from _package_findings(found)
    yield from _machine_findings(found)
    yield from _surroundings_findings(found)


def _package_findings(found: Examination) -> Iterator[Finding]:
    for problem in _unmet_requirements():
        yield Finding("error", problem, "`pip install --upgrade tui-trainer` mends its dependencies.")
    if importlib.util.find_spec("accelerate") is None:
        yield Finding("error", "accelerate, which starts the training, is not installed", "`pip install accelerate`.")
    if found.gpus and "+cpu" in found.packages.get("torch", ""):
        yield Finding(
            "error",
            f"there is a GPU, but PyTorch {found.packages['torch']} is the build without GPU support",
            "Install the CUDA build of torch.",
        )


def _unmet_requirements() -> Iterator[str]:
    """What the package itself says it needs, against what is installed."""
    from packaging.requirements import Requirement

    try:
        lines = metadata.requires("tui-trainer") or []
    except metadata.PackageNotFoundError:
        return
    for line in lines:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            yield f"{requirement.name} is not installed"
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            yield f"{requirement.name} is {version}, but {requirement.specifier} is needed"


def _machine_findings(found: Examination) -> Iterator[Finding]:
    if not found.gpus and _AMD.exists():
        yield Finding(
            "warning",
            "there is an AMD GPU, and runs are started on NVIDIA's only, which nvidia-smi counts",
            "Training works on the CPU for small models; it is slow.",
        )
    elif not found.gpus:
        yield Finding("warning", "no GPU was found", "Training works on the CPU for small models; it is slow.")
    shared = found.machine["shared_memory_bytes"]
    if shared is not None and shared < _SMALLEST_SHARED_MEMORY:
        yield Finding(
            "warning",
            f"shared memory has {size(shared)}, too little for loader processes",
            "Give the container more with --shm-size, or keep training.dataloader_num_workers = 0.",
        )
    for disk in found.disks:
        if not disk["writable"]:
            severity: Severity = "warning" if disk["what"] == "hub cache" else "error"
            yield Finding(severity, f"the folder for {disk['what']} is not writable: {disk['path']}", _elsewhere(disk))
        elif disk["free_bytes"] is not None and disk["free_bytes"] < _SMALLEST_DISK:
            yield Finding(
                "warning",
                f"only {size(disk['free_bytes'])} are free for {disk['what']}: {disk['path']}",
                _elsewhere(disk),
            )


def _elsewhere(disk: Mapping[str, Any]) -> str:
    variable = {"runs": "TUI_TRAINER_RUNS", "hub cache": "HF_HOME"}.get(disk["what"], "TUI_TRAINER_HOME")
    return f"Set {variable} to a folder on another disk."


def _surroundings_findings(found: Examination) -> Iterator[Finding]:
    if found.hub["offline_mode"]:
        yield Finding("warning", "HF_HUB_OFFLINE is set", "Models and data must be on this machine already.")
    elif not found.hub["reachable"]:
        yield Finding(
            "warning",
            f"{found.hub['endpoint']} does not answer within {HUB_SECONDS:.0f} s",
            "Use models and data on this machine, or set HF_ENDPOINT to a mirror.",
        )
    if found.session["warning"]:
        what, _, remedy = found.session["warning"].partition("; " if found.session["scopes"] else ": ")
        yield Finding("warning", what, f"{remedy[:1].upper()}{remedy[1:]}.")
    terminal = found.terminal
    if terminal["is_terminal"]:
        if terminal["encoding"].lower().replace("-", "") != "utf8":
            yield Finding("warning", f"the terminal's encoding is {terminal['encoding']}", "Set LC_ALL=C.UTF-8.")
        is_small = terminal["columns"] < _SMALLEST_TERMINAL[0] or terminal["lines"] < _SMALLEST_TERMINAL[1]
        if is_small or terminal["term"] in ("", "dumb"):
            size = f"{terminal['columns']}x{terminal['lines']}, TERM={terminal['term'] or 'unset'}"
            yield Finding("warning", f"the terminal is too poor for the screens ({size})", "80x24 shows all of them.")
