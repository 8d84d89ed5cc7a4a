"""How a run ended: its final event, or what the evidence says, made into a state with a reason and a remedy."""

from __future__ import annotations

from dataclasses import dataclass

from tui_trainer.procs.exits import REMEDIES, Evidence, classify, reason_of
from tui_trainer.procs.ladder import Rung
from tui_trainer.procs.orders import StopOrder
from tui_trainer.procs.preempt import PREEMPTED, was_preempted
from tui_trainer.runs.events import Event, RunFailed, RunFinished, RunStopped
from tui_trainer.runs.status import State


@dataclass(frozen=True)
class Outcome:
    """The end of a run.

    Attributes:
        state: finished, stopped or failed.
        reason: short code of why.
        message: a sentence.
        remedy: what to do about it.
    """

    state: State
    reason: str = ""
    message: str = ""
    remedy: str = ""

    def event(self, step: int, attempt: int) -> Event:
        """The final event that a run which died without a word still owes its readers."""
        if self.state is State.STOPPED:
            return RunStopped(step=step, attempt=attempt, reason=self.reason)
        return RunFailed(step=step, attempt=attempt, reason=self.reason, message=self.message, remedy=self.remedy)


def outcome_of(final: Event | None, evidence: Evidence, rung: Rung, stop: StopOrder | None) -> Outcome:
    """How a run ended.

    Args:
        final: the final event of the trainer, if it wrote one.
        evidence: what is left of the processes.
        rung: how hard the run was pressed to end.
        stop: the order to stop it, if there was one.
    """
    if isinstance(final, RunFinished):
        return Outcome(State.FINISHED)
    is_orphaned = isinstance(final, RunStopped) and stop is None and rung >= Rung.TERMINATED
    if is_orphaned and evidence.exit_code:
        # the launcher died, and the ranks that it left behind saved when they were told to end
        verdict = classify(evidence)
        return Outcome(State.FAILED, verdict.reason, verdict.message, verdict.remedy)
    is_silent = final is None and not evidence.exceptions
    if was_preempted(final, stop) and (is_silent or isinstance(final, RunStopped)):
        has_steps = final is None or final.step > 0
        saved = "It saved first." if isinstance(final, RunStopped) else "It could not save in time."
        again = "Start it again, here or elsewhere"
        said = f"{saved} {again}, to go on from its last checkpoint." if has_steps else f"It had made no step. {again}."
        return Outcome(State.STOPPED, PREEMPTED, "the machine was taken away", said)
    if isinstance(final, RunStopped):
        return Outcome(State.STOPPED, final.reason)
    if isinstance(final, RunFailed) and not evidence.exceptions:
        reason = final.reason or reason_of(final.message) or "library_error"
        return Outcome(State.FAILED, reason, final.message, final.remedy or REMEDIES.get(reason, ""))
    if final is None and stop is not None and rung >= Rung.TERMINATED:
        return Outcome(
            State.STOPPED,
            "terminated",
            remedy="It was ended before it could save. Resume it from its last checkpoint, if it has one.",
        )
    # the final event is rank 0's word, and it may have been another rank that failed first
    verdict = classify(evidence)
    return Outcome(State.FAILED, verdict.reason, verdict.message, verdict.remedy)
