"""The notable events of a run, newest first: checkpoints, evaluations, changes by hand, alerts."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tui_trainer.runs.events import (
    Alert,
    CheckpointCopied,
    CheckpointSaved,
    ControlApplied,
    EvalMetrics,
    Event,
    RunContinued,
    RunFailed,
    RunFinished,
    RunPaused,
    RunResumed,
    RunStarted,
    RunStopped,
)
from tui_trainer.text import safe_line
from tui_trainer.tui import format as fmt
from tui_trainer.tui.widgets.cursor_list import CursorList, Parts


class EventList(CursorList):
    """One line an event."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._events: Sequence[Event] = ()
        self._superseded: Collection[int] = ()

    def show(self, events: Sequence[Event], superseded: Collection[int] = ()) -> None:
        """Show events, given oldest first; those whose numbers are in `superseded` belong to a branch that was left."""
        if len(events) == len(self._events) and (not events or events[-1] is self._events[0]):
            return
        at_top = self.cursor == 0
        grown = len(events) - len(self._events)
        self._events, self._superseded = events[::-1], frozenset(superseded)
        self.set_num_lines(len(events), cursor=0 if at_top else self.cursor + max(grown, 0))

    def step_at(self, line: int) -> int:
        """The step of the event on a line."""
        return self._events[line].step

    def line_parts(self, line: int) -> Parts:
        """Step, sign, what happened."""
        event = self._events[line]
        sign, style, text = describe(event)
        if event.seq in self._superseded:
            style, text = "list--dim", f"superseded: {text}"
        return ((f"{fmt.count(event.step):>7} ", "list--dim"), (f"{sign} ", style), (safe_line(text), style))


def describe(event: Event) -> tuple[str, str, str]:
    """Sign, style and sentence of an event."""
    match event:
        case RunResumed():
            later = event.superseded_steps
            steps = f"; {fmt.count(later)} later {'steps are' if later != 1 else 'step is'} superseded" if later else ""
            return "▶", "list--good", f"resumed, attempt {event.attempt + 1}{steps}"
        case RunStarted():
            share = event.num_trainable_parameters / max(event.num_parameters, 1)
            parameters = f"{fmt.count(event.num_trainable_parameters)} parameters trained ({share:.1%})"
            place = f"{event.world_size} × {event.device}"
            rows = "streamed" if event.num_rows is None else fmt.count(event.num_rows)
            return "▶", "list--good", f"started: {rows} rows, {parameters}, {place}"
        case EvalMetrics():
            shown = [f"{name.removeprefix('eval_')} {fmt.metric(value)}" for name, value in _told(event).items()]
            return "●", "list--warn", f"evaluated: {', '.join(shown)}"
        case CheckpointSaved():
            best = ", the best so far" if event.is_best else ""
            return "◆", "list--accent", f"checkpoint, {fmt.size(event.bytes)} in {fmt.short_time(event.seconds)}{best}"
        case CheckpointCopied():
            return "◇", "list--dim", f"copied to {event.path} in {fmt.short_time(event.seconds)}"
        case ControlApplied():
            if event.error:
                what = "a command" if event.command == "refused" else event.command
                return "✘", "list--bad", f"{what} was refused: {event.error}"
            by = f" ({event.by})" if event.by else ""
            return "▾", "list--accent", f"{event.command}{_change(event.old, event.new)}{by}"
        case Alert():
            return "⚑", "list--bad", f"{event.message}. {event.remedy}".strip()
        case RunPaused():
            return "‖", "list--bad", f"paused: {event.message}. {event.remedy}".strip()
        case RunContinued():
            return "▶", "list--good", f"goes on: {event.message}"
        case RunFinished():
            return "✔", "list--good", f"finished in {fmt.took(event.seconds, is_resumed=event.attempt > 0)}"
        case RunStopped():
            return "■", "list--warn", f"stopped {event.reason}".strip()
        case RunFailed():
            return "✘", "list--bad", f"failed: {event.message or event.reason} {event.remedy}".strip()
    return "·", "", event.type


def _change(old: object, new: object) -> str:
    """What a command changed: " learning_rate 2e-4 → 1e-4"; empty if nothing."""
    if isinstance(new, dict):
        before = old if isinstance(old, dict) else {}
        return "".join(
            f" {name} {_value(before[name])} → {_value(value)}" if name in before else f" {name} {_value(value)}"
            for name, value in new.items()
        )
    if isinstance(new, bool) or new is None:
        return ""
    return f" {_value(new)}" if isinstance(new, str) else f" {_value(old)} → {_value(new)}"


def _value(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return fmt.metric(float(value))


def _told(event: EvalMetrics) -> dict[str, float]:
    """The metrics worth a line; how long an evaluation took is not."""
    timing = ("runtime", "seconds", "per_second")
    return {name: value for name, value in event.metrics.items() if not name.endswith(timing)}
