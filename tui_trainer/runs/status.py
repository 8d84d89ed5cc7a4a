"""The state of a run: `status.json` as the supervisor writes it, and what is true of it now.

A status file says what was true when it was written. `read_status` checks it against the processes: a run whose
supervisor and ranks are all gone has ended as its last event says, or is lost, whatever the file says.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from tui_trainer.runs.events import RunFailed, RunFinished, RunStopped, StepMetrics, decode
from tui_trainer.runs.files import number, read_json, whole_number, write_json
from tui_trainer.runs.identity import ProcessIdentity
from tui_trainer.runs.journal import Tailer
from tui_trainer.runs.layout import RunLayout

VERSION = 1
STALE_AFTER_SECONDS = 30.0
"""A run on another machine counts as lost when its heart has not beaten for this many seconds."""
_RESUME = "Resume it from its last checkpoint, if it has one."
_OBSERVED_SECONDS = 5.0
"""Within this time a live supervisor writes at least once."""
_CLOCK_SECONDS = 3600.0
"""Two machines' clocks are taken to differ by less; a heartbeat older than that is no matter of clocks."""
_TAIL_BYTES = 1 << 16


class State(StrEnum):
    """Where a run stands."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"
    LOST = "lost"

    @property
    def is_live(self) -> bool:
        """Whether processes should be there."""
        return self in (State.STARTING, State.RUNNING, State.PAUSED)

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen unless the run is resumed."""
        return self in (State.FINISHED, State.STOPPED, State.FAILED, State.LOST)


@dataclass(frozen=True)
class RunStatus:
    """The contents of `status.json`.

    Attributes:
        reason: short code of why the run failed, as "out_of_memory", "nan", "disk_full", "data", "killed".
        remedy: a sentence on what to do about it.
        message: a sentence on what happened.
        heartbeat: Unix time at which the supervisor last wrote.
        restarts: how often it was started again by itself.
        max_restarts: how often it may be.
        queue_place: its place among the runs that wait, from 1; 0 if it does not.
        process: the supervisor.
    """

    id: str
    state: State
    reason: str = ""
    remedy: str = ""
    message: str = ""
    step: int = 0
    max_steps: int | None = None
    epoch: float | None = None
    loss: float | None = None
    heartbeat: float = 0.0
    exit_code: int | None = None
    restarts: int = 0
    max_restarts: int = 0
    queue_place: int = 0
    process: ProcessIdentity | None = None

    def to_dict(self) -> dict[str, Any]:
        """The status as it stands in the file."""
        fields = asdict(self)
        del fields["process"]
        who = self.process.to_dict() if self.process else dict.fromkeys(("pid", "start_time", "boot_id", "host"))
        return {"version": VERSION} | fields | {"state": self.state.value} | who


def write_status(layout: RunLayout, status: RunStatus) -> None:
    """Replace `status.json`."""
    write_json(layout.status, status.to_dict())


def read_status(layout: RunLayout) -> RunStatus:
    """The state of a run as it is now."""
    data = read_json(layout.status)
    if data is None:
        what = "Its status file is damaged." if layout.status.exists() else "It has no status file."
        return _by_events(layout, RunStatus(layout.id, State.LOST, remedy=f"{what} {_RESUME}"))
    unknown = ""
    try:
        state = State(str(data.get("state")))
    except ValueError:
        state, unknown = State.LOST, f"Its status file is damaged, or of a newer version. {_RESUME}"
    status = RunStatus(
        id=layout.id,
        state=state,
        reason=str(data.get("reason") or ""),
        remedy=str(data.get("remedy") or ""),
        message=str(data.get("message") or ""),
        step=whole_number(data.get("step")) or 0,
        max_steps=whole_number(data.get("max_steps")),
        epoch=number(data.get("epoch")),
        loss=number(data.get("loss")),
        heartbeat=number(data.get("heartbeat")) or 0.0,
        exit_code=whole_number(data.get("exit_code")),
        restarts=whole_number(data.get("restarts")) or 0,
        max_restarts=whole_number(data.get("max_restarts")) or 0,
        queue_place=whole_number(data.get("queue_place")) or 0,
        process=ProcessIdentity.from_dict(data),
    )
    if unknown:
        return _by_events(layout, replace(status, remedy=unknown))
    original = data.get("id")
    if isinstance(original, str) and original != layout.id and not state.is_over:
        said = f"This directory is a copy of {original}, made while that one went on; its processes are not this run's."
        copy = replace(status, state=State.LOST, reason="lost", queue_place=0, process=None, remedy=f"{said} {_RESUME}")
        return _by_events(layout, copy)
    # a run that was made, but not started yet, waits without a process
    is_waiting = state is State.QUEUED and status.process is not None
    if not (state.is_live or is_waiting):
        return status
    if is_alive(layout, status):
        is_watched = status.process is None or not status.process.is_local or status.process.is_alive
        return status if is_watched else _unwatched(layout, status)
    return _out_of_queue(status) if is_waiting else _without_processes(layout, status)


