"""`tui-trainer runs set|save|eval|sample|pause|continue|stop`: commands to a run that goes on."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Annotated, Any

import typer

from tui_trainer.cli.arguments import JsonOption, RunArgument
from tui_trainer.cli.live import changes_text
from tui_trainer.cli.names import SENDER
from tui_trainer.cli.output import print_json, talk
from tui_trainer.errors import MachineError, RefusedError, UsageError
from tui_trainer.runs import control
from tui_trainer.runs.events import ControlApplied, decode
from tui_trainer.runs.journal import Tailer
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.status import read_status
from tui_trainer.runs.store import find_run
from tui_trainer.text import safe_line
from tui_trainer.units import size

VERSION = 1
_POLL_SECONDS = 0.1

WaitOption = Annotated[bool, typer.Option("--wait", help="Wait until the run has done it.")]


class Schedule(StrEnum):
    """What a new end does to the rest of the schedule."""

    STRETCH = "stretch"
    KEEP = "keep"


_HELP = {
    "save": "Save a checkpoint at the next step.",
    "eval": "Evaluate at the next step.",
    "sample": "Answer the fixed prompts at the next step.",
    "continue": "Go on after a pause.",
}


def register(app: typer.Typer) -> None:
    """Add the commands to `runs`."""
    app.command("set")(set_fields)
    app.command("pause")(pause)
    app.command("stop")(stop)
    for name, summary in _HELP.items():
        app.command(name, help=summary)(_simple(name))


def pause(
    run: RunArgument,
    offload: Annotated[
        bool, typer.Option("--offload", help="Move model and optimiser to main memory, so that the GPU is free.")
    ] = False,
    wait: WaitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Pause at the next step; without --offload the memory of the GPU stays in use."""
    _send(find_run(run), "pause", {"offload": True} if offload else {}, wait=wait, as_json=as_json)


def _simple(name: str) -> Any:
    def command(run: RunArgument, wait: WaitOption = False, as_json: JsonOption = False) -> None:
        _send(find_run(run), name, {}, wait=wait, as_json=as_json)

    return command


def set_fields(
    run: RunArgument,
    assignments: Annotated[
        list[str], typer.Argument(metavar="KEY=VALUE…", help="learning_rate=1e-4, learning_rate=x0.5, save_steps=50 …")
    ],
    schedule: Annotated[
        Schedule | None,
        typer.Option(
            "--schedule",
            help="With a new max_steps or num_train_epochs: stretch the rest of the schedule to the new end (as it is "
            "without this option), or keep its pace.",
        ),
    ] = None,
    wait: WaitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Change fields of a run while it goes on: learning_rate, max_steps, save_steps, weight_decay and others."""
    layout = find_run(run)
    _check_live(layout)
    fields = dict(map(_assignment, assignments)) | ({"schedule": schedule.value} if schedule else {})
    _send(layout, "set", fields, wait=wait, as_json=as_json)


def _assignment(text: str) -> tuple[str, Any]:
    from tui_trainer.tui.live_fields import parse_value

    name, separator, value = text.partition("=")
    if not separator or not name.strip() or not value.strip():
        raise UsageError(f"{text!r} is no assignment", remedy="Write key=value, as learning_rate=1e-4.")
    field = name.strip().removeprefix("training.")
    try:
        return field, parse_value(field, value.strip())
    except ValueError as error:
        raise UsageError(str(error), where=field) from None


def _check_live(layout: RunLayout) -> None:
    status = read_status(layout)
    if not status.state.is_live:
        raise RefusedError(f"the run is {status.state.value}, not going on", where=layout.id)


def _send(layout: RunLayout, name: str, arguments: dict[str, Any], *, wait: bool, as_json: bool) -> None:
    _check_live(layout)
    answers = Tailer(layout.events, tail_bytes=0)
    try:
        command = control.send(layout, name, arguments, by=SENDER)
    except OSError as error:
        raise MachineError(f"the command cannot be written: {error.strerror}", where=str(layout.control)) from None
    answer = _await_answer(layout, answers, command.id) if wait else None
    if as_json:
        acknowledged = answer.to_dict() if answer else None
        print_json({"version": VERSION, "run": layout.id, "command": name, "id": command.id, "answer": acknowledged})
    elif answer is None:
        talk().print(f"{name}: sent; the run answers at its next step, and --wait shows what")
    else:
        talk().print(safe_line(_done(answer)))


def _done(answer: ControlApplied) -> str:
    """What a run answered, in words: "set: done at step 120 after 0.2 s: learning_rate 2e-4 → 1e-4"."""
    after = f" after {answer.latency_seconds:.1f} s" if answer.latency_seconds is not None else ""
    changes = changes_text(answer)
    return f"{answer.command}: done at step {answer.step}{after}" + (f": {changes}" if changes else "")


def _await_answer(layout: RunLayout, answers: Tailer, identifier: str) -> ControlApplied:
    """Wait for the acknowledgement of a command.

    Raises:
        RefusedError: the trainer refused it, or the run ended first.
    """
    while True:
        is_live = read_status(layout).state.is_live
        for line in answers.read():
            event = decode(line)
            if isinstance(event, ControlApplied) and event.id == identifier:
                if event.error:
                    raise RefusedError(safe_line(event.error), where=layout.id)
                return event
        if not is_live:
            raise RefusedError("the run ended before it could do that", where=layout.id)
        time.sleep(_POLL_SECONDS)


def stop(
    run: RunArgument,
    wait: WaitOption = False,
    now: Annotated[bool, typer.Option("--now", help="Do not wait for it to save.")] = False,
    kill: Annotated[bool, typer.Option("--kill", help="Kill its processes at once, without asking.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Save and stop at the next step; what does not end within launch.grace_seconds is killed."""
    from tui_trainer.procs.stop import report, request_stop, wait_until_over

    layout = find_run(run)
    was_live = request_stop(layout, now=now, kill=kill, by=SENDER)
    if wait:
        wait_until_over(layout)
    standing = report(layout)
    status = standing.status
    if as_json:
        left = [
            {"pid": survivor.pid, "description": survivor.description, "gpu_memory_bytes": survivor.gpu_memory}
            for survivor in standing.survivors
        ]
        print_json({"version": VERSION, "run": layout.id, **status.to_dict(), "was_live": was_live, "processes": left})
        return
    if not was_live:
        talk().print(f"the run is {status.state.value} already")
    elif not wait:
        talk().print("asked to stop at once" if now or kill else "asked to save and stop")
    else:
        end = "" if standing.survivors else "; no process is left"
        talk().print(f"{status.state.value} at step {status.step}{end}")
        for survivor in standing.survivors:
            held = f", holds {size(survivor.gpu_memory)} of GPU memory" if survivor.gpu_memory else ""
            talk().print(f"still there: {survivor.pid} {safe_line(survivor.description)}{held}")
