"""`tui-trainer runs queue [list|add|rm|move]`: the runs that wait on this machine for free GPUs or cores."""

from __future__ import annotations

from typing import Annotated

import typer

from tui_trainer.cli.arguments import JsonOption, RunArgument
from tui_trainer.cli.names import SENDER
from tui_trainer.cli.output import paper, print_json, talk
from tui_trainer.errors import RefusedError
from tui_trainer.procs.queue import Entry, Queue
from tui_trainer.runs.status import State, read_status
from tui_trainer.runs.store import find_run
from tui_trainer.text import safe_line

VERSION = 1
_CANCEL_SECONDS = 10.0

app = typer.Typer(invoke_without_command=True)


def register(parent: typer.Typer) -> None:
    """Add the commands to `runs`."""
    parent.add_typer(app, name="queue")


@app.callback()
def queue(context: typer.Context, as_json: JsonOption = False) -> None:
    """Runs that wait for free GPUs or cores: list, add, remove, move."""
    if context.invoked_subcommand is None:
        list_queue(as_json=as_json)


@app.command("list")
def list_queue(as_json: JsonOption = False) -> None:
    """List what is at work on this machine and what waits, the next one first."""
    entries = Queue().entries()
    if as_json:
        print_json({"version": VERSION, "runs": [_document(entry, entries) for entry in entries]})
    elif entries:
        _print_table(entries)
    else:
        talk().print("No run is at work on this machine, and none waits.")


def _place(entry: Entry, entries: list[Entry]) -> int:
    """Place among those that wait, from 1; 0 for one that is at work."""
    return [other.run for other in entries if other.is_waiting].index(entry.run) + 1 if entry.is_waiting else 0


def _document(entry: Entry, entries: list[Entry]) -> dict[str, object]:
    status = read_status(entry.layout)
    return {
        "id": entry.layout.id,
        "path": entry.run,
        "state": status.state.value,
        "place": _place(entry, entries),
        "num_gpus": entry.num_gpus,
        "num_cpus": entry.num_cpus,
        "gpu_ids": list(entry.gpu_ids),
        "message": status.message,
    }


def _print_table(entries: list[Entry]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("place", "run", "state", "needs", ""):
        table.add_column(heading, no_wrap=heading != "", overflow="fold")
    for entry in entries:
        status = read_status(entry.layout)
        place = str(_place(entry, entries) or "–")
        table.add_row(*map(safe_line, (place, entry.layout.id, status.state.value, _needs(entry), status.message)))
    paper().print(table)


def _needs(entry: Entry) -> str:
    if entry.gpu_ids:
        return f"GPU {', '.join(map(str, entry.gpu_ids))}"
    count, what = (entry.num_gpus, "GPU") if entry.num_gpus else (entry.num_cpus, "core")
    return f"{count} {what}{'s' if count != 1 else ''}" if count else "nothing here"


@app.command()
def add(run: RunArgument, as_json: JsonOption = False) -> None:
    """Let a run that is over, or was lost, wait for its turn to go on from its last checkpoint."""
    from tui_trainer.procs.spawn import start_existing

    layout = find_run(run)
    start_existing(layout, queued=True)
    if as_json:
        print_json({"version": VERSION, "run": layout.id})
    else:
        talk().print(f"{safe_line(layout.id)} waits in the queue")


@app.command("rm")
def remove(run: RunArgument, as_json: JsonOption = False) -> None:
    """Take a waiting run out of the queue; it can be queued again."""
    from tui_trainer.procs.stop import request_stop, wait_until_over

    layout = find_run(run)
    if read_status(layout).state is not State.QUEUED or not request_stop(layout, by=SENDER):
        raise RefusedError("the run does not wait in the queue", where=layout.id)
    wait_until_over(layout, _CANCEL_SECONDS)
    status = read_status(layout)
    if as_json:
        print_json({"version": VERSION, "run": layout.id, **status.to_dict()})
    else:
        talk().print(f"{safe_line(layout.id)} is {status.state.value} ({status.reason})")


@app.command()
def move(
    run: RunArgument,
    place: Annotated[int, typer.Argument(metavar="PLACE", min=1, help="Its new place; 1 is the next to start.")],
    as_json: JsonOption = False,
) -> None:
    """Put a waiting run at another place in the queue."""
    layout = find_run(run)
    got = Queue().move(layout, place)
    if as_json:
        print_json({"version": VERSION, "run": layout.id, "place": got})
    else:
        talk().print(f"{safe_line(layout.id)} has place {got}")
