"""`tui-trainer doctor`: what this machine has for training, what it lacks, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from tui_trainer.cli.arguments import JsonOption
from tui_trainer.cli.output import paper, print_json
from tui_trainer.errors import ExitCode
from tui_trainer.text import safe_line
from tui_trainer.units import size

if TYPE_CHECKING:
    from tui_trainer.doctor import Examination

VERSION = 1


def doctor(as_json: JsonOption = False) -> int:
    """Show what this machine has and what it lacks."""
    from tui_trainer.doctor import examine

    found = examine()
    if as_json:
        print_json({"version": VERSION, "healthy": found.is_healthy, **asdict(found)})
    else:
        _print(found)
    return int(ExitCode.DONE if found.is_healthy else ExitCode.LACKING)


def _print(found: Examination) -> None:
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in _lines(found):
        table.add_row(name, safe_line(value))
    console = paper()
    console.print(table)
    for finding in found.findings:
        style = "red" if finding.severity == "error" else "yellow"
        console.print(f"\n{finding.severity}: {safe_line(finding.what)}", style=style)
        console.print(safe_line(finding.remedy))
    if not found.findings:
        console.print("\nAll is well.", style="green")


def _lines(found: Examination) -> Iterator[tuple[str, str]]:
    yield "python", f"{found.python['version']} ({found.python['executable']})"
    yield "packages", ", ".join(f"{name} {version}" for name, version in found.packages.items() if name != "python")
    for gpu in found.gpus:
        yield f"GPU {gpu['index']}", f"{gpu['name']}, {size(gpu['used_bytes'])} of {size(gpu['memory_bytes'])} in use"
    machine = found.machine
    yield "processor", f"{machine['cpus']} cores"
    yield "memory", f"{size(machine['available_bytes'])} of {size(machine['memory_bytes'])} free"
    for disk in found.disks:
        yield f"{disk['what']}", f"{size(disk['free_bytes'])} free, {disk['path']}"
    answer = "offline mode" if found.hub["offline_mode"] else "answers" if found.hub["reachable"] else "no answer"
    yield "hub", f"{found.hub['endpoint']}: {answer}"
    kills = {True: "kills processes at logout", False: "leaves processes alone", None: "not known"}
    yield "logout", kills[found.session["kills_user_processes"]]
    terminal = found.terminal
    yield (
        "terminal",
        f"{terminal['term'] or 'TERM unset'}, {terminal['columns']}x{terminal['lines']}, {terminal['encoding']}",
    )
