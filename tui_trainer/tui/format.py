"""Numbers, durations and sizes as people read them; shared by all screens."""

from __future__ import annotations

import math
import time

from tui_trainer.runs.status import State
from tui_trainer.units import size as size  # the screens take all their words for numbers from here

STATE_GLYPHS: dict[State, str] = {
    State.QUEUED: "◌",
    State.STARTING: "◍",
    State.RUNNING: "●",
    State.PAUSED: "‖",
    State.FINISHED: "✔",
    State.STOPPED: "■",
    State.FAILED: "✘",
    State.LOST: "?",
}
"""A sign a state, so that it never depends on colour alone."""

STATE_STYLES: dict[State, str] = {
    State.QUEUED: "$text-muted",
    State.STARTING: "$warning",
    State.RUNNING: "$success",
    State.PAUSED: "$warning",
    State.FINISHED: "$primary",
    State.STOPPED: "$text-muted",
    State.FAILED: "$error",
    State.LOST: "$error",
}


def count(number: float) -> str:
    """A whole number with thin spaces between thousands: 12 345."""
    return f"{number:,.0f}".replace(",", "\u202f")


def metric(value: float | None) -> str:
    """A measured value in few characters: 0.1235, 2.5e-4, 23 333."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "-∞"
    if value != 0 and (abs(value) < 1e-3 or abs(value) >= 1e6):
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    return count(value) if abs(value) >= 1e4 else f"{value:.4g}"


def share(value: float | None) -> str:
    """A share from 0 to 1 as whole percent."""
    return "–" if value is None else f"{value:.0%}"


def duration(seconds: float | None) -> str:
    """Seconds as 42 s, 3:05, 1 h 12, 2 d 3 h."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d}"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d}"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def took(seconds: float | None, *, is_resumed: bool) -> str:
    """How long a run took, or its last attempt."""
    return f"{duration(seconds)} since it was resumed" if is_resumed else duration(seconds)


def short_time(seconds: float) -> str:
    """What is mostly quick: 12 ms, 0.4 s, 12 s, 3:05."""
    if seconds < 0.0995:
        return f"{max(seconds * 1000, 1):.0f} ms"
    return f"{seconds:.1f} s" if seconds < 9.95 else duration(seconds)


def ago(when: float) -> str:
    """A Unix time as how long ago it was."""
    return f"{duration(time.time() - when)} ago" if when else "–"


def clock(when: float) -> str:
    """A Unix time as the time of day here."""
    return time.strftime("%H:%M:%S", time.localtime(when))