def observed_status(layout: RunLayout) -> RunStatus:
    """As `read_status`, for those who would harm a run that lives on another machine whose clock is another one.

    What looks lost there is watched for some seconds: a heart that beats tells more than any clock.
    """
    return observed_statuses([layout])[0]


def observed_statuses(layouts: Sequence[RunLayout]) -> list[RunStatus]:
    """As `observed_status` of several runs, watched at the same time."""
    found = [read_status(layout) for layout in layouts]
    deadline = time.monotonic() + _OBSERVED_SECONDS
    while any(map(_is_lost_afar, found)) and time.monotonic() < deadline:
        time.sleep(0.25)
        pairs = zip(layouts, found, strict=True)
        found = [read_status(layout) if _is_lost_afar(status) else status for layout, status in pairs]
    return found


def may_live_afar(status: RunStatus) -> bool:
    """Whether a run looks lost by the clock of another machine only, so that watching it for a while may tell more."""
    return _is_lost_afar(status) and abs(time.time() - status.heartbeat) < _CLOCK_SECONDS


def _is_lost_afar(status: RunStatus) -> bool:
    return status.state is State.LOST and status.process is not None and not status.process.is_local


def rank_processes(layout: RunLayout) -> list[ProcessIdentity]:
    """The processes that the ranks recorded of themselves, dead ones included."""
    found = (read_json(path) for path in sorted(layout.ranks.glob("*.json")))
    return [who for data in found if data and (who := ProcessIdentity.from_dict(data))]


def is_alive(layout: RunLayout, status: RunStatus) -> bool:
    """Whether the supervisor or any rank of the run lives."""
    if status.process is None or not status.process.is_local:
        return _heart_beats(layout, status.heartbeat)
    return status.process.is_alive or any(rank.is_alive for rank in rank_processes(layout))


@dataclass(frozen=True)
class _Beat:
    """A heartbeat as this process saw it: what it said, since when, and whether the run counted as alive then."""

    said: float
    seen: float
    is_alive: bool


_last_beats: dict[Path, _Beat] = {}


def _heart_beats(layout: RunLayout, said: float) -> bool:
    """Whether a heart beats that only its file tells of.

    Two clocks are compared at the first look alone, where there is nothing else; from then on it is alive if it beat
    again within the time, however the clocks differ or are set.
    """
    now, last = time.monotonic(), _last_beats.get(layout.root)
    if last is None or last.said != said:
        is_alive = last is not None or abs(time.time() - said) < STALE_AFTER_SECONDS
        last = _last_beats[layout.root] = _Beat(said, now, is_alive)
    return last.is_alive and now - last.seen < STALE_AFTER_SECONDS


def _out_of_queue(status: RunStatus) -> RunStatus:
    """What is true of a run that waited for its turn when its supervisor went."""
    return replace(
        status,
        state=State.LOST,
        reason="lost",
        queue_place=0,
        message="its place in the queue is gone, as after a reboot",
        remedy=f"Queue it again: `tui-trainer runs queue add {status.id}`.",
    )


def _unwatched(layout: RunLayout, status: RunStatus) -> RunStatus:
    """What is true of a run whose ranks go on without a supervisor: it may have come further than the file says."""
    events = map(decode, reversed(Tailer(layout.events, tail_bytes=_TAIL_BYTES).read()))
    last = next((event for event in events if isinstance(event, StepMetrics)), None)
    if last is None or last.step <= status.step:
        return status
    return replace(status, state=State.RUNNING, step=last.step, epoch=last.epoch, loss=last.loss)


def _by_events(layout: RunLayout, status: RunStatus) -> RunStatus:
    """What is true of a run whose status file says nothing: its end, if its events tell of one, else as given."""
    told = _without_processes(layout, status)
    if told.state is State.LOST:
        return status
    return replace(told, remedy="" if told.remedy == status.remedy else told.remedy)


def _without_processes(layout: RunLayout, status: RunStatus) -> RunStatus:
    """What is true of a run whose supervisor did not live to write down its end: its last event, else it is lost."""
    lines = Tailer(layout.events, tail_bytes=_TAIL_BYTES).read()
    last = decode(lines[-1]) if lines else None
    if isinstance(last, RunFinished):
        return replace(status, state=State.FINISHED, step=last.step)
    if isinstance(last, RunStopped):
        return replace(status, state=State.STOPPED, step=last.step, reason=last.reason)
    if isinstance(last, RunFailed):
        failed = replace(status, state=State.FAILED, step=last.step, reason=last.reason)
        return replace(failed, message=last.message, remedy=last.remedy)
    return replace(
        status,
        state=State.LOST,
        reason="lost",
        remedy="Its processes are gone without a word, as after a reboot. Resume it from its last checkpoint.",
    )
