"""How busy the machine is, read every few seconds for the status line of the screens."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from tui_trainer.paths import runs_dir
from tui_trainer.procs.hardware import (
    CSV_FORMAT,
    GPU_QUERY,
    Gpu,
    parse_gpu,
    read_disk_free,
    read_memory,
    visible_gpus,
)


@dataclass(frozen=True)
class MachineReading:
    """How the machine stands at one moment; bytes and percent, None where it is not known."""

    gpus: tuple[Gpu, ...]
    cpu_percent: float | None
    memory_total: int | None
    memory_available: int | None
    disk_free: int | None


def _read_cpu_times() -> tuple[int, int] | None:
    """Ticks that all processors were busy, and in all, since boot."""
    try:
        with Path("/proc/stat").open("rb") as file:
            ticks = [int(field) for field in file.readline().split()[1:9]]
    except (OSError, ValueError):
        return None
    return sum(ticks) - sum(ticks[3:5]), sum(ticks)


class MachineSampler:
    """Takes a reading of the machine every few seconds, for the screens.

    One `nvidia-smi` runs as long as the sampler and writes a line for each GPU and interval. It ends with the front
    end, whatever happens to that, because it cannot write to a pipe that nobody reads.

    Args:
        disk: a path on the disk of interest; the run store if not given.
        seconds: interval between readings.

    Attributes:
        reading: the last reading; None before the first.
    """

    def __init__(self, disk: Path | None = None, seconds: float = 2.0) -> None:
        self._disk = disk or runs_dir()
        self._seconds = seconds
        self._gpus: dict[int, Gpu] = {}
        self._cpu_times = _read_cpu_times()
        self._process: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.reading: MachineReading | None = None

    async def start(self) -> None:
        """Begin to take readings."""
        if self._tasks:
            return
        self._tasks.append(asyncio.create_task(self._sample()))
        program = shutil.which("nvidia-smi")
        if program is None:
            return
        command = [program, f"--query-gpu={GPU_QUERY}", *CSV_FORMAT, f"--loop-ms={max(int(self._seconds * 1000), 100)}"]
        with contextlib.suppress(OSError):
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
            self._tasks.append(asyncio.create_task(self._follow(self._process)))

    async def _sample(self) -> None:
        while True:
            self.reading = self.read()
            await asyncio.sleep(self._seconds)

    async def _follow(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            gpu = parse_gpu(line.decode("utf-8", "replace"))
            if gpu is not None:
                self._gpus[gpu.index] = gpu
        # a driver that went away must not leave its last figures on the screen
        self._gpus.clear()

    def read(self) -> MachineReading:
        """The state of the machine now; takes well under a millisecond."""
        before, self._cpu_times = self._cpu_times, _read_cpu_times()
        cpu_percent = None
        if before is not None and self._cpu_times is not None and self._cpu_times[1] > before[1]:
            cpu_percent = 100.0 * (self._cpu_times[0] - before[0]) / (self._cpu_times[1] - before[1])
        total, available = read_memory()
        gpus = [self._gpus[index] for index in sorted(self._gpus)]
        visible = visible_gpus(gpus, os.environ.get("CUDA_VISIBLE_DEVICES"))
        return MachineReading(tuple(visible), cpu_percent, total, available, read_disk_free(self._disk))

    async def close(self) -> None:
        """End."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
