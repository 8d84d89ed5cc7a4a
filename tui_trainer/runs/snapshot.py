"""What a screen knows of a run: built up event by event, read by the Train screen, `runs watch` and `runs show`.

`RunReader.advance` takes what is new in the files. Where the files may be slow, as on a network, a thread reads them
(`fetch`) and the event loop takes in what it found, in slices short enough for it (`apply`).
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

from tui_trainer.runs.control import Command, pending
from tui_trainer.runs.events import (
    FINAL_EVENTS,
    Alert,
    CheckpointCopied,
    CheckpointSaved,
    ControlApplied,
    EvalMetrics,
    Event,
    Progress,
    RunContinued,
    RunPaused,
    RunResumed,
    RunStarted,
    Sample,
    StepMetrics,
    decode,
)
from tui_trainer.runs.files import whole_number
from tui_trainer.runs.journal import Tailer
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.series import Series
from tui_trainer.runs.status import RunStatus, read_status

STEP_SERIES = ("loss", "learning_rate", "grad_norm", "tokens_per_second", "memory_bytes")
_NUM_RECENT = 500
_NOTABLE = (
    RunStarted,
    EvalMetrics,
    CheckpointSaved,
    CheckpointCopied,
    ControlApplied,
    Alert,
    RunPaused,
    RunContinued,
    *FINAL_EVENTS,
)


@dataclass
class RunView:
    """All that is known of a run.

    Attributes:
        series: metric name to its values over steps; evaluation metrics under their own names.
        axes: what rises with the steps, over them: "tokens" read and "seconds" trained.
        notable: the events worth a line of their own, oldest first.
        samples: the answers to the fixed prompts.
        superseded: numbers of the notable events that belong to steps which were done again after a resume.
        starts: the starts whose steps count, oldest first.
        changes: the fields that were changed by hand, oldest first; a resume takes back those after its checkpoint.
        pause: why the run paused by itself, while it does.
        late: the commands that lie in the mailbox of a run that is over; nobody carries them out.
        num_torn: lines of the event file that could not be read.
    """

    status: RunStatus
    series: dict[str, Series] = field(default_factory=dict)
    axes: dict[str, Series] = field(default_factory=dict)
    started: RunStarted | None = None
    last: StepMetrics | None = None
    last_eval: EvalMetrics | None = None
    progress: Progress | None = None
    final: Event | None = None
    checkpoints: list[CheckpointSaved] = field(default_factory=list)
    notable: deque[Event] = field(default_factory=lambda: deque(maxlen=_NUM_RECENT))
    samples: list[Sample] = field(default_factory=list)
    superseded: set[int] = field(default_factory=set)
    starts: list[RunStarted] = field(default_factory=list)
    changes: list[ControlApplied] = field(default_factory=list)
    pause: RunPaused | None = None
    late: list[Command] = field(default_factory=list)
    num_events: int = 0
    num_torn: int = 0
    _timed_until: int = 0

    def apply(self, event: Event) -> None:
        """Take in one event."""
        self.num_events += 1
        if isinstance(event, StepMetrics):
            self._apply_step(event)
        elif isinstance(event, EvalMetrics):
            self.last_eval = event
            for name, value in event.metrics.items():
                self._append(name, event.step, value)
        elif isinstance(event, Progress):
            self.progress = event
        elif isinstance(event, Sample):
            self.samples.append(event)
        if isinstance(event, RunStarted):
            self.starts = [*(start for start in self.starts if start.step < event.step), event]
            self.started, self.final, self.progress = event, None, None
        if isinstance(event, RunResumed):
            self._go_back(event.step)
        if isinstance(event, CheckpointSaved):
            self.checkpoints.append(event)
        if isinstance(event, FINAL_EVENTS):
            self.final = event
        if isinstance(event, ControlApplied) and not event.error:
            self._apply_command(event)
        elif isinstance(event, (RunPaused, RunContinued, RunStarted)):
            self.pause = event if isinstance(event, RunPaused) else None
        if isinstance(event, _NOTABLE):
            self.notable.append(event)

    def _go_back(self, step: int) -> None:
        """Of the steps that are done again those of the later attempt count."""
        for series in (*self.series.values(), *self.axes.values()):
            series.forget_after(step)
        self._timed_until = step
        self.checkpoints = [event for event in self.checkpoints if event.step <= step]
        self.samples = [event for event in self.samples if event.step <= step]
        if self.last_eval is not None and self.last_eval.step > step:
            self.last_eval = None
        self.changes = [change for change in self.changes if change.step <= step]
        self.superseded |= {event.seq for event in self.notable if event.step > step}

    def _apply_command(self, event: ControlApplied) -> None:
        if event.command == "set" and isinstance(event.new, dict):
            self.changes.append(event)
        elif event.command == "continue":
            self.pause = None

    def _apply_step(self, event: StepMetrics) -> None:
        self.last, self.progress = event, None
        for name in STEP_SERIES:
            value = getattr(event, name)
            if value is not None:
                self._append(name, event.step, float(value))

        if event.num_input_tokens is not None:
            _append(self.axes, "tokens", event.step, float(event.num_input_tokens))
        if event.step_seconds and event.step > self._timed_until:
            # by the steps' own lengths: what they took, whatever clocks and pauses say
            before = self.axes["seconds"].at(self._timed_until) if "seconds" in self.axes else 0.0
            took = (event.step - self._timed_until) * event.step_seconds
            _append(self.axes, "seconds", event.step, before + took)
        self._timed_until = max(self._timed_until, event.step)

    def _append(self, name: str, step: int, value: float) -> None:
        _append(self.series, name, step, value)

    def start_of(self, step: int) -> RunStarted | None:
        """The start that made a step, of several the one whose row counts; None if it was made elsewhere or never."""
        return next((start for start in reversed(self.starts) if start.step < step), None)

    @property
    def max_steps(self) -> int | None:
        """The step at which the run ends, as planned or as set since."""
        changed = (whole_number(change.new.get("max_steps")) for change in reversed(self.changes))
        planned = self.started.max_steps if self.started else self.status.max_steps
        return next((steps for steps in changed if steps), planned)

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds to the end at the present pace; None while it is not known."""
        if self.last is None or not self.last.step_seconds or self.max_steps is None:
            return None
        return max(self.max_steps - self.last.step, 0) * self.last.step_seconds


