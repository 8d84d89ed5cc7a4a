"""The plan of a resume as text for people and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tui_trainer.text import safe_line

if TYPE_CHECKING:
    from rich.console import Console

    from tui_trainer.procs.resume_plan import Rates, ResumePlan

_NUM_RATES = 6


def show_plan(console: Console, plan: ResumePlan) -> None:
    """Print what going on from a checkpoint means."""
    from rich.table import Table
    from rich.text import Text

    from tui_trainer.config.catalogue import shown
    from tui_trainer.config.resuming import MEANING, Effect

    where = "as a new run" if plan.is_new_run else "in the same run"
    steps = f" of {plan.max_steps:,}" if plan.max_steps is not None else ""
    console.print(Text(safe_line(f"{plan.run}, from step {plan.step:,}{steps}, {where}"), "bold"))
    console.print()
    table = Table(box=None, show_header=False, pad_edge=False)
    for part in plan.parts:
        table.add_row(Text("=" if part.is_exact else "≠"), part.name, Text(safe_line(part.note)))
    for difference in plan.differences:
        change = f"{shown(difference.old)} → {shown(difference.new)}"
        note = difference.note or MEANING[difference.effect]
        style = "red" if difference.effect is Effect.REFUSED else ""
        sign = "!" if difference.effect is Effect.REFUSED else "~"
        table.add_row(Text(sign, style), Text(safe_line(difference.key), style), Text(safe_line(f"{change}: {note}")))
    console.print(table)
    if rates := list(_rates(plan)):
        console.print()
        table = Table(box=None, pad_edge=False)
        for heading in ("step", "learning rate before", "now"):
            table.add_column(heading, justify="right")
        for step, before, now in rates:
            table.add_row(f"{step:,}", *("–" if rate is None else f"{rate:.3g}" for rate in (before, now)))
        console.print(table)
    console.print()
    for warning in plan.warnings:
        console.print(Text(safe_line(f"warning: {warning}"), "yellow"))
    is_bad = bool(plan.refused or plan.is_finished)
    console.print(Text(plan.verdict, "red" if is_bad else "green" if plan.is_exact else ""))


def _rates(plan: ResumePlan) -> Iterator[tuple[int, float | None, float | None]]:
    """The learning rate before and now, at a few steps from the checkpoint to the end."""
    last = max(plan.max_steps or 0, plan.max_steps_before)
    if not plan.rates or last <= plan.step:
        return
    points = {plan.step + (last - plan.step) * number // (_NUM_RATES - 1) for number in range(_NUM_RATES)}
    for step in sorted(points):
        yield step, _at(plan.rates_before, step), _at(plan.rates, step)


def _at(rates: Rates, step: int) -> float | None:
    """The rate at the known step nearest to one; None outside of the curve."""
    if not rates or not rates[0][0] <= step <= rates[-1][0]:
        return None
    return min(rates, key=lambda point: abs(point[0] - step))[1]
