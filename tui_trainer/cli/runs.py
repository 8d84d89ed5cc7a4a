"""`tui-trainer runs`: look at the runs of the store. Steering and keeping them are in `runs_steer` and `runs_keep`."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Annotated, Any

import typer

from tui_trainer.cli import runs_clone, runs_keep, runs_queue, runs_resume, runs_steer
from tui_trainer.cli.arguments import JsonOption, RunArgument
from tui_trainer.cli.output import paper, print_json, print_text, talk
from tui_trainer.paths import runs_dir
from tui_trainer.runs.journal import Tailer
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.status import State, may_live_afar, observed_statuses, read_status
from tui_trainer.runs.store import (
    CheckpointInfo,
    RunRecord,
    best_step,
    find_run,
    hidden_runs,
    list_checkpoints,
    list_runs,
    read_run,
)
from tui_trainer.text import safe_line

VERSION = 1
_FOLLOW_SECONDS = 0.3
_WIDE = 110
"""Columns from which on the table of runs shows everything."""

app = typer.Typer(invoke_without_command=True)


@app.callback()
def runs(context: typer.Context, as_json: JsonOption = False) -> None:
    """List, watch, steer, compare and remove runs."""
    if context.invoked_subcommand is None:
        list_all(as_json=as_json)


@app.command("list")
def list_all(as_json: JsonOption = False) -> None:
    """List all runs of the store, the newest first."""
    records, hidden = _watched(list_runs()), hidden_runs()
    if as_json:
        print_json({"version": VERSION, "store": str(runs_dir()), "runs": [_document(record) for record in records]})
    elif records:
        _print_table(records)
    elif not hidden:
        talk().print(f"No runs in {runs_dir()}. `tui-trainer demo` makes one.")
    for words in hidden:
        talk().print(safe_line(words), style="yellow")


def _watched(records: list[RunRecord]) -> list[RunRecord]:
    """The runs; those that look lost by the clock of another machine are watched for some seconds."""
    doubtful = [record.layout for record in records if may_live_afar(record.status)]
    found = dict(zip(doubtful, observed_statuses(doubtful), strict=True))
    return [replace(record, status=found.get(record.layout, record.status)) for record in records]


def _document(record: RunRecord) -> dict[str, Any]:
    status = record.status.to_dict()
    del status["version"]
    about = {"name": record.name, "created": record.created, "path": str(record.layout.root)}
    return {"id": record.id, **about, **status}


def _print_table(records: list[RunRecord]) -> None:
    """The runs as a table; on a narrow terminal what they are made of is left out, never a part of an id."""
    from rich.table import Table

    from tui_trainer.tui import format as fmt
    from tui_trainer.tui.run_summary import summarise

    console = paper()
    is_wide = console.width >= _WIDE
    table = Table(box=None, pad_edge=False)
    for heading in ("", "run", "state", "step", "loss", "started"):
        table.add_column(heading, no_wrap=True, overflow="ignore" if heading == "run" else "ellipsis")
    for heading in ("eval", "model", "data") if is_wide else ():
        table.add_column(heading, no_wrap=True, overflow="ellipsis")
    for record in records:
        summary, status = summarise(record), record.status
        reason = f" ({status.reason})" if status.state is State.FAILED and status.reason else ""
        cells = [
            fmt.STATE_GLYPHS[status.state],
            _called(record),
            status.state.value + (f" {status.queue_place}" if status.queue_place else reason),
            f"{summary.step}/{'–' if summary.max_steps is None else summary.max_steps}",
            fmt.metric(summary.loss),
            fmt.ago(record.created),
        ]
        if is_wide:
            cells += [fmt.metric(summary.eval_loss), summary.model, summary.data]
        table.add_row(*map(safe_line, cells))
    console.print(table)


def _called(record: RunRecord) -> str:
    """The id, and the name where the run was given another one."""
    return record.id if record.id.startswith(record.name) else f"{record.id} ({record.name})"


@app.command()
def show(
    run: RunArgument,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every checkpoint and compare it with its digests.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show where a run stands, where it came from, and its checkpoints."""
    layout = find_run(run)
    (record,) = _watched([read_run(layout)])
    checkpoints = [_checkpoint(layout, info, is_deep=verify) for info in list_checkpoints(layout)]
    if as_json:
        print_json(
            {
                "version": VERSION,
                "path": str(layout.root),
                "run": dict(record.info),
                "status": record.status.to_dict(),
                "checkpoints": checkpoints,
            }
        )
    else:
        _print_run(record, checkpoints)


