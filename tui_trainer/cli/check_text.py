"""The findings of `check` as text for people."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from tui_trainer.cli.output import counted
from tui_trainer.cli.preview_text import severity_style, show_heading, show_verdict
from tui_trainer.errors import Problem, error_from_dict
from tui_trainer.text import safe_line
from tui_trainer.units import size


def show_findings(console: Console, findings: dict[str, Any]) -> None:
    """Print what `check` found out."""
    if findings["data"]:
        show_heading(console, findings["data"])
        show_verdict(console, findings["data"]["verdict"])
        console.print()
    for line in (_plan(findings["plan"]), _memory(findings["memory"]), _disk(findings["disk"])):
        if line:
            console.print(Text(line))
    for entry in findings["problems"]:
        console.print(Text(safe_line(f"{entry['severity']}: {Problem(**entry)}"), severity_style(entry)))
    for entry in findings["errors"]:
        console.print(Text(safe_line(f"error: {error_from_dict(entry)}"), "red"))
    is_wrong = findings["errors"] or any(entry["severity"] == "error" for entry in findings["problems"])
    is_blocked = bool(findings["data"] and findings["data"]["verdict"]["blocks_launch"])
    if findings["ok"]:
        console.print(Text("ready to train", "bold green"))
    elif findings["needs_yes"] and not is_wrong and not is_blocked:
        codes = ", ".join(findings["needs_yes"])
        console.print(Text(f"ready to train once you say yes to {codes}: `tui-trainer train --force`", "bold yellow"))
    else:
        console.print(Text("not ready to train", "bold red"))


def _plan(plan: dict[str, Any] | None) -> str:
    if not plan or plan["max_steps"] is None:
        return ""
    words = [
        f"{counted(plan['max_steps'], 'step')} of {counted(plan['effective_batch_size'], 'row')}",
        f"{plan['steps_per_epoch']:,} an epoch" if plan["steps_per_epoch"] and plan["num_train_rows"] else "",
        f"{plan['warmup_steps']:,} of warm-up" if plan["warmup_steps"] else "",
        counted(plan["num_checkpoints"], "checkpoint") if plan["num_checkpoints"] else "",
    ]
    return "plan: " + ", ".join(filter(None, words))


def _memory(memory: dict[str, Any] | None) -> str:
    if not memory:
        return ""
    where = "memory" if memory["on_cpu"] else "GPU memory"
    there = f" of {size(memory['available'])}" if memory["available"] is not None else ""
    return f"{where}: about {size(memory['total'])}{there} for a process"


def _disk(disk: dict[str, Any] | None) -> str:
    if not disk:
        return ""
    needed = f", {size(disk['needed'])} at a time" if disk["needed"] is not None else ""
    there = f", {size(disk['available'])} are free" if disk["available"] is not None else ""
    return f"disk: {size(disk['checkpoint'])} a checkpoint{needed}{there}"
