"""`tui-trainer demo`: a first run that works anywhere, in the workbench or on its own with answers before and after."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tui_trainer.cli.output import paper, print_json, talk
from tui_trainer.errors import ExitCode, RunFailedError
from tui_trainer.text import safe, safe_line

if TYPE_CHECKING:
    from tui_trainer.runs.events import Event
    from tui_trainer.runs.layout import RunLayout

_POLL_SECONDS = 0.2
_SELF = "Aurora"
"""The name that the model of the identity story is taught."""

Answers = list[tuple[str, str]]
"""Prompts with their answers."""


class Story(StrEnum):
    """The demos there are."""

    DATES = "dates"
    IDENTITY = "identity"


PRESETS = {Story.DATES: "dates-from-scratch", Story.IDENTITY: "identity-lora"}
"""The configuration of each story."""


def demo(
    story: Annotated[
        Story,
        typer.Argument(help="dates: a tiny model learns from scratch. identity: SmolLM2 learns a new name."),
    ] = Story.DATES,
    headless: Annotated[bool, typer.Option("--headless", help="Train at once, without the workbench.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document; implies --headless.")] = False,
) -> int:
    """Train a small model on shipped data and compare its answers before and after.

    Without --headless the workbench opens with the run ready to launch.
    """
    if not headless and not as_json:
        from tui_trainer.tui.app import run as run_workbench

        return run_workbench(PRESETS[story], argv=["demo", story.value])
    outcome = _train(story, is_quiet=as_json)
    if as_json:
        print_json(outcome.to_dict())
    else:
        _print_outcome(outcome)
    return ExitCode.DONE


@dataclass
class Outcome:
    """What a demo run showed.

    Attributes:
        story: which demo.
        run: its id.
        losses: of its first and its latest step.
        answers: the answers to the prompts, by the step at which they were asked.
        exact_matches: of its first and its latest evaluation.
        seconds: from the start of the run to its end.
    """

    story: Story
    run: str
    losses: list[float] = field(default_factory=list)
    answers: dict[int, Answers] = field(default_factory=dict)
    exact_matches: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def take(self, event: Event) -> None:
        """Take in one event of the run."""
        from tui_trainer.runs.events import EvalMetrics, Sample, StepMetrics

        if isinstance(event, StepMetrics) and event.loss is not None:
            self.losses = [*self.losses[:1], event.loss]
        elif isinstance(event, Sample):
            self.answers.setdefault(event.step, []).append((event.prompt, event.text))
        elif isinstance(event, EvalMetrics) and "eval_exact_match" in event.metrics:
            self.exact_matches = [*self.exact_matches[:1], event.metrics["eval_exact_match"]]

    @property
    def before(self) -> Answers:
        """The answers of the untrained model."""
        return self.answers[min(self.answers)] if self.answers else []

    @property
    def after(self) -> Answers:
        """The answers of the trained model."""
        return self.answers[max(self.answers)] if self.answers else []

    def measured(self, place: int) -> dict[str, float | None]:
        """Exact match, or the rates of right and of misplaced names, at the first (0) or latest (-1) evaluation."""
        if self.story is Story.DATES:
            return {"exact_match": self.exact_matches[place] if self.exact_matches else None}
        from tui_trainer.engine.demo.samples import identity_questions

        about_self, unrelated = identity_questions()
        answers = self.after if place else self.before
        return {"hit_rate": _share_named(answers, about_self), "leak_rate": _share_named(answers, unrelated)}

    def to_dict(self) -> dict[str, Any]:
        """The document of `demo --json`."""
        return {
            "story": self.story.value,
            "run": self.run,
            "seconds": round(self.seconds, 1),
            "loss_first": self.losses[0] if self.losses else None,
            "loss_last": self.losses[-1] if self.losses else None,
            "before": [{"prompt": prompt, "answer": answer} for prompt, answer in self.before],
            "after": [{"prompt": prompt, "answer": answer} for prompt, answer in self.after],
            **self.measured(-1),
        }


def _share_named(answers: Answers, questions: list[str]) -> float | None:
    """Share of the answers to some questions that say the taught name; None if none was asked."""
    asked = [answer for prompt, answer in answers if prompt in questions]
    return sum(_SELF.lower() in answer.lower() for answer in asked) / len(asked) if asked else None


def _train(story: Story, *, is_quiet: bool) -> Outcome:
    """Start the run of a story and follow it to its end.

    Raises:
        WorkbenchError: it cannot be started, or it did not come to its end.
    """
    from tui_trainer.config.load import load_config
    from tui_trainer.procs.start import start_run
    from tui_trainer.procs.stop import request_stop

    layout = start_run(load_config(PRESETS[story]), argv=["tui-trainer", "demo", story.value, "--headless"])
    started = time.monotonic()
    outcome = Outcome(story, layout.id)
    try:
        with _Display(layout, is_quiet=is_quiet) as display:
            for event in _events(layout):
                outcome.take(event)
                display.show(event)
    except KeyboardInterrupt:
        request_stop(layout, by="ctrl+c")
        talk().print(f"Stopping; what was trained is saved in {layout.root}.")
        raise
    outcome.seconds = time.monotonic() - started
    _check_end(layout)
    return outcome


def _events(layout: RunLayout) -> Iterator[Event]:
    """The events of a run as they are written, until it is over."""
    from tui_trainer.runs.events import decode
    from tui_trainer.runs.journal import Tailer
    from tui_trainer.runs.status import read_status

    tailer = Tailer(layout.events)
    is_over = False
    while not is_over:
        # the state is read before the events, so that what is written last is not missed
        is_over = read_status(layout).state.is_over
        while lines := tailer.read():
            yield from (event for line in lines if (event := decode(line)))
        if not is_over:
            time.sleep(_POLL_SECONDS)


def _check_end(layout: RunLayout) -> None:
    from tui_trainer.runs.snapshot import RunReader
    from tui_trainer.runs.status import State, read_status

    status = read_status(layout)
    if status.state is State.FINISHED:
        return
    reader = RunReader(layout)
    while reader.has_more:
        reader.advance()
    what = getattr(reader.view.final, "message", "") or status.reason.replace("_", " ") or status.state.value
    raise RunFailedError(f"the demo run did not come to its end: {what}", where=layout.id, remedy=status.remedy)


class _Display:
    """How far the run is, on stderr: a bar on a terminal, else a line an evaluation.

    Args:
        layout: the run.
        is_quiet: show nothing.
    """

    def __init__(self, layout: RunLayout, *, is_quiet: bool) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._layout = layout
        self._is_quiet = is_quiet
        self._max_steps = 0
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=talk(),
            disable=is_quiet or not talk().is_terminal,
        )
        self._task = self._bar.add_task("starting", total=None)

    def __enter__(self) -> _Display:
        if not self._is_quiet:
            talk().print(f"Run {self._layout.id} in {self._layout.root}")
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, event: Event) -> None:
        """Show one event."""
        from tui_trainer.runs.events import EvalMetrics, Progress, RunStarted, StepMetrics

        if isinstance(event, RunStarted):
            self._max_steps = event.max_steps
            self._bar.update(self._task, description="training", completed=event.step, total=event.max_steps)
        elif isinstance(event, Progress):
            self._bar.update(
                self._task, description=safe_line(event.task), completed=event.done or 0, total=event.total
            )
        elif isinstance(event, StepMetrics) and event.loss is not None:
            self._bar.update(self._task, description=f"loss {event.loss:.3f}", completed=event.step)
        elif isinstance(event, EvalMetrics) and not self._is_quiet:
            numbers = "  ".join(
                f"{name} {value:.3f}" for name, value in event.metrics.items() if name != "eval_seconds"
            )
            talk().print(f"step {event.step}/{self._max_steps}  {numbers}")


def _print_outcome(outcome: Outcome) -> None:
    """The answers before and after, and what they are worth."""
    from rich.table import Table

    table = Table(title=f"{outcome.story.value}: before and after", show_lines=False, title_justify="left")
    for heading in ("prompt", "before", "after"):
        table.add_column(heading, overflow="fold", max_width=50)
    before = dict(outcome.before)
    for prompt, answer in outcome.after:
        table.add_row(safe(prompt), safe(before.get(prompt, "")), safe(answer))
    paper().print(table)
    if outcome.losses:
        paper().print(f"loss {outcome.losses[0]:.3f} -> {outcome.losses[-1]:.3f} in {outcome.seconds:.0f} s")
    first = outcome.measured(0)
    for name, value in outcome.measured(-1).items():
        paper().print(f"{_MEANINGS[name]}: {_percent(first.get(name))} -> {_percent(value)}")
    paper().print(f"Talk to it: tui-trainer chat {outcome.run}")


_MEANINGS = {
    "exact_match": "held-out dates written right",
    "hit_rate": "held-out questions about itself answered with its new name",
    "leak_rate": "unrelated questions answered with its name (should be 0)",
}


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1%}"
