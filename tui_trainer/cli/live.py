"""A run shown on the terminal while it goes on: one line of progress, remarks above it. Talk, so it goes to stderr.

Without a terminal it writes a plain line now and then, as is right for the log of a batch job.
"""

from __future__ import annotations

import re
import time
from types import TracebackType
from typing import TYPE_CHECKING

from tui_trainer.cli.output import talk
from tui_trainer.runs.events import (
    Alert,
    CheckpointCopied,
    CheckpointSaved,
    ControlApplied,
    EvalMetrics,
    Event,
    Progress,
    RunContinued,
    RunPaused,
    RunStarted,
    Sample,
    StepMetrics,
)
from tui_trainer.runs.files import whole_number
from tui_trainer.runs.journal import Tailer
from tui_trainer.runs.layout import RunLayout
from tui_trainer.text import safe_line, shortened
from tui_trainer.tui.format import count, duration, metric, short_time
from tui_trainer.units import size

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

_PLAIN_SECONDS = 10.0
_MAX_TEXT = 100
_LAUNCHER = "subprocess.CalledProcessError"
"""`accelerate launch` fails with a traceback of its own when a process failed, which says nothing more."""
_ERROR_LINE = re.compile(r"\b(\w*Error|\w*Exception|FATAL|CRITICAL|out of memory)\b")


class LiveView:
    """Shows events as they come; use it as a context.

    Args:
        layout: the run; errors that its log tells of from now on are shown as well.
    """

    def __init__(self, layout: RunLayout) -> None:
        self._log = Tailer(layout.train_log, tail_bytes=0)
        self._max_steps: int | None = None
        self._last_plain = float("-inf")
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> LiveView:
        if talk().is_terminal:
            self._bar = _new_bar()
            self._task = self._bar.add_task("starting", total=None, numbers="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, RunStarted):
            self._max_steps = event.max_steps
            self._say(_started(event))
            self._progress("training", event.step, event.max_steps, "")
        elif isinstance(event, ControlApplied) and isinstance(event.new, dict):
            self._max_steps = whole_number(event.new.get("max_steps")) or self._max_steps
            self._say(_remark(event))
        elif isinstance(event, StepMetrics):
            self._progress("training", event.step, self._max_steps, self._numbers(event))
        elif isinstance(event, Progress):
            numbers = f"{count(event.done)}" if event.done is not None and event.total is None else ""
            self._progress(event.task, event.done, event.total, numbers)
        elif remark := _remark(event):
            self._say(remark)

    def show_log(self) -> None:
        """Show the lines of the log that look like errors and are new."""
        for line in self._log.read():
            text = line.decode("utf-8", "replace")
            if _ERROR_LINE.search(text) and _LAUNCHER not in text:
                self._say(f"log: {_short(text)}")

    def _numbers(self, event: StepMetrics) -> str:
        parts = [f"loss {metric(event.loss)}", f"lr {metric(event.learning_rate)}"]
        if event.tokens_per_second is not None:
            parts.append(f"{count(event.tokens_per_second)} tok/s")
        if event.step_seconds and self._max_steps:
            parts.append(f"ETA {duration((self._max_steps - event.step) * event.step_seconds)}")
        return "  ".join(parts)

    def _progress(self, task: str, done: int | None, total: int | None, numbers: str) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(
                self._task, description=_short(task), completed=done or 0, total=total, numbers=safe_line(numbers)
            )
        elif time.monotonic() - self._last_plain >= _PLAIN_SECONDS:
            self._last_plain = time.monotonic()
            steps = "" if done is None else f" {done}" + (f"/{total}" if total else "")
            self._say(f"{task}{steps}  {numbers}".rstrip())

    def _say(self, text: str) -> None:
        console = self._bar.console if self._bar is not None else talk()
        console.print(safe_line(text))


def _new_bar() -> Bar:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[numbers]}", markup=False),
        console=talk(),
        transient=True,
        refresh_per_second=5,
    )


def _started(event: RunStarted) -> str:
    share = f"{count(event.num_trainable_parameters)} of {count(event.num_parameters)} parameters trained"
    where = f"{event.world_size} process{'es' if event.world_size != 1 else ''} on {event.device}"
    rows = "streamed" if event.num_rows is None else count(event.num_rows)
    return f"{rows} rows, {count(event.max_steps)} steps; {share}; {where}"


def _remark(event: Event) -> str:
    """What is worth a line of its own; empty if it is not."""
    if isinstance(event, EvalMetrics):
        numbers = (f"{name} {metric(value)}" for name, value in event.metrics.items() if name.startswith("eval_"))
        shown = [text for text in numbers if "_per_second" not in text and "runtime" not in text]
        return f"step {event.step}: {', '.join(shown)}"
    if isinstance(event, CheckpointSaved):
        return f"step {event.step}: saved {size(event.bytes)} in {short_time(event.seconds)}"
    if isinstance(event, CheckpointCopied):
        return f"step {event.step}: copied to {event.path} in {short_time(event.seconds)}"
    if isinstance(event, ControlApplied):
        what = f"refused, {event.error}" if event.error else changes_text(event)
        return f"step {event.step}: {event.command} {what}".rstrip() + (f" ({event.by})" if event.by else "")
    if isinstance(event, Sample):
        return f"step {event.step}: {_short(event.prompt)} → {_short(event.text)}"
    if isinstance(event, Alert):
        return f"step {event.step}: {event.message}. {event.remedy}".rstrip()
    if isinstance(event, RunPaused):
        return f"step {event.step}: paused: {event.message}. {event.remedy}".rstrip()
    if isinstance(event, RunContinued):
        return f"step {event.step}: goes on: {event.message}"
    return ""


def changes_text(event: ControlApplied) -> str:
    """The fields that a command changed, "learning_rate 2e-4 → 1e-4"; empty where it changed none."""
    if not isinstance(event.new, dict):
        return ""
    old = event.old if isinstance(event.old, dict) else {}
    changes = (
        f"{name} {_value(old[name])} → {_value(value)}" if name in old else f"{name} {_value(value)}"
        for name, value in event.new.items()
    )
    return ", ".join(changes)


def _value(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _short(text: str) -> str:
    return shortened(safe_line(text.strip()), _MAX_TEXT)
