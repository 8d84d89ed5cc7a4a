"""Facts about this machine and this installation: to check a configuration against, and to record in `run.json`."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from tui_trainer.config.checks import Facts
from tui_trainer.config.packages import OPTIONAL
from tui_trainer.paths import runs_dir
from tui_trainer.procs.hardware import Gpu, detect_gpus, read_disk_free, read_memory, usable_cpus
from tui_trainer.redact import redact_arguments

LIBRARIES = (
    "torch",
    "transformers",
    "datasets",
    "accelerate",
    "peft",
    "tokenizers",
    "safetensors",
    "numpy",
    "bitsandbytes",
    "deepspeed",
    "flash-attn",
    "liger-kernel",
)
"""The packages whose version can change what a run computes."""

_GIT_SECONDS = 2.0


def machine_facts() -> Facts:
    """What is known of this machine when a configuration is checked against it."""
    gpus = detect_gpus()
    return Facts(
        num_gpus=len(gpus),
        gpu_indices=tuple(gpu.index for gpu in gpus),
        has_bf16=have_bf16(gpus),
        packages=installed_packages(),
        gpu_memory_bytes=tuple(gpu.memory_total for gpu in gpus if gpu.memory_total is not None),
        num_cpus=usable_cpus(),
        memory_bytes=read_memory()[1],
        free_disk_bytes=read_disk_free(runs_dir()),
    )


def have_bf16(gpus: Sequence[Gpu]) -> bool | None:
    """Whether all GPUs compute in bfloat16; None if one of them does not tell, or there is none."""
    known = {gpu.has_bf16 for gpu in gpus}
    return False if False in known else None if None in known or not known else True


@cache
def installed_packages() -> frozenset[str]:
    """Those of `config.packages.OPTIONAL` that this environment has."""
    return frozenset(name for name in OPTIONAL if _version(name) is not None)


def library_versions() -> dict[str, str]:
    """Versions of the workbench, of Python, and of those `LIBRARIES` that are installed."""
    versions = {"tui-trainer": _version("tui-trainer"), "python": platform.python_version()}
    versions |= {name: _version(name) for name in LIBRARIES}
    return {name: version for name, version in versions.items() if version is not None}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def git_commit(directory: Path) -> str | None:
    """The commit checked out in the repository around `directory`; None if there is none or git does not answer."""
    if not any((folder / ".git").exists() for folder in (directory, *directory.parents)):
        return None
    try:
        answer = subprocess.run(
            ["git", "-C", str(directory), "rev-parse", "HEAD"],  # noqa: S607 - the user's own git
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.decode("ascii", "replace").strip() or None if answer.returncode == 0 else None


def run_facts(argv: Sequence[str], parent: str | None, gpus: Sequence[Gpu]) -> dict[str, Any]:
    """The facts of a run that is about to be created; no secret is among them."""
    here = Path.cwd()
    return {
        "parent": parent,
        "argv": redact_arguments(argv),
        "cwd": str(here),
        "host": platform.node(),
        "num_cpus": usable_cpus(),
        "git_commit": git_commit(here),
        "versions": library_versions(),
        "gpus": [{"index": gpu.index, "name": gpu.name, "memory_bytes": gpu.memory_total} for gpu in gpus],
    }
