"""`tui-trainer import`: another tool's configuration as one of ours, with all that was not carried over."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tui_trainer.cli.arguments import JsonOption
from tui_trainer.cli.output import counted, print_json, print_text, talk
from tui_trainer.text import safe_line

VERSION = 1


def import_(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="YAML or JSON of LLaMA-Factory, axolotl, TRL or ms-swift.")
    ],
    tool: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="TOOL", help="llamafactory, axolotl, trl or swift, if it cannot be told from the file."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Where to write it, instead of stdout; never over a file."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Turn another tool's configuration into one of ours.

    What was not carried over, and why, is told on stderr and stands as comments in the file.
    """
    from tui_trainer.config.importing.importer import import_config, sentences
    from tui_trainer.config.toml import write_new

    imported = import_config(file.expanduser(), tool)
    if out is not None:
        write_new(out, imported.toml)
    if as_json:
        print_json({"version": VERSION, "file": None if out is None else str(out), **imported.to_dict()})
        return
    if out is None:
        print_text(imported.toml.rstrip("\n"))
    console = talk()
    keys = counted(imported.num_carried, "key")
    console.print(f"{imported.tool.title}: {keys} carried over", style="bold")
    for heading, lines in sentences(imported.remarks):
        console.print(f"{heading}:", style="yellow")
        for line in lines:
            console.print(f"  {line}")
    if imported.idle:
        console.print(safe_line(f"Not needed here: {', '.join(imported.idle)}"), style="dim")
    for problem in imported.problems:
        console.print(
            safe_line(f"{problem.severity}: {problem}"), style="red" if problem.severity == "error" else "yellow"
        )
    if out is not None:
        console.print(
            safe_line(f"`tui-trainer check {out}` looks at data and memory, `tui-trainer train {out}` runs it")
        )
