"""Launching a run: checks, doubts, the start itself; the Args screen builds on it."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.message import Message

from tui_trainer.errors import Problem, WorkbenchError
from tui_trainer.runs.layout import RunLayout
from tui_trainer.tui.screens.editing import EditingScreen
from tui_trainer.tui.session import Session
from tui_trainer.tui.widgets.ask import Confirm, Pick


class LaunchingScreen(EditingScreen):
    """A screen from which the draft can be launched.

    Attributes:
        problems: what is wrong with the draft, errors first; kept up to date by the screen.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("L", "launch", "Launch", id="args-launch", tooltip="Check everything and launch the run"),
        Binding("Q", "queue", "Queue", id="args-queue", tooltip="Check everything and let the run wait for its turn"),
    ]

    class RunLaunched(Message):
        """A supervisor holds the new run; `warning` says what to know before logging out."""

        def __init__(self, layout: RunLayout, warning: str) -> None:
            super().__init__()
            self.layout = layout
            self.warning = warning

    class LaunchFailed(Message):
        """The run could not be started."""

        def __init__(self, error: WorkbenchError) -> None:
            super().__init__()
            self.error = error

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.problems: list[Problem] = []
        self._is_launching = False
        self._agreed: tuple[str, ...] = ()

    def show_problem(self, problem: Problem) -> None:
        """Bring the field of a problem into view."""

    def action_launch(self) -> None:
        """Check, ask where something speaks against it, launch."""
        self._launch(is_queued=False)

    def action_queue(self) -> None:
        """The same, but the run waits until the GPUs or cores it needs are free."""
        self._launch(is_queued=True)

    def _launch(self, *, is_queued: bool) -> None:
        if self._is_launching:
            return
        errors = [problem for problem in self.problems if problem.severity == "error"]
        if errors:
            self.say(f"cannot launch: {errors[0].key}: {errors[0].message}", problem=True)
            self.show_problem(errors[0])
            return
        if self.lacks_consent():
            return
        dataset = self.session.dataset.state
        if dataset.error is not None:
            self.say(f"cannot launch: {dataset.error}", problem=True)
            return
        if dataset.verdict is not None and dataset.verdict.get("blocks_launch"):
            self.say("cannot launch: the data cannot be trained on; screen 1 says why", problem=True)
            return
        doubts = [str(problem) for problem in self.problems] + self._data_doubts()
        question = "Queue it all the same?" if is_queued else "Launch all the same?"

        # a verdict that comes while the question stands was not shown
        self._agreed = tuple((dataset.verdict or {}).get("needs_yes") or ())

        def go_on(is_sure: bool | None) -> None:
            if is_sure:
                self._choose_turn(is_queued=is_queued)

        if doubts:
            self.app.push_screen(Confirm(question, doubts, "queues" if is_queued else "launches"), go_on)
        else:
            go_on(True)

    @work(group="turn", exclusive=True)
    async def _choose_turn(self, *, is_queued: bool) -> None:
        """Launch or queue; where other runs are at work, ask which of the two is meant."""
        from tui_trainer.procs.queue import Queue

        others = [] if is_queued else await asyncio.to_thread(Queue().entries)
        if others:
            at_work = ", ".join(entry.layout.id for entry in others[:3]) + (" and others" if len(others) > 3 else "")
            options = [
                ("queue", "wait in the queue", "starts by itself when what it needs is free"),
                ("now", "launch now", "beside them: they share memory and speed"),
            ]
            how = await self.app.push_screen_wait(Pick("Other runs are at work or wait", options, about=at_work))
            if not how:
                return
            is_queued = how == "queue"
        self._start(is_queued=is_queued)

    def _data_doubts(self) -> list[str]:
        verdict = self.session.dataset.state.verdict
        if verdict is None:
            return ["the whole data set is not judged yet: the run refuses lost answers and mismatches that it finds"]
        return [
            f"data: {problem.get('message') or problem.get('code')}"
            for problem in verdict.get("problems") or ()
            if problem.get("severity") in ("error", "warning")
        ]

    def _start(self, *, is_queued: bool) -> None:
        self._is_launching = True
        self.say("joining the queue …" if is_queued else "launching …")
        self._start_run(is_queued)

    @work(thread=True, group="launch", exit_on_error=False)
    def _start_run(self, is_queued: bool) -> None:
        from tui_trainer.procs.login import logout

        try:
            layout = self.session.services.start_run(self.session.draft.resolved, queued=is_queued, agreed=self._agreed)
        except WorkbenchError as error:
            self.post_message(self.LaunchFailed(error))
        else:
            self.post_message(self.RunLaunched(layout, logout().warning))

    @on(RunLaunched)
    async def _run_launched(self, message: RunLaunched) -> None:
        self._is_launching = False
        if message.warning:
            self.say(message.warning, problem=True)
        self.session.run.open(message.layout)
        await self.run_action("app.go('train')")

    @on(LaunchFailed)
    def _launch_failed(self, message: LaunchFailed) -> None:
        self._is_launching = False
        self.say(f"not launched: {message.error}", problem=True)
