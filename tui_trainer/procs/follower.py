"""What the supervisor knows of a run from its events: the numbers in `status.json`, and how the run ended.

Reads `events.jsonl` as it grows; the trainer owes the supervisor nothing else.
"""

from __future__ import annotations

from tui_trainer.runs.events import (
    FINAL_EVENTS,
    CheckpointSaved,
    ControlApplied,
    Event,
    RunContinued,
    RunPaused,
    RunStarted,
    StepMetrics,
    decode,
)
from tui_trainer.runs.files import whole_number
from tui_trainer.runs.journal import Tailer
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.status import State

_HISTORY_BYTES = 1 << 18


class EventFollower:
    """Follows the events of a run from near the end of what is there.

    Attributes:
        state: starting, running or paused, as the events tell.
        pause: why the run paused by itself, while it does.
        final: the event that ended the run, once it is there.
        interruption: the event by which it stopped to be queued again by its scheduler, until it goes on.
        attempt: number of the attempt the newest event belongs to.
        step_seconds: how long the run takes to come to its next step border.
        save_seconds: how long its last checkpoint took.
        last_work: monotonic time at which it last told of something other than a step.
    """

    def __init__(self, layout: RunLayout) -> None:
        self._tailer = Tailer(layout.events, tail_bytes=_HISTORY_BYTES)
        self.state = State.STARTING
        self.pause: RunPaused | None = None
        self.final: Event | None = None
        self.interruption: Event | None = None
        self.attempt = 0
        self.step = 0
        self.max_steps: int | None = None
        self.epoch: float | None = None
        self.loss: float | None = None
        self.step_seconds = 0.0
        self.save_seconds = 0.0
        self.last_work = float("-inf")
        self._paused_at = -1

    def begin_attempt(self) -> None:
        """Read what earlier attempts left behind; it says where the run stood, not that it has ended."""
        self.advance(float("-inf"))
        self.state, self.pause = State.STARTING, None
        self.final = self.interruption = None

    def await_requeue(self) -> None:
        """Take the end of the run as an interruption: its scheduler starts it again."""
        self.state, self.interruption, self.final = State.QUEUED, self.final, None

    def advance(self, now: float) -> None:
        """Take in all new events; `now` is the monotonic time."""
        while lines := self._tailer.read():
            for line in lines:
                event = decode(line)
                if event is not None:
                    self._apply(event, now)

    def _apply(self, event: Event, now: float) -> None:
        self.attempt = max(self.attempt, event.attempt)
        if isinstance(event, StepMetrics):
            if event.step > self._paused_at:  # the step at which it pauses is written down after that
                self.state, self.pause = State.RUNNING, None
            self.step, self.epoch, self.loss = event.step, event.epoch, event.loss
            self.step_seconds = event.step_seconds or self.step_seconds
            return
        self.last_work = now
        if isinstance(event, RunStarted):
            self.state, self.pause, self._paused_at = State.RUNNING, None, -1
            self.final = self.interruption = None
            self.step, self.max_steps = event.step, event.max_steps
        elif isinstance(event, CheckpointSaved):
            self.save_seconds = event.seconds
        elif isinstance(event, ControlApplied) and not event.error:
            self._apply_command(event)
        elif isinstance(event, RunPaused):
            self.state, self.pause, self._paused_at = State.PAUSED, event, event.step
        elif isinstance(event, RunContinued):
            self.state, self.pause = State.RUNNING, None
        elif isinstance(event, FINAL_EVENTS):
            self.final = event
            self.step = max(self.step, event.step)

    def _apply_command(self, event: ControlApplied) -> None:
        if event.command == "pause":
            self.state, self._paused_at = State.PAUSED, event.step
        elif event.command == "continue":
            self.state, self.pause = State.RUNNING, None
        elif isinstance(event.new, dict):
            self.max_steps = whole_number(event.new.get("max_steps")) or self.max_steps
