"""`tui-trainer presets`: the shipped configurations and the user's own, each with a reason beside its odd values."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tui_trainer.cli.arguments import JsonOption
from tui_trainer.cli.output import paper, print_json, print_text, talk
from tui_trainer.config.presets import copy_preset, find_preset, list_presets
from tui_trainer.text import safe_line

VERSION = 1
_MAX_WIDTHS = {"time": 14, "memory": 14}

app = typer.Typer(invoke_without_command=True)
PresetArgument = Annotated[str, typer.Argument(metavar="NAME", help="A name that `presets list` shows.")]


@app.callback()
def presets(context: typer.Context, as_json: JsonOption = False) -> None:
    """List, show and copy the shipped configurations."""
    if context.invoked_subcommand is None:
        list_all(as_json=as_json)


@app.command("list")
def list_all(as_json: JsonOption = False) -> None:
    """List all presets, with what each is for and what it needs."""
    found = list_presets()
    if as_json:
        documents = [asdict(preset) | {"path": str(preset.path)} for preset in found]
        print_json({"version": VERSION, "presets": documents})
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("preset", "what", "time", "memory"):
        table.add_column(heading, no_wrap=heading == "preset", max_width=_MAX_WIDTHS.get(heading))
    for preset in found:
        table.add_row(*map(safe_line, (preset.name, preset.title, preset.expected_time, preset.expected_memory)))
    paper().print(table)


@app.command()
def show(name: PresetArgument) -> None:
    """Print a preset as it stands in its file."""
    print_text(find_preset(name).text.rstrip("\n"))


@app.command()
def copy(
    name: PresetArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to put the copy; nothing is overwritten.")],
) -> None:
    """Copy a preset into a file of your own, to change it there."""
    copy_preset(name, file)
    copied = file / f"{name}.toml" if file.is_dir() else file
    talk().print(safe_line(f"`tui-trainer train {copied}` runs it"))
