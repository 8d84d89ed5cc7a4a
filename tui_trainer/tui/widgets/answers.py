"""The answers to a run's fixed prompts, from the first evaluation to the last, so that one sees the model learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from tui_trainer.runs.events import Sample
from tui_trainer.text import safe, safe_line
from tui_trainer.tui import format as fmt


class Answers(VerticalScroll, can_focus=True):
    """All prompts with their answers at one evaluation; arrows step through the evaluations."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "older", "Older", show=False, id="answers-older", tooltip="Answers of an earlier evaluation"),
        Binding("right,l", "newer", "Newer", show=False, id="answers-newer", tooltip="Answers of a later evaluation"),
        Binding("j", "scroll_down", "Down", show=False, id="answers-down", tooltip="Scroll down"),
        Binding("k", "scroll_up", "Up", show=False, id="answers-up", tooltip="Scroll up"),
    ]
    DEFAULT_CSS = "Answers { scrollbar-size-vertical: 1; & > Static { width: 100%; height: auto; padding: 0 1; } }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._samples: Sequence[Sample] = ()
        self._back = 0

    def compose(self) -> ComposeResult:
        """One text."""
        yield Static("no samples yet", markup=False)

    def show(self, samples: Sequence[Sample]) -> None:
        """Show samples, given oldest first."""
        if len(samples) != len(self._samples):
            self._samples = list(samples)
            self._redraw()

    @property
    def _steps(self) -> list[int]:
        return sorted({sample.step for sample in self._samples})

    def _redraw(self) -> None:
        steps = self._steps
        if not steps:
            return
        self._back = min(self._back, len(steps) - 1)
        step = steps[-1 - self._back]
        arrows = f"  ← → of {len(steps)} evaluations" if len(steps) > 1 else ""
        lines = [Content.styled(f"at step {fmt.count(step)}{arrows}", "$text-disabled")]
        for sample in self._samples:
            if sample.step == step:
                lines.append(Content.assemble(("❯ ", "$accent"), (safe_line(sample.prompt), "$text-muted")))
                lines.append(Content.assemble(("  ", ""), (safe(sample.text) or "(nothing)", "$text")))
        self.query_one(Static).update(Content("\n").join(lines))

    def action_older(self) -> None:
        """One evaluation back."""
        self._back += 1
        self._redraw()

    def action_newer(self) -> None:
        """One evaluation on."""
        self._back = max(self._back - 1, 0)
        self._redraw()
