"""Some of a run's checkpoints by a short text; used by `chat --checkpoints` and the Chat screen's sets of prompts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_EVERY = re.compile(r"every (\d+)")
_RANGE = re.compile(r"(\d*)\s*-\s*(\d*)")


def chosen_checkpoints(text: str, steps: Sequence[int]) -> list[str]:
    """The checkpoints that a text means.

    Args:
        text: parts with commas between: "all", "every 2" (every second one, the newest with it), "100-500" (an end may
            be left out), a step, "best", "latest".
        steps: those there are, oldest first.

    Returns:
        Steps, "best" or "latest", each once, as they come after the @ of a reference.

    Raises:
        ValueError: a part means none, or there is no part; the message says which there are.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    found = list(dict.fromkeys(one for part in parts for one in _meant(part, steps)))
    if not found:
        raise ValueError("no checkpoint is named: give all, every 2, 100-500, steps as 100,200, best or latest")
    return found


def _meant(part: str, steps: Sequence[int]) -> Iterator[str]:
    chosen: Sequence[int] = ()
    if part in ("best", "latest"):
        yield part
        return
    if part == "all":
        chosen = steps
    elif (every := _EVERY.fullmatch(part)) and int(every[1]):
        chosen = steps[:: -int(every[1])][::-1]
    elif part.isdecimal():
        chosen = [step for step in steps if step == int(part)]
    elif between := _RANGE.fullmatch(part):
        first, last = int(between[1] or 0), int(between[2] or max(steps, default=0))
        chosen = [step for step in steps if first <= step <= last]
    if not chosen:
        raise ValueError(f"no checkpoint {part!r}; it has {', '.join(map(str, steps)) or 'none'}")
    yield from map(str, chosen)
