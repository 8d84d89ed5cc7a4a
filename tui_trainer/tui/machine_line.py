"""The machine in a few words for the top bar; small changes are not worth a redraw over a slow connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tui_trainer.procs.machine import MachineReading

_LOAD_STEP = 10.0
"""Points of percent by which a load has to change before it is shown anew."""
_MEMORY_STEP = 0.75
"""The same for gigabytes."""


class MachineLine:
    """Words for readings; keeps what it last said."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}

    def text(self, reading: MachineReading) -> str:
        """Load and memory of the GPUs, or of the machine where there is none."""
        if reading.gpus:
            return " ".join(self._gpu(reading, at) for at in range(min(len(reading.gpus), 2)))
        load = self._steady("cpu", reading.cpu_percent, _LOAD_STEP)
        text = f"cpu {load:.0f}%" if load is not None else "cpu –"
        if reading.memory_total is not None and reading.memory_available is not None:
            used = self._steady("ram", (reading.memory_total - reading.memory_available) / 2**30, _MEMORY_STEP)
            text += f" ram {used:.0f}/{reading.memory_total / 2**30:.0f}G"
        return text

    def _gpu(self, reading: MachineReading, at: int) -> str:
        gpu = reading.gpus[at]
        load = self._steady(f"load{at}", gpu.utilization, _LOAD_STEP)
        used = self._steady(f"memory{at}", None if gpu.memory_used is None else gpu.memory_used / 2**30, _MEMORY_STEP)
        memory = "" if used is None or gpu.memory_total is None else f" {used:.0f}/{gpu.memory_total / 2**30:.0f}G"
        return f"gpu{gpu.index}{memory}{'' if load is None else f' {load:.0f}%'}"

    def _steady(self, name: str, value: float | None, step: float) -> float | None:
        """The value, or the one said before if it is near."""
        if value is None:
            return None
        if name not in self._said or abs(value - self._said[name]) >= step:
            self._said[name] = value
        return self._said[name]
