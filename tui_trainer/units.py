"""Sizes as people read them: one way for the screens, the commands and the messages of the engine."""

from __future__ import annotations

_UNITS = ("B", "KiB", "MiB", "GiB")


def size(num_bytes: float | None) -> str:
    """Bytes as 1.2 GiB, 93 KiB, 512 B: powers of 1024, as GPU tools count them; a dash for what is not known."""
    if num_bytes is None:
        return "–"
    value = float(num_bytes)
    for unit in _UNITS:
        if abs(value) < 1023.5:
            return f"{value:.0f} {unit}" if unit == "B" or abs(value) >= 99.95 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
