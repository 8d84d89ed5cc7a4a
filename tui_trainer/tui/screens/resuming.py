"""The plan of a resume over the screen: what is restored, what differs, the learning rate before and now; its start.

Opened by the Runs and Train screens; closes with the run that goes on.
"""

from __future__ import annotations

import asyncio
import re
import textwrap
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from tui_trainer.errors import ConfigurationError, WorkbenchError
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.series import Series
from tui_trainer.runs.store import left_checkpoints, list_checkpoints
from tui_trainer.text import safe, safe_line
from tui_trainer.tui import format as fmt
from tui_trainer.tui.services import Services
from tui_trainer.tui.widgets.ask import AskText, Pick
from tui_trainer.tui.widgets.chart import Chart, Curve, Mark, Plot
from tui_trainer.tui.widgets.sheet import Sheet

if TYPE_CHECKING:
    from tui_trainer.config.resolve import Resolved
    from tui_trainer.procs.resume import ResumeTarget
    from tui_trainer.procs.resume_plan import Rates, ResumePlan

_NUM_POINTS = 30
"""Points of the curve as it was, so that they can be told from each other."""
_MIN_NOTE = 20


class Resuming(Sheet[RunLayout | None]):
    """Shows what going on from a checkpoint means, and starts it.

    Args:
        layout: the run.
        services: what starts it.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "start(False)", "Go on", id="resume-go", tooltip="Go on in the same run"),
        Binding("n", "start(True)", "New run", id="resume-new", tooltip="Go on as a run of its own"),
        Binding("p", "pick", "Checkpoint", id="resume-pick", tooltip="Go on from another checkpoint"),
        Binding("e", "edit", "Change", id="resume-edit", tooltip="Another value for a field of the configuration"),
        Binding("f", "force", "Force", id="resume-force", tooltip="Go on although it is another training"),
        Binding("escape,q", "dismiss", "Close", id="resume-close", tooltip="Close, start nothing"),
    ]
    DEFAULT_CSS = """
        Resuming {
            & > Vertical { width: 96%; max-width: 110; height: 94%; max-height: 94%; }
            & VerticalScroll { height: 1fr; }
            & Chart { height: 8; }
            & #resume-foot { color: $text-muted; }
        }
    """

    class Planned(Message):
        """A plan is made."""

        def __init__(self, target: ResumeTarget, resolved: Resolved, plan: ResumePlan) -> None:
            super().__init__()
            self.target = target
            self.resolved = resolved
            self.plan = plan

    class Failed(Message):
        """No plan can be made, or the run could not be started."""

        def __init__(self, error: WorkbenchError) -> None:
            super().__init__()
            self.error = error

    class Started(Message):
        """A supervisor holds the run."""

        def __init__(self, layout: RunLayout) -> None:
            super().__init__()
            self.layout = layout

    def __init__(self, layout: RunLayout, services: Services) -> None:
        super().__init__()
        self._layout = layout
        self._services = services
        self._step = ""
        self._assignments: list[str] = []
        self._is_forced = self._is_starting = False
        self._planned: Resuming.Planned | None = None

    def compose(self) -> ComposeResult:
        """The plan, the curve, the keys."""
        with Vertical() as box:
            box.border_title = Content(safe(f"Resume {self._layout.id}"))
            with VerticalScroll():
                yield Static(Content("reading the checkpoint …"), id="resume-plan")
            yield Chart(Plot("learning rate"), id="resume-curve")
            yield Static(
                Content("enter same run · n new run · p checkpoint · e change · f force · esc"),
                id="resume-foot",
            )

    def on_mount(self) -> None:
        """Make the plan."""
        self._make_plan(self._reference, tuple(self._assignments))

    @property
    def _reference(self) -> str:
        return f"{self._layout.root}@{self._step}" if self._step else str(self._layout.root)

    @work(thread=True, group="plan", exclusive=True, exit_on_error=False)
    def _make_plan(self, reference: str, assignments: tuple[str, ...]) -> None:
        from tui_trainer.procs.resume import config_for, find_target, plan_for

        try:
            target = find_target(reference)
            resolved = config_for(target, assignments)
            self.post_message(self.Planned(target, resolved, plan_for(target, resolved, is_new_run=False)))
        except WorkbenchError as error:
            self.post_message(self.Failed(error))

    @on(Planned)
    def _show(self, message: Planned) -> None:
        """Show a plan."""
        self._planned, plan = message, message.plan
        self._show_text()
        now, before = _series(plan.rates), _series(plan.rates_before[:: len(plan.rates_before) // _NUM_POINTS + 1])
        self.query_one("#resume-curve", Chart).show(
            Plot(
                "learning rate: ● before, ─ from here on",
                [Curve(before, "points", is_points=True), Curve(now)],
                [Mark(plan.step, "▶")],
                note=fmt.metric(now.value_at(plan.step)),
                x_max=max(plan.max_steps or 0, plan.max_steps_before),
                from_zero=True,
                placeholder="nobody can draw it beforehand",
            )
        )

    def on_resize(self) -> None:
        """Wrap the text anew."""
        self._show_text()

    def _show_text(self) -> None:
        if self._planned is not None:
            width = self.query_one(VerticalScroll).scrollable_content_region.width
            text = _content(self._planned.plan, width, is_forced=self._is_forced)
            self.query_one("#resume-plan", Static).update(text)

    @on(Failed)
    def _show_error(self, message: Failed) -> None:
        """Say why there is no plan, or why nothing was started."""
        self._is_starting = False
        error = message.error
        if self._assignments and isinstance(error, ConfigurationError):
            self.notify(str(error), severity="error", markup=False)
            self._assignments.pop()
        else:
            self.query_one("#resume-plan", Static).update(Content.styled(safe(str(error)), "$error"))

    # Keys

    @work(group="pick", exclusive=True)
    async def action_pick(self) -> None:
        """Choose another checkpoint."""
        checkpoints = await asyncio.to_thread(list_checkpoints, self._layout)
        left = await asyncio.to_thread(left_checkpoints, self._layout)
        options = [
            (str(found.step), f"step {fmt.count(found.step)}", f"{fmt.size(found.bytes)}{note}")
            for those, note in ((checkpoints, ""), (left, ", of a branch that the run left: as a new run only"))
            for found in reversed(those)
        ]
        if options and (step := await self.app.push_screen_wait(Pick("Go on from", options, self._step))):
            self._step = step
            self._make_plan(self._reference, tuple(self._assignments))

    def action_edit(self) -> None:
        """Ask for another value of a field."""
        about = "As learning_rate=1e-5, max_steps=2000 or num_train_epochs=4. The plan shows what it does."
        self.app.push_screen(AskText("Change a value", "", about, _check_assignment), self._edited)

    def _edited(self, assignment: str | None) -> None:
        if assignment:
            self._assignments.append(assignment)
            self._make_plan(self._reference, tuple(self._assignments))

    def action_force(self) -> None:
        """Mean it, or not."""
        self._is_forced = not self._is_forced
        self._show_text()

    def action_start(self, is_new_run: bool) -> None:
        """Start it, if the plan may be carried out."""
        from tui_trainer.procs.resume import check_plan

        if self._planned is None or self._is_starting:
            return
        try:
            check_plan(replace(self._planned.plan, is_new_run=is_new_run), is_forced=self._is_forced)
        except WorkbenchError as error:
            self.notify(f"{error.what}. {_in_keys(error.remedy)}", severity="error", markup=False)
            return
        self._is_starting = True
        self._start(self._planned, is_new_run, self._is_forced)

    @work(thread=True, group="start", exit_on_error=False)
    def _start(self, planned: Planned, is_new_run: bool, is_forced: bool) -> None:
        try:
            layout = self._services.resume_run(
                planned.target, planned.resolved, is_new_run=is_new_run, is_forced=is_forced
            )
        except WorkbenchError as error:
            self.post_message(self.Failed(error))
        else:
            self.post_message(self.Started(layout))

    @on(Started)
    def _leave(self, message: Started) -> None:
        """Hand the run over to whoever opened this."""
        self.dismiss(message.layout)


def _check_assignment(text: str) -> None:
    from tui_trainer.config.resolve import typed_values

    try:
        typed_values([text])
    except ConfigurationError as error:
        raise ValueError("; ".join(problem.message for problem in error.problems)) from None


def _in_keys(remedy: str) -> str:
    """What to do, in the words of this screen."""
    remedy = re.sub(r"`tui-trainer train CONFIG --resume \S+` goes on", "press n: that goes on", remedy)
    return remedy.replace("give --force if it is meant", "press f if it is meant").replace("--set ", "press e: ")


def _content(plan: ResumePlan, width: int, *, is_forced: bool) -> Content:
    """The plan as text of a width, each note wrapped under itself."""
    from tui_trainer.config.catalogue import shown
    from tui_trainer.config.resuming import MEANING, Effect

    of = f" of {fmt.count(plan.max_steps)}" if plan.max_steps is not None else ""
    is_refused = plan.is_finished or bool(plan.refused and not is_forced) or (plan.is_left and not plan.is_new_run)
    verdict = "forced" if plan.refused and is_forced and not plan.is_finished else plan.verdict
    style = "$error bold" if is_refused else "$success" if plan.is_exact else "$warning"
    lines = [Content.assemble((f"from step {fmt.count(plan.step)}{of}: ", "$text"), (verdict, style))]
    indent = 3 + max(
        len(name) for name in (*(part.name for part in plan.parts), *(one.key for one in plan.differences))
    )
    for part in plan.parts:
        head = f"{'=' if part.is_exact else '≠'} {part.name}"
        lines += _hanging(head, "$text-muted" if part.is_exact else "$warning", part.note, indent, width)
    for one in plan.differences:
        must_be_meant = one.effect is Effect.REFUSED
        note = f"{shown(one.old)} → {shown(one.new)}: {one.note or MEANING[one.effect]}"
        head = f"{'!' if must_be_meant else '~'} {one.key}"
        lines += _hanging(head, "$error" if must_be_meant else "$accent", note, indent, width)
    for warning in plan.warnings:
        lines += _hanging("⚑", "$warning", warning, 2, width)
    return Content("\n").join(lines)


def _hanging(head: str, style: str, note: str, indent: int, width: int) -> list[Content]:
    parts = textwrap.wrap(safe_line(note), max(width - indent, _MIN_NOTE)) or [""]
    first = Content.assemble((f"{safe_line(head):<{indent}}", style), (parts[0], "$text"))
    return [first, *(Content.styled(f"{'':<{indent}}{part}", "$text") for part in parts[1:])]


def _series(rates: Rates) -> Series:
    series = Series()
    for step, rate in rates:
        series.append(step, rate)
    return series
