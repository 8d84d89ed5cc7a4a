"""`tui-trainer demo`: a first run that works anywhere, in the workbench or on its own with answers before and after."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tui_trainer.cli.output import paper, print_json
from tui_trainer.text import safe

if TYPE_CHECKING:
    from tui_trainer.runs.events import Event

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
    outcome, code = _train(story)
    if as_json:
        print_json(outcome.to_dict())
    elif len(outcome.answers) > 1:
        _print_outcome(outcome)
    return code


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


def _train(story: Story) -> tuple[Outcome, int]:
    """Start the run of a story and stay with it; what it showed, and the exit code.

    Raises:
        WorkbenchError: it cannot be started, or it failed.
    """
    from tui_trainer.cli.interrupts import Interrupts
    from tui_trainer.cli.train import stay
    from tui_trainer.config.load import load_config
    from tui_trainer.procs.start import start_run
    from tui_trainer.runs.events import decode
    from tui_trainer.runs.journal import read_lines

    started = time.monotonic()
    resolved = load_config(PRESETS[story])
    with Interrupts() as interrupts:
        layout = start_run(resolved, argv=sys.argv)
        code = stay(layout, interrupts, as_json=False)
    outcome = Outcome(story, layout.id, seconds=time.monotonic() - started)
    for line in read_lines(layout.events):
        if event := decode(line):
            outcome.take(event)
    return outcome, code


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