def _checkpoint(layout: RunLayout, info: CheckpointInfo, *, is_deep: bool) -> dict[str, Any]:
    """A checkpoint as a JSON object; it is verified by the sizes of its files, or by their digests too."""
    from tui_trainer.engine.trainer.manifest import verify_checkpoint

    return {
        "step": info.step,
        "path": str(info.path),
        "bytes": info.bytes,
        "verified": not verify_checkpoint(info.path, deep=is_deep),
        "is_best": info.step == best_step(layout),
    }


def _print_run(record: RunRecord, checkpoints: list[dict[str, Any]]) -> None:
    from rich.table import Table

    from tui_trainer.tui import format as fmt
    from tui_trainer.tui.run_summary import summarise

    status, summary, versions = record.status, summarise(record), record.info.get("versions")
    facts = {
        "run": record.id,
        "name": record.name if record.name != record.id else "",
        "state": f"{fmt.STATE_GLYPHS[status.state]} {status.state.value}",
        "reason": f"{status.reason}: {status.message}".strip(": "),
        "remedy": status.remedy,
        "restarts": f"{status.restarts} of {status.max_restarts}" if status.max_restarts else "",
        "step": f"{status.step} of {'?' if status.max_steps is None else status.max_steps}",
        "loss": f"{fmt.metric(summary.loss)}, evaluation {fmt.metric(summary.eval_loss)}",
        "model": f"{summary.model} ({summary.method})",
        "data": summary.data,
        "started": fmt.ago(record.created),
        "parent": str(record.info.get("parent") or ""),
        "git commit": str(record.info.get("git_commit") or ""),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items())
        if isinstance(versions, dict)
        else "",
        "path": str(record.layout.root),
    }
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if value:
            table.add_row(name, safe_line(value))
    for checkpoint in checkpoints:
        words = ["best"] * checkpoint["is_best"] + ["damaged"] * (not checkpoint["verified"])
        table.add_row(
            "checkpoint", f"step {checkpoint['step']}, {fmt.size(checkpoint['bytes'])} {' '.join(words)}".rstrip()
        )
    paper().print(table)


@app.command()
def watch(run: RunArgument, as_json: JsonOption = False) -> int:
    """Follow a run to its end; ctrl+c leaves it running."""
    from tui_trainer.cli.follow import Follower, tell_end
    from tui_trainer.procs.spawn import adopt

    layout = find_run(run)
    adopt(layout)
    with Follower(layout, as_json=as_json) as follower:
        while not follower.has_ended:
            follower.advance()
    return tell_end(layout)


@app.command()
def log(
    run: RunArgument,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many lines of the end; 0 for all.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is written from now on.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what the processes of a run wrote."""
    layout = find_run(run)
    tailer = Tailer(layout.train_log)
    for text in _last_lines(tailer, lines):
        _print_log_line(text, as_json=as_json)
    while follow and not _has_ended(layout, tailer):
        for line in tailer.read():
            _print_log_line(line, as_json=as_json)
        time.sleep(_FOLLOW_SECONDS)


def _last_lines(tailer: Tailer, count: int) -> list[bytes]:
    from collections import deque

    kept: deque[bytes] = deque(maxlen=count or None)
    while chunk := tailer.read():
        kept.extend(chunk)
    return list(kept)


def _has_ended(layout: RunLayout, tailer: Tailer) -> bool:
    return not read_status(layout).state.is_live and not tailer.has_more()


def _print_log_line(line: bytes, *, as_json: bool) -> None:
    # a progress bar redraws its line with carriage returns: what it showed last is what counts
    text = line.decode("utf-8", "replace").rstrip("\r").rpartition("\r")[2]
    if as_json:
        print_json({"text": text})
    else:
        print_text(text)


runs_steer.register(app)
runs_resume.register(app)
runs_clone.register(app)
runs_keep.register(app)
runs_queue.register(app)
