"""`tui-trainer runs clone`: the configuration of a run as a file to change and start again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tui_trainer.cli.arguments import JsonOption, RunArgument, SetOption
from tui_trainer.cli.output import print_json, print_text, talk
from tui_trainer.runs.store import find_run
from tui_trainer.text import safe_line

VERSION = 1


def register(app: typer.Typer) -> None:
    """Add the command to `runs`."""
    app.command("clone")(clone)


def clone(
    run: RunArgument,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Where to write it, instead of stdout; never over a file."),
    ] = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the configuration of a run, without defaults, to start another run with."""
    import tomllib

    from tui_trainer.config.cloning import clone as clone_config
    from tui_trainer.config.toml import write_new
    from tui_trainer.procs.orders import started_in

    layout = find_run(run)
    draft = clone_config(layout.config, assignments or (), started_in=started_in(layout), here=Path.cwd())
    text = f"# The configuration of the run {safe_line(layout.id)}\n\n{draft.to_toml()}"
    if out is not None:
        write_new(out, text)
        talk().print(safe_line(f"`tui-trainer train {out}` runs it"))
    if as_json:
        file = None if out is None else str(out)
        print_json({"version": VERSION, "run": layout.id, "file": file, "config": tomllib.loads(text), "toml": text})
    elif out is None:
        print_text(text.rstrip("\n"))
