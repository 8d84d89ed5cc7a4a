"""`tui-trainer runs diff|rename|rm`: compare runs, name them, remove them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from tui_trainer.cli.arguments import JsonOption, RunArgument
from tui_trainer.cli.output import can_ask, paper, print_json, talk
from tui_trainer.errors import ExitCode, RefusedError
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.store import find_run, rename_run, run_size
from tui_trainer.text import safe_line
from tui_trainer.units import size

VERSION = 1


def register(app: typer.Typer) -> None:
    """Add the commands to `runs`."""
    app.command("diff")(diff)
    app.command("rename")(rename)
    app.command("rm")(remove)


def diff(
    first: Annotated[str, typer.Argument(metavar="A", help="One run.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another.")],
    as_json: JsonOption = False,
) -> None:
    """Show in which settings two runs differ."""
    layouts = find_run(first), find_run(second)
    settings = [dict(_flatten(_read_config(layout))) for layout in layouts]
    keys = sorted(settings[0].keys() | settings[1].keys())
    changes = [(key, settings[0].get(key), settings[1].get(key)) for key in keys]
    changes = [change for change in changes if change[1] != change[2]]
    if as_json:
        differences = [{"key": key, "a": old, "b": new} for key, old, new in changes]
        print_json({"version": VERSION, "a": layouts[0].id, "b": layouts[1].id, "differences": differences})
        return
    if not changes:
        talk().print("no difference")
        return
    from rich.table import Table

    from tui_trainer.config.catalogue import shown

    table = Table(box=None, pad_edge=False)
    for heading in ("", *(layout.id for layout in layouts)):
        table.add_column(safe_line(heading), overflow="fold")
    for key, old, new in changes:
        table.add_row(safe_line(key), safe_line(shown(old)), safe_line(shown(new)))
    paper().print(table)


def _read_config(layout: RunLayout) -> Mapping[str, Any]:
    from tui_trainer.config.toml import read_document

    return read_document(layout.config).tree


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def rename(run: RunArgument, name: Annotated[str, typer.Argument(metavar="NAME", help="The new name.")]) -> None:
    """Give a run another name; its id stays."""
    layout = find_run(run)
    rename_run(layout, name)
    talk().print(f"{safe_line(layout.id)} is called {name}")


def remove(
    run: RunArgument,
    force: Annotated[bool, typer.Option("--force", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Remove a run with its checkpoints for good; refused while it goes on."""
    from tui_trainer.procs.removal import check_removable, remove_run

    layout = find_run(run)
    check_removable(layout)
    if not force and not _is_confirmed(layout, run_size(layout)):
        return int(ExitCode.INTERRUPTED)
    freed = remove_run(layout)
    if as_json:
        print_json({"version": VERSION, "run": layout.id, "freed_bytes": freed})
    else:
        talk().print(f"removed {safe_line(layout.id)}, {size(freed)} freed")
    return int(ExitCode.DONE)


def _is_confirmed(layout: RunLayout, freed: int) -> bool:
    if not can_ask():
        raise RefusedError(
            f"would remove {size(freed)} without asking", where=layout.id, remedy="Give --force to do so."
        )
    return typer.confirm(f"Remove {safe_line(layout.id)} with its checkpoints, {size(freed)}?", err=True)
