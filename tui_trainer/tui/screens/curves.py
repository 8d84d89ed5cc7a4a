"""The curves of the run in view and the keys that change how they are drawn; the Train screen builds on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.widget import Widget

from tui_trainer.runs.events import Alert, ControlApplied
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.series import Series
from tui_trainer.runs.snapshot import RunReader, RunView
from tui_trainer.runs.store import RunRecord, list_runs
from tui_trainer.text import safe_line
from tui_trainer.tui import format as fmt
from tui_trainer.tui.screens.base import WorkbenchScreen
from tui_trainer.tui.widgets.ask import Pick
from tui_trainer.tui.widgets.chart import Chart, Curve, Mark, Plot

PLOTS: tuple[tuple[str, str], ...] = (
    ("loss", "loss"),
    ("learning_rate", "learning rate"),
    ("grad_norm", "gradient norm"),
    ("tokens_per_second", "tokens/s"),
)
_AUTO = -1.0
"""Smoothing by the length of the run: the mean reaches back over about a twentieth of it."""
_SMOOTHING = (_AUTO, 0.0, 0.6, 0.9, 0.98)
_AXES = ("steps", "tokens", "seconds")
_TIMES = ((7200.0, 3600.0, "hours"), (120.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))
"""From how many seconds on which unit is used."""
_CURSOR_STEPS = 100
_LABELS = "ABC"
_SLICE_SECONDS = 0.02
_OTHERS_SECONDS = 2.0
_NONE = ""


@dataclass(frozen=True)
class _Axis:
    """What the curves are drawn over.

    Attributes:
        name: "steps", "tokens" or "seconds".
        scale: factor to the unit.
        words: of the title, empty for steps.
    """

    name: str
    scale: float = 1.0
    words: str = ""

    def along(self, view: RunView, series: Series) -> Series:
        """A metric of a run over this axis."""
        return series if self.name == "steps" else series.along(view.axes.get(self.name) or Series(), self.scale)

    def place(self, view: RunView, step: float) -> float:
        """Where a step of a run stands on this axis."""
        axis = view.axes.get(self.name)
        return step if axis is None else self.scale * axis.at(step)


class CurvesScreen(WorkbenchScreen):
    """Four plots of the run in view, beside them up to three other runs."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "y", "log_scale", "Log y", show=False, id="train-log", tooltip="Logarithmic y axis for loss and gradient"
        ),
        Binding("t", "axis", "Axis", show=False, id="train-axis", tooltip="Draw over steps, tokens or time"),
        Binding("u", "outliers", "Outliers", show=False, id="train-outliers", tooltip="Cut off the outermost values"),
        Binding(
            "o", "compare", "Compare", show=False, id="train-compare", tooltip="Lay the curves of another run over"
        ),
        Binding("m", "smoothing", "Smooth", show=False, id="train-smooth", tooltip="Another smoothing"),
        Binding("left,comma", "cursor(-1)", "Cursor", show=False, id="train-cursor-back", tooltip="Read values: back"),
        Binding("enter", "rows", "Rows", show=False, id="train-rows", tooltip="The rows that a step trained on"),
        Binding("right,full_stop", "cursor(1)", "Cursor", show=False, id="train-cursor-on", tooltip="Read values: on"),
    ]

    def compose_plots(self) -> Iterable[Widget]:
        """One chart a metric."""
        for name, title in PLOTS:
            yield Chart(Plot(title), id=f"plot-{name}")

    def on_mount(self) -> None:
        """Begin with steps, linear, smoothed by length, alone."""
        self._smoothing = _AUTO
        self._is_log = self._cuts = False
        self._axis = "steps"
        self._zoomed = -1
        self._cursor: float | None = None
        self._others: dict[RunLayout, RunView] = {}
        super().on_mount()

    def show_plots(self, view: RunView) -> None:
        """Draw the curves of a run."""
        axis = self._axis_of(view)
        marks = [
            Mark(axis.place(view, event.step), glyph)
            for glyph, event in (
                *(("◆", event) for event in view.checkpoints),
                *(("⚑", event) for event in view.notable if isinstance(event, Alert)),
                *(("▾", event) for event in view.notable if _is_change(event)),
            )
        ]
        for name, title in PLOTS:
            self.query_one(f"#plot-{name}", Chart).show(self._plot(view, name, title, axis, marks))

    def _axis_of(self, view: RunView) -> _Axis:
        """The axis that was chosen; steps where the run does not tell the other."""
        total = view.axes.get(self._axis)
        if total is None or total.last is None:
            return _Axis("steps")
        if self._axis == "tokens":
            return _Axis("tokens", words=" over tokens")
        longest = total.last[1]
        unit, words = next((unit, words) for least, unit, words in _TIMES if longest >= least)
        return _Axis("seconds", 1 / unit, f" over {words}")

    def _plot(self, view: RunView, name: str, title: str, axis: _Axis, marks: list[Mark]) -> Plot:
        is_log = self._is_log and name in ("loss", "grad_norm")
        labelled = zip(_LABELS, self._others.items(), strict=False)
        others = [(label, layout, other) for label, (layout, other) in labelled if name in other.series]
        curves = [
            Curve(
                axis.along(other, other.series[name]),
                "other",
                self._smoothing_of(name, other.series[name]),
                label=label,
            )
            for label, _, other in others
        ]
        if (series := view.series.get(name)) is not None:
            curves.append(Curve(axis.along(view, series), smoothing=self._smoothing_of(name, series)))
        if name == "loss" and (evaluations := view.series.get("eval_loss")) is not None:
            curves.append(Curve(axis.along(view, evaluations), "points", is_points=True))
        legend = "".join(f" · {label} {safe_line(_short(layout))}" for label, layout, _ in others if name == "loss")
        return Plot(
            f"{title}{' (log)' if is_log else ''}{axis.words}{legend}",
            curves,
            marks if name in ("loss", "learning_rate") else (),
            note=self._note(view, name),
            log_y=is_log,
            x_max=view.max_steps if axis.name == "steps" else None,
            cursor=None if self._cursor is None else axis.place(view, self._cursor),
            from_zero=name in ("learning_rate", "tokens_per_second"),
            cuts_outliers=self._cuts and name != "learning_rate",
            placeholder=placeholder(view),
        )

    def _smoothing_of(self, name: str, series: Series) -> float:
        if name == "learning_rate":
            return 0.0
        if self._smoothing != _AUTO:
            return self._smoothing
        return min(max(1 - 20 / max(series.num_samples, 1), 0.0), 0.98)

    def _note(self, view: RunView, name: str) -> str:
        series = view.series.get(name)
        if series is None or series.last is None:
            return ""
        if self._cursor is not None:
            return f"{fmt.metric(series.value_at(self._cursor))} at {fmt.count(self._cursor)}"
        return fmt.metric(series.last[1])

    def redraw(self) -> None:
        """Show the run in view anew."""
        if self.session.run.view is not None:
            self._show_run(self.session.run.view)

    def action_zoom(self) -> None:
        """Each plot alone in turn, then all again."""
        self._zoomed = self._zoomed + 1 if self._zoomed + 1 < len(PLOTS) else -1
        self.set_class(self._zoomed >= 0, "-zoomed")
        for at, (name, _) in enumerate(PLOTS):
            self.query_one(f"#plot-{name}").set_class(at == self._zoomed, "-shown")

    def action_log_scale(self) -> None:
        """Switch the y axis."""
        self._is_log = not self._is_log
        self.redraw()

    def action_outliers(self) -> None:
        """Cut the outermost values off, or show them again."""
        self._cuts = not self._cuts
        self.say("the outermost 1 % at either end may lie beyond the plot" if self._cuts else "all values are shown")
        self.redraw()

    def action_axis(self) -> None:
        """Draw over the next of steps, tokens and time that the run tells."""
        view = self.session.run.view
        known = [name for name in _AXES if name == "steps" or (view is not None and name in view.axes)]
        at = known.index(self._axis) if self._axis in known else 0
        self._axis = known[(at + 1) % len(known)]
        self.say({"steps": "over steps", "tokens": "over tokens read", "seconds": "over time trained"}[self._axis])
        self.redraw()

    def action_smoothing(self) -> None:
        """Take the next smoothing."""
        self._smoothing = _SMOOTHING[(_SMOOTHING.index(self._smoothing) + 1) % len(_SMOOTHING)]
        words = {_AUTO: "smoothing by the length of the run", 0.0: "no smoothing"}
        self.say(words.get(self._smoothing, f"smoothing {self._smoothing:g}"))
        self.redraw()

    def action_cursor(self, direction: int) -> None:
        """Move the reading cursor; past the right end it vanishes."""
        view = self.session.run.view
        if view is None or not view.series:
            return
        series = view.series["loss"] if "loss" in view.series else next(iter(view.series.values()))
        step = max((series.last_x - series.first_x) / _CURSOR_STEPS, 1.0)
        at = (series.last_x if self._cursor is None else self._cursor) + direction * step
        self._cursor = None if at > series.last_x else max(at, series.first_x)
        self.redraw()

    def action_rows(self, step: int | None = None) -> None:
        """Show which rows a step trained on: the one under the reading cursor, else the one given, else the last."""
        from tui_trainer.tui.screens.step_rows import StepRows

        view, layout = self.session.run.view, self.session.run.layout
        if view is None or layout is None or view.last is None:
            self.say("no step is in view yet")
            return
        at = step if self._cursor is None else round(self._cursor)
        shown = min(max(view.last.step if at is None else at, 1), view.last.step)
        self.app.push_screen(StepRows(layout, view, shown, self.session.services.data))

    # Other runs

    @work(group="compare", exclusive=True)
    async def action_compare(self) -> None:
        """Offer the other runs of the store."""
        with self.session.type_ahead.held():
            runs = await asyncio.to_thread(list_runs, self.session.root)
        options = [self._option(run) for run in runs if run.layout != self.session.run.layout]
        if self._others:
            options.insert(0, (_NONE, "none", "take all others away"))
        if options:
            self.app.push_screen(Pick("Lay over", options), self._compared_with(runs))
        else:
            self.say("there is no other run in this store")

    def _option(self, run: RunRecord) -> tuple[str, str, str]:
        is_shown = run.layout in self._others
        return run.id, f"{'✓ ' if is_shown else ''}{run.name}", f"{run.status.state.value} {fmt.ago(run.created)}"

    def _compared_with(self, runs: Iterable[RunRecord]) -> Callable[[str | None], None]:
        layouts = {run.id: run.layout for run in runs}

        def taken(identifier: str | None) -> None:
            if identifier == _NONE:
                self._others.clear()
            elif identifier is not None and self._others.pop(layouts[identifier], None) is None:
                if len(self._others) == len(_LABELS):
                    self.say(f"{len(_LABELS)} other runs at most; pick one of them to take it away", problem=True)
                else:
                    self._follow_other(layouts[identifier])
            self.redraw()

        return taken

    @work(group="others")
    async def _follow_other(self, layout: RunLayout) -> None:
        """Read another run, and go on as long as it does and its curve is wanted."""
        reader = await asyncio.to_thread(RunReader, layout)
        self._others[layout] = reader.view
        while layout in self._others:
            await asyncio.to_thread(reader.fetch)
            has_changed = reader.apply(_SLICE_SECONDS)
            if layout not in self._others:
                return
            self._others[layout] = reader.view
            if reader.has_more:
                await asyncio.sleep(0)
                continue
            if has_changed:
                self.redraw()
            if not reader.view.status.state.is_live:
                return
            await asyncio.sleep(_OTHERS_SECONDS)


def _is_change(event: object) -> bool:
    return isinstance(event, ControlApplied) and not event.error and event.command == "set"


def _short(layout: RunLayout) -> str:
    return layout.id.rsplit("-", 3)[0]


def placeholder(view: RunView) -> str:
    """What stands in place of curves that are not there yet."""
    if view.status.message and not view.status.state.is_over:
        return safe_line(view.status.message)  # why it waits: for its turn, or to be started again
    if view.progress is not None:
        progress = view.progress
        share = f" {progress.done / progress.total:.0%}" if progress.done is not None and progress.total else ""
        return safe_line(f"{progress.task}{share} …")
    return "waiting for the first step …" if view.status.state.is_live else "no values"
