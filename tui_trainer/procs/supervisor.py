"""The supervisor of one run: starts its command, records how it stands, ends all of it. Standard library only.

`python -m tui_trainer.procs.supervisor RUN_DIRECTORY [--adopt | --queue]`, started by `start`, in a session of its own:
it outlives the terminal and whoever started the run. It is the only writer of `status.json` and `supervisor.jsonl`.
Rank 0 is the only writer of `events.jsonl` while it lives; when all ranks are gone without a final event, the
supervisor appends it, so that whoever reads the events always sees the end.

With `--adopt` it takes over a run whose supervisor was killed: it starts nothing and watches what is left. With
`--queue` it first waits until it is the run's turn and what it needs is free.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tui_trainer.errors import MachineError, RefusedError, WorkbenchError
from tui_trainer.procs import lock
from tui_trainer.procs.attempt import Attempt
from tui_trainer.procs.follower import EventFollower
from tui_trainer.procs.ladder import Rung, StopLadder
from tui_trainer.procs.orders import LaunchOrder, StopOrder
from tui_trainer.procs.outcome import Outcome, outcome_of
from tui_trainer.procs.preempt import PREEMPTION, was_preempted
from tui_trainer.procs.proctree import ProcessKey, describe, marked
from tui_trainer.procs.queue import Queue, Turn, visible_devices
from tui_trainer.procs.records import Records
from tui_trainer.procs.restarts import RestartPolicy
from tui_trainer.runs import control
from tui_trainer.runs.events import Alert
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.status import State, observed_status

_POLL_SECONDS = 0.25
_POLL_SECONDS_WHEN_ENDING = 0.05
_QUEUE_SECONDS = 1.0
_SHUTDOWN_SECONDS = 1.0
"""How far apart the signals of a shutdown to the processes of a run may be."""
_LEFTOVER_SECONDS = 1.0
"""How long what the command left behind may take to end by itself."""
_LINGER_SECONDS = 60.0
"""How long the processes may go on after the final event."""

_PR_SET_CHILD_SUBREAPER = 36
_PREEMPTING = (signal.SIGTERM, signal.SIGUSR1)
_AWAITED = (signal.SIGCHLD, *_PREEMPTING)
_IGNORED = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTSTP,
    signal.SIGTTOU,
    signal.SIGUSR2,
)


class Supervisor:
    """Watches over one run from its start to its end.

    Args:
        layout: the run, whose lock this process holds.
        order: what to start; for an adopted run what had been started.
    """

    def __init__(self, layout: RunLayout, order: LaunchOrder) -> None:
        self._layout = layout
        self._order = order
        self._follower = EventFollower(layout)
        self._ladder = StopLadder(order.grace_seconds)
        self._attempt = Attempt(layout)
        self._queue = Queue()
        self._stop: StopOrder | None = None
        self._restarts = RestartPolicy(order.max_restarts, order.restart_delay)
        self._records = Records(layout, self._follower, self._restarts)
        self._final_at = self._ended_at = math.inf

    def prepare(self) -> None:
        """Clear what earlier starts left behind.

        Raises:
            OSError: the run directory cannot be written.
        """
        StopOrder.withdraw(self._layout)
        for command in control.pending(self._layout):
            control.remove(self._layout, command)
            self._records.log("discarded", command=command.name, by=command.by)
        for path in self._layout.ranks.glob("*.json"):
            path.unlink()
        self._follower.begin_attempt()
        self._records.status(State.QUEUED)

    def start(self) -> None:
        """Start the command.

        Raises:
            MachineError: the command cannot be started; the run is recorded as failed.
            OSError: the run directory cannot be written.
        """
        self._records.status(State.STARTING)
        try:
            self._launch()
        except OSError as error:
            what = f"the command cannot be started: {error.strerror or error}"
            self._finish(Outcome(State.FAILED, "package", what, f"Is {self._order.argv[0]} installed?"))
            raise MachineError(what, where=self._order.argv[0], remedy="Run `tui-trainer doctor`.") from None

    def adopt(self) -> None:
        """Take over the processes that an earlier supervisor left behind."""
        self._follower.advance(time.monotonic())
        self._records.log("adopted", processes=[describe(key) for key in self._attempt.left()])

    def join_queue(self) -> None:
        """Take the last place in the queue.

        Raises:
            MachineError: it cannot be written.
            OSError: the run directory cannot be written.
        """
        self._records.queue_place = self._queue.join(self._layout, self._order)
        self._records.status(State.QUEUED, Outcome(State.QUEUED, message="waits for its turn"))

    def await_turn(self) -> bool:
        """Wait in the queue until the run may start; returns whether it is still wanted then."""
        next_look = float("-inf")
        while self._stop is None:
            if time.monotonic() >= next_look:
                turn = self._look_into_queue()
                if turn.is_mine:
                    self._order = replace(self._order, env={**self._order.env, **visible_devices(turn.gpu_ids)})
                    self._records.log("turn", gpu_ids=list(turn.gpu_ids))
                    return True
                self._records.queue_place = turn.place
                self._records.beat(State.QUEUED, Outcome(State.QUEUED, message=turn.message))
                next_look = time.monotonic() + _QUEUE_SECONDS
            self._wait()
            self._read_order()
        self._finish(Outcome(State.STOPPED, "cancelled", "it was taken from the queue before it started"))
        return False

    def _look_into_queue(self) -> Turn:
        try:
            return self._queue.look(self._layout, self._order)
        except OSError as error:  # as on a full disk: wait on
            return Turn(False, place=self._records.queue_place, message=f"the queue cannot be read: {error.strerror}")

    def hold(self) -> None:
        """Tell the queue what the run uses that did not wait for it."""
        with contextlib.suppress(OSError):
            self._queue.hold(self._layout, self._order)

    def _launch(self) -> None:
        os.chdir(self._order.cwd)
        self._attempt = Attempt(self._layout)
        self._attempt.start(self._order, _IGNORED)
        self._records.log(
            "started", pid=self._attempt.command, argv=list(self._order.argv), restarts=self._restarts.num_restarts
        )

    def supervise(self) -> None:
        """Watch until the run is over and nothing of it is left."""
        while True:
            self._wait()
            now = time.monotonic()
            self._attempt.reap()
            self._follower.advance(now)
            if self._order.requeues and self._stop is None and was_preempted(self._follower.final, None):
                self._follower.await_requeue()
            self._press(now)
            if self._ladder.rung is Rung.GIVEN_UP or self._attempt.is_over():
                self._follower.advance(now)
                self._await_own_signal()
                final = self._follower.final or self._follower.interruption
                outcome = outcome_of(final, self._attempt.evidence(), self._ladder.rung, self._stop)
                if not self._restart_after(outcome):
                    return self._finish(outcome)
            else:
                self._records.beat(self._follower.state)

    def _wait(self) -> None:
        is_ending = self._ladder.rung >= Rung.TERMINATED or self._attempt.exit_code is not None
        received = signal.sigtimedwait(_AWAITED, _POLL_SECONDS_WHEN_ENDING if is_ending else _POLL_SECONDS)
        if received is not None and received.si_signo in _PREEMPTING and self._stop is None:
            # a second signal changes nothing: who takes the machine away kills when the time is up
            self._stop = StopOrder(by=PREEMPTION)

    def _await_own_signal(self) -> None:
        """Before an end without a word is judged: a shutdown signals everybody, and the ranks may have been first."""
        is_silent = self._follower.final is None and self._stop is None
        if is_silent and signal.sigtimedwait(_PREEMPTING, _SHUTDOWN_SECONDS) is not None:
            self._stop = StopOrder(by=PREEMPTION)

    def _press(self, now: float) -> None:
        """Climb the stop ladder as far as orders and time demand."""
        self._read_order()
        if self._stop is not None:
            # a run that made no step yet has nothing to save
            is_abrupt = self._stop.is_now or self._follower.state in (State.STARTING, State.QUEUED)
            self._climb(Rung.KILLED if self._stop.is_kill else Rung.TERMINATED if is_abrupt else Rung.ASKED, now)
        self._ladder.wait_until(self._follower.last_work + self._order.grace_seconds)
        if self._lingers(now):
            self._climb(Rung.TERMINATED, now)
        if (rung := self._ladder.next_rung(now)) is not None:
            self._climb(rung, now)
        if self._ladder.rung in (Rung.TERMINATED, Rung.KILLED):
            self._signal()

    def _read_order(self) -> None:
        order = StopOrder.read(self._layout)
        if order is not None:
            self._stop = order.hardened(self._stop)

    def _lingers(self, now: float) -> bool:
        """Whether processes go on although the command, or the run itself, has ended."""
        if self._attempt.exit_code is not None:
            self._ended_at = min(self._ended_at, now)
            # a rank that was asked to save may be at it, though its launcher is gone
            is_saving = self._ladder.rung is Rung.ASKED and self._follower.final is None
            return not is_saving and now - self._ended_at >= _LEFTOVER_SECONDS
        if self._follower.final is not None:
            self._final_at = min(self._final_at, now)
            return now - self._final_at >= _LINGER_SECONDS
        return False

    def _climb(self, rung: Rung, now: float) -> None:
        # to come to a step border and to save there takes the run what it took before, and a little more
        extra = 2 * (self._follower.step_seconds + self._follower.save_seconds) if rung is Rung.ASKED else 0.0
        if not self._ladder.climb_to(rung, now, extra_seconds=extra):
            return
        by = self._stop.by if self._stop else ""
        self._records.log(rung.name.lower(), by=by)
        if rung is Rung.ASKED:
            with contextlib.suppress(OSError):
                control.send(self._layout, "stop", by=by)

    def _signal(self) -> None:
        signalled = self._attempt.press(self._ladder.rung)
        if signalled and self._ladder.rung is Rung.TERMINATED:
            self._records.log("signalled", signal="SIGTERM", pids=sorted(key.pid for key in signalled))

    def _restart_after(self, outcome: Outcome) -> bool:
        """Start the run again if its failure may pass; returns whether it was."""
        if outcome.state is not State.FAILED or self._stop is not None or self._ladder.rung is Rung.GIVEN_UP:
            return False
        delay = self._restarts.delay_after(outcome.reason, self._follower.step)
        if delay is None:
            return False
        self._records.log(
            "restarted", reason=outcome.reason, message=outcome.message, restarts=self._restarts.num_restarts
        )
        if not self._rest(delay, outcome):
            return False
        self._ladder = StopLadder(self._order.grace_seconds)
        self._final_at = self._ended_at = math.inf
        self._follower.begin_attempt()
        try:
            self._launch()
        except OSError:
            return False
        return True

    def _rest(self, delay: float, outcome: Outcome) -> bool:
        """Wait before the next start; returns whether it is still wanted then."""
        number, most = self._restarts.num_restarts, self._restarts.max_restarts
        when = f"in {delay:.0f} s" if delay >= 1 else "now"
        message = f"{outcome.message}; starts again {when} from its last checkpoint (restart {number} of {most})"
        with contextlib.suppress(OSError):
            self._records.event(Alert(step=self._follower.step, kind="restart", message=message))
        until = time.monotonic() + delay
        waiting = Outcome(State.STARTING, outcome.reason, message, outcome.remedy)
        while time.monotonic() < until and self._stop is None:
            self._records.beat(State.STARTING, waiting)
            self._wait()
            self._read_order()
        return self._stop is None

    def _finish(self, outcome: Outcome) -> None:
        survivors = [describe(key) for key in self._attempt.left()] if self._ladder.rung is Rung.GIVEN_UP else []
        exit_code = self._attempt.exit_code
        self._records.end(outcome, exit_code)
        self._queue.leave(self._layout)
        self._records.log(
            "exited", state=outcome.state.value, reason=outcome.reason, exit_code=exit_code, survivors=survivors
        )


def main(arguments: Sequence[str]) -> int:
    """Detach, take the run, tell the starter, watch; returns the exit code."""
    layout = RunLayout(Path(arguments[0]))
    _detach()
    try:
        supervisor = _take(layout, is_adopting="--adopt" in arguments, is_queued="--queue" in arguments)
    except WorkbenchError as error:
        _answer(layout, {"error": error.to_dict()})
        return int(error.exit_code)
    except OSError as error:
        lacking = MachineError(f"the run directory cannot be written: {error.strerror}", where=str(layout.root))
        _answer(layout, {"error": lacking.to_dict()})
        return int(lacking.exit_code)
    _answer(layout, {"held": True})
    try:
        if "--queue" in arguments:
            if not supervisor.await_turn():
                return 0
            supervisor.start()
        supervisor.supervise()
    except MachineError as error:
        return int(error.exit_code)  # recorded already, and nobody listens any more
    return 0


def _detach() -> None:
    """Leave terminal, parent and their signals behind; the starter has made a session for us already."""
    if os.fork():
        # not to be the leader of the session means that no terminal can ever become ours
        os._exit(0)
    os.umask(0o077)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _take(layout: RunLayout, *, is_adopting: bool, is_queued: bool) -> Supervisor:
    if lock.acquire(layout) is None:
        raise RefusedError(
            "the run is going on already", where=layout.id, remedy=f"`tui-trainer {layout.id}` shows it."
        )
    status = observed_status(layout)
    if status.state.is_live and status.process is not None and not status.process.is_local:
        raise RefusedError("the run is going on on another machine", where=status.process.host, remedy="Stop it there.")
    orphans = marked(layout.root)
    if orphans and not is_adopting:
        raise RefusedError(
            f"{len(orphans)} processes of an earlier start still run ({_pids(orphans)})",
            where=layout.id,
            remedy=f"They train on, watched by nobody; `tui-trainer runs stop {layout.id}` ends them.",
        )
    supervisor = Supervisor(layout, LaunchOrder.read(layout))
    if is_adopting:
        supervisor.adopt()
        supervisor.hold()
        return supervisor
    supervisor.prepare()
    if is_queued:
        supervisor.join_queue()
    else:
        supervisor.hold()
        supervisor.start()
    return supervisor


def _pids(keys: set[ProcessKey]) -> str:
    return ", ".join(str(key.pid) for key in sorted(keys))


def _answer(layout: RunLayout, message: dict[str, Any]) -> None:
    """Tell the starter through the pipe that is standard output, then let go of it."""
    with contextlib.suppress(OSError):
        os.write(1, json.dumps(message).encode() + b"\n")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    with contextlib.suppress(OSError):
        os.dup2(os.open(layout.train_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), 2)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
