"""What the machine has: GPUs by `nvidia-smi`, cores and memory by /proc and control groups, room on its disks.

Used by `start` (how many processes to launch), `queue` (what is free), `stop` (who still holds GPU memory), `machine`
and `doctor`. Where there is no `nvidia-smi` there are no GPUs; nothing is raised. A supervisor imports this and has to
stay small: what runs programs is imported when one is run.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

GPU_QUERY = "index,uuid,compute_cap,name,memory.total,memory.used,utilization.gpu"
CSV_FORMAT = ("--format=csv,noheader,nounits",)
_TIMEOUT_SECONDS = 10.0
_MEBIBYTE = 1 << 20
_FIRST_WITH_BF16 = 8.0
_PART = "MIG-"


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes:
        index: its number, as `nvidia-smi` counts.
        name: what its maker calls it.
        memory_total, memory_used: bytes; None where the driver does not tell, as on parts of a divided GPU.
        utilization: share of time it computed, in percent; None likewise.
        uuid: its name for good, "GPU-…", or "MIG-…" for a part of a divided GPU.
        compute_capability: 8.0 for Ampere, which is the first that has bfloat16; None if the driver does not tell.
    """

    index: int
    name: str
    memory_total: int | None
    memory_used: int | None
    utilization: float | None
    uuid: str = ""
    compute_capability: float | None = None

    @property
    def has_bf16(self) -> bool | None:
        """Whether it computes in bfloat16; None if that is not known."""
        return None if self.compute_capability is None else self.compute_capability >= _FIRST_WITH_BF16


def detect_gpus() -> list[Gpu]:
    """The GPUs that a training process would see, as CUDA_VISIBLE_DEVICES allows; none if there is no driver."""
    gpus = [gpu for line in _ask_nvidia_smi("--query-gpu", GPU_QUERY) if (gpu := parse_gpu(line)) is not None]
    return visible_gpus(gpus, os.environ.get("CUDA_VISIBLE_DEVICES"))


def gpu_memory_by_process() -> dict[int, int]:
    """Bytes of GPU memory that each process holds, by pid; empty where the driver does not tell."""
    held: dict[int, int] = {}
    for line in _ask_nvidia_smi("--query-compute-apps", "pid,used_memory"):
        pid, _, mebibytes = line.partition(",")
        number = _number(mebibytes)
        if pid.strip().isdigit():
            held[int(pid)] = held.get(int(pid), 0) + int((number or 0) * _MEBIBYTE)
    return held


def parse_gpu(line: str) -> Gpu | None:
    """A GPU from a line of `nvidia-smi --query-gpu` as asked here; None if it is none, as a message of the driver."""
    fields = [field.strip() for field in line.split(",")]
    if len(fields) < 7 or not fields[0].isdigit():
        return None
    # a name may hold commas, the fields around it do not
    index, uuid, capability, *name, total, used, utilization = fields
    sizes = _mebibytes(total), _mebibytes(used)
    return Gpu(int(index), ", ".join(name), *sizes, _number(utilization), uuid, _number(capability))


def visible_gpus(gpus: Sequence[Gpu], variable: str | None) -> list[Gpu]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves: numbers or beginnings of uuids, up to the first that names none.

    Of parts of divided GPUs a process sees one, whatever is named after it.
    """
    if variable is None:
        return list(gpus)
    chosen: list[Gpu] = []
    for name in variable.split(","):
        name = name.strip()
        if name.startswith(_PART):
            return [_part(name, gpus)] if gpus and not chosen else chosen
        found = [gpu for gpu in gpus if name and (str(gpu.index) == name or gpu.uuid.startswith(name))]
        if len(found) != 1 or found[0] in chosen:
            break
        chosen.append(found[0])
    return chosen


def _part(name: str, gpus: Sequence[Gpu]) -> Gpu:
    """A part of a divided GPU, of which the driver's table tells nothing but what all of its GPUs are."""
    capabilities = {gpu.compute_capability for gpu in gpus}
    return Gpu(0, "part of a GPU", None, None, None, name, capabilities.pop() if len(capabilities) == 1 else None)


def _number(text: str) -> float | None:
    """A number of `nvidia-smi`, which writes "[N/A]" or "[Not Supported]" for what it does not know."""
    try:
        return float(text.strip())
    except ValueError:
        return None


def _mebibytes(text: str) -> int | None:
    number = _number(text)
    return None if number is None else int(number * _MEBIBYTE)


def _ask_nvidia_smi(query: str, fields: str) -> Iterator[str]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return
    import subprocess

    command = [program, f"{query}={fields}", *CSV_FORMAT]
    try:
        answer = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return
    if answer.returncode == 0:
        yield from answer.stdout.decode("utf-8", "replace").splitlines()


def usable_cpus() -> int:
    """Cores that our processes may use, within their affinity and the quota of our control group."""
    cores = len(os.sched_getaffinity(0))
    for quota, period in (_cpu_max(), _read_numbers("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        if quota and period and quota > 0:
            cores = min(cores, max(round(quota / period), 1))
    return cores


def _cpu_max() -> tuple[int | None, int | None]:
    """Quota and period of a control group of version 2: "200000 100000", or "max 100000" without limit."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text("ascii").split()
        return (None if quota == "max" else int(quota)), int(period)
    except (OSError, ValueError):
        return None, None


def _read_numbers(*names: str) -> tuple[int | None, ...]:
    return tuple(_read_number(f"/sys/fs/cgroup/cpu/{name}") for name in names)


def read_memory() -> tuple[int | None, int | None]:
    """Bytes of memory in all and free to use, within the limit of our control group."""
    try:
        lines = (line.split() for line in Path("/proc/meminfo").read_text("ascii").splitlines())
        fields = {line[0].rstrip(":"): int(line[1]) * 1024 for line in lines if len(line) == 3}
    except (OSError, ValueError):
        return None, None
    total, available = fields.get("MemTotal"), fields.get("MemAvailable")
    for limit_path, used_path in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        limit, used = _read_number(limit_path), _read_number(used_path)
        if limit is not None and used is not None and total is not None and limit < total:
            return limit, min(available if available is not None else limit, max(limit - used, 0))
    return total, available


def _read_number(path: str) -> int | None:
    try:
        return int(Path(path).read_text("ascii"))
    except (OSError, ValueError):
        return None


def read_disk_free(path: Path) -> int | None:
    """Bytes that we may still write on the disk of `path`, or of the nearest folder above it that exists."""
    for folder in (path.absolute(), *path.absolute().parents):
        with contextlib.suppress(OSError):
            status = os.statvfs(folder)
            return status.f_bavail * status.f_frsize
    return None
