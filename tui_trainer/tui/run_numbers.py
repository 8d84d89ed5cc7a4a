"""How a run stands, in the numbers below its plots; used by the Train screen."""

from __future__ import annotations

from collections.abc import Iterator

from textual.content import Content

from tui_trainer.runs.snapshot import RunView
from tui_trainer.text import safe_line
from tui_trainer.tui import format as fmt

Part = tuple[str, str]
"""Text and style."""

_EVALUATED = {"eval_loss": "eval", "eval_exact_match": "exact_match"}


def run_numbers(view: RunView, width: int) -> Content:
    """State, numbers and remarks, broken between two numbers where `width` cells are used up; 0 for one line."""
    state = view.status.state
    sign = f" {fmt.STATE_GLYPHS[state]} {state.value} "
    parts: list[Part] = [(sign, f"bold {fmt.STATE_STYLES[state]}")]
    if view.pause is not None and state.is_live:
        parts += [(safe_line(view.pause.message), "$error"), ("\n", "")]
    used = len(sign)
    for name, value in _named_numbers(view):
        size = len(name) + len(value) + 2
        if used + size > width > 0:
            parts.append(("\n", ""))
            used = 0
        parts += [(f" {name} ", "$text-muted"), (value, "$text")]
        used += size
    return Content.assemble(*parts, *_remarks(view))


def _named_numbers(view: RunView) -> Iterator[tuple[str, str]]:
    status, last, total = view.status, view.last, view.max_steps
    step = fmt.count(last.step if last is not None else status.step)
    yield "step", f"{step}/{fmt.count(total)}" if total else step
    if last is not None:
        if last.epoch is not None:
            yield "epoch", f"{last.epoch:.2f}"
        yield "loss", fmt.metric(last.loss)
        yield from _evaluated(view)
        yield "lr", fmt.metric(last.learning_rate)
        if last.tokens_per_second:
            yield "tok/s", fmt.count(last.tokens_per_second)
        if last.memory_bytes:
            yield "mem", fmt.size(last.memory_bytes)
        if last.num_left_out:
            yield "rows left out", fmt.count(last.num_left_out)
    if status.queue_place:
        yield "place", str(status.queue_place)
    if status.restarts:
        yield "restart", f"{status.restarts}/{status.max_restarts}"
    if status.state.is_live:
        yield "eta", fmt.duration(view.seconds_left)


def _evaluated(view: RunView) -> Iterator[tuple[str, str]]:
    """What the last evaluation found, with its step."""
    if view.last_eval is not None:
        for name, value in view.last_eval.metrics.items():
            if name in _EVALUATED:
                yield _EVALUATED[name], f"{fmt.metric(value)}@{view.last_eval.step}"


def _remarks(view: RunView) -> Iterator[Part]:
    """Why it ended, and what went past it."""
    status = view.status
    if status.reason and status.state.is_over:
        why = ": ".join(filter(None, (status.reason, status.remedy)))
        yield safe_line(f" {why}"), "$error"
    if view.late:
        names = ", ".join(" ".join((command.name, *command.arguments)) for command in view.late)
        yield safe_line(f" came after the end and changed nothing: {names}"), "$warning"
    if view.num_torn:
        yield f" {view.num_torn} unreadable lines", "$warning"