def _append(where: dict[str, Series], name: str, step: int, value: float) -> None:
    series = where.setdefault(name, Series())
    if series.last is None or step > series.last[0]:
        series.append(step, value)


class RunReader:
    """Follows the files of one run."""

    def __init__(self, layout: RunLayout) -> None:
        self.layout = layout
        self._tailer = Tailer(layout.events)
        self._lines: deque[bytes] = deque()
        self._is_behind = True
        self._has_restarted = False
        self._status, self._late = read_status(layout), list[Command]()
        self.view = RunView(self._status)

    def advance(self, budget_seconds: float = 0.02) -> bool:
        """Take in what is new, for at most about `budget_seconds`.

        Returns:
            Whether anything changed.
        """
        deadline = time.monotonic() + budget_seconds
        has_changed = False
        while True:
            self.fetch()
            has_changed |= self.apply(deadline - time.monotonic())
            if not self._is_behind or time.monotonic() >= deadline:
                return has_changed

    def fetch(self) -> None:
        """Read the files, of the events one portion at most; may block, and must not run beside `apply`."""
        if not self._lines:
            num_restarts = self._tailer.num_restarts
            self._lines.extend(self._tailer.read())
            self._has_restarted |= self._tailer.num_restarts != num_restarts
            self._is_behind = bool(self._lines) and self._tailer.has_more()
        self._status = read_status(self.layout)
        self._late = pending(self.layout) if self._status.state.is_over else []

    def apply(self, budget_seconds: float) -> bool:
        """Take in what `fetch` found, for at most about `budget_seconds`; returns whether anything changed."""
        deadline = time.monotonic() + budget_seconds
        before = self._known()
        if self._has_restarted:  # a file that was replaced is a new story
            self._has_restarted, self.view = False, RunView(self._status)
        while self._lines and time.monotonic() < deadline:
            line = self._lines.popleft()
            event = decode(line)
            if event is not None:
                self.view.apply(event)
            elif line.strip():
                self.view.num_torn += 1
        self.view.status, self.view.late = self._status, self._late
        return before != self._known()

    def _known(self) -> tuple[object, ...]:
        return self.view.num_events, self.view.num_torn, self.view.status, self.view.late

    @property
    def has_more(self) -> bool:
        """Whether there was more than the last call took in."""
        return bool(self._lines) or self._is_behind
