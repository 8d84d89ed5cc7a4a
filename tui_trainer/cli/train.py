"""`tui-trainer train`: start a run, and stay with it or not."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Annotated

import typer

from tui_trainer.cli.arguments import JsonOption, SetOption, TrainForceOption
from tui_trainer.cli.names import SENDER
from tui_trainer.cli.output import can_ask, paper, print_json, talk
from tui_trainer.errors import ConfigurationError, ExitCode, RefusedError
from tui_trainer.paths import runs_dir
from tui_trainer.text import safe, safe_line

if TYPE_CHECKING:
    from tui_trainer.cli.interrupts import Interrupts
    from tui_trainer.config.resolve import Resolved
    from tui_trainer.runs.layout import RunLayout

VERSION = 1


def train(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="A TOML file, or the name of a preset.")],
    assignments: SetOption = None,
    name: Annotated[str | None, typer.Option("--name", metavar="N", help="Name of the run.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Start it and leave it to itself.")] = False,
    queue: Annotated[
        bool,
        typer.Option("--queue", help="Let it wait until the GPUs or cores it needs are free, and leave it to itself."),
    ] = False,
    go_on: Annotated[
        bool,
        typer.Option(
            "--continue",
            help="If the newest run of this name was preempted, killed or lost, go on with it instead of starting a "
            "new one: for jobs that are started again.",
        ),
    ] = False,
    resume: Annotated[
        str | None,
        typer.Option("--resume", metavar="RUN[@STEP]", help="Begin with a checkpoint of that run."),
    ] = None,
    force: TrainForceOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be started, start nothing.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Train as a configuration or a preset says.

    The run has its own session: it survives the terminal. ctrl+c asks whether to leave it running or to stop and save.
    Data of which answers are lost, content is dropped or that differs from a chat is trained on after a yes only: on a
    terminal it is asked for, otherwise give --force.
    """
    resolved = _resolve(config, [*(assignments or ()), *([f"name={name}"] if name else ())])
    start = (
        _resuming(resolved, resume, force=force, dry_run=dry_run, as_json=as_json)
        if resume
        else _starting(is_forced=force)
    )
    if dry_run:
        if not (resume and as_json):
            _show_launch(resolved, as_json=as_json)
        return int(ExitCode.DONE)

    _check_consent(resolved)
    from tui_trainer.cli.interrupts import Interrupts
    from tui_trainer.procs.login import logout
    from tui_trainer.procs.spawn import start_existing

    interrupted = _interrupted_run(resolved.config.name) if go_on else None
    # an interruption while the processes start waits until it is known which run they are
    with Interrupts() as interrupts:
        if interrupted is None:
            layout = start(resolved, queue)
        else:
            layout = interrupted
            start_existing(layout, queued=queue)
        if warning := logout().warning:
            talk().print(f"warning: {warning}", style="yellow")
        if detach or queue:
            return leave(layout, as_json=as_json)
        return _stay_or_ask(layout, interrupts, as_json=as_json)


def _stay_or_ask(layout: RunLayout, interrupts: Interrupts, *, as_json: bool) -> int:
    """Show the run to its end; once more if its data needs a yes and gets it."""
    from tui_trainer.cli.data_consent import ask_for_data
    from tui_trainer.procs.spawn import start_existing

    try:
        return stay(layout, interrupts, as_json=as_json)
    except RefusedError:
        if as_json or not ask_for_data(layout):
            raise
    start_existing(layout)
    return stay(layout, interrupts, as_json=as_json)


def _starting(*, is_forced: bool) -> Callable[[Resolved, bool], RunLayout]:
    """What starts a run from its beginning."""
    from tui_trainer.procs.start import start_run
    from tui_trainer.runs.data_consent import DataConsent

    consent = DataConsent(is_blanket=True, by="--force") if is_forced else None
    return lambda resolved, queued: start_run(resolved, argv=sys.argv, queued=queued, consent=consent)


def _resuming(
    resolved: Resolved, reference: str, *, force: bool, dry_run: bool, as_json: bool
) -> Callable[[Resolved, bool], RunLayout]:
    """What starts a run that begins with a checkpoint of another, once its plan is shown and may be carried out."""
    from tui_trainer.cli.resume_text import show_plan
    from tui_trainer.procs.resume import check_plan, find_target, plan_for, resume_as_new_run

    target = find_target(reference)
    plan = plan_for(target, resolved, is_new_run=True)
    if dry_run:
        print_json(plan.to_dict()) if as_json else show_plan(paper(), plan)
    else:
        show_plan(talk(), plan)
        check_plan(plan, is_forced=force)
    return lambda resolved, queued: resume_as_new_run(target, resolved, argv=sys.argv, is_forced=force, queued=queued)


def _resolve(reference: str, assignments: list[str]) -> Resolved:
    """The configuration, checked against this machine; warnings are told, errors raised."""
    from tui_trainer.config.load import load_config

    return check_machine(load_config(reference, assignments))


def check_machine(resolved: Resolved) -> Resolved:
    """A configuration that fits this machine; warnings are told.

    Raises:
        ConfigurationError: it does not fit.
    """
    from tui_trainer.config.checks import check_config
    from tui_trainer.procs.facts import machine_facts

    problems = check_config(resolved.config, machine_facts())
    if any(problem.severity == "error" for problem in problems):
        raise ConfigurationError.of(problems)
    for problem in problems:
        talk().print(f"warning: {safe_line(str(problem))}", style="yellow")
    return resolved


def _check_consent(resolved: Resolved) -> None:
    """See that somebody agreed to the code of the model's repository, if the configuration wants it to run.

    Raises:
        RefusedError: nobody did.
    """
    from tui_trainer.cli.trust import ask_for_code

    model = resolved.config.model
    if model.trust_remote_code and model.name_or_path and not ask_for_code(model.name_or_path):
        raise RefusedError(
            "nobody agreed to run the Python code of the model's repository",
            where=model.name_or_path,
            remedy=f"Read it first. If you trust it: `tui-trainer trust {model.name_or_path}`.",
        )


def _interrupted_run(name: str) -> RunLayout | None:
    """The newest run of a name, if something outside put an end to it."""
    from tui_trainer.procs.preempt import PREEMPTED
    from tui_trainer.runs.status import State
    from tui_trainer.runs.store import list_runs

    newest = next((run for run in list_runs() if run.name == name), None)
    if newest is None:
        return None
    if newest.status.state is not State.LOST and newest.status.reason not in (PREEMPTED, "killed"):
        return None
    talk().print(f"going on with {safe_line(newest.id)}, as it was configured")
    return newest.layout


def _show_launch(resolved: Resolved, *, as_json: bool) -> None:
    """Print the command line, the files and the configuration of the run that would be started."""
    from tui_trainer.config.launch import launch_command
    from tui_trainer.config.toml import dump_toml
    from tui_trainer.procs.hardware import detect_gpus, usable_cpus

    directory = runs_dir() / f"{resolved.config.name}-…"
    command = launch_command(resolved.config, directory, num_gpus=len(detect_gpus()), num_cpus=usable_cpus())
    toml = dump_toml(resolved.config.model_dump(mode="json"))
    if as_json:
        print_json(
            {
                "version": VERSION,
                "run_directory": str(directory),
                "argv": list(command.argv),
                "env": dict(command.env),
                "files": {"config.toml": toml, **command.files},
            }
        )
        return
    env = [f"{key}={value}" for key, value in command.env.items()]
    sections = {"command": " ".join([*env, command.display]), "config.toml": toml, **command.files}
    for title, text in sections.items():
        typer.echo(f"# {title}\n{safe(text.strip())}\n")


def leave(layout: RunLayout, *, as_json: bool) -> int:
    """Tell which run was started, and how to come back to it."""
    if as_json:
        print_json({"run": layout.id, "path": str(layout.root)})
    else:
        typer.echo(layout.id)
        _tell_how_to_return(layout)
    return int(ExitCode.DONE)


def _tell_how_to_return(layout: RunLayout) -> None:
    from tui_trainer.runs.status import State, read_status

    does = "waits in the queue" if read_status(layout).state is State.QUEUED else "goes on"
    talk().print(
        f"{layout.id} {does}. `tui-trainer runs watch {layout.id}` shows it, "
        f"`tui-trainer runs stop {layout.id}` ends it."
    )


def stay(layout: RunLayout, interrupts: Interrupts, *, as_json: bool) -> int:
    """Show the run to its end, or until the user has had enough."""
    from tui_trainer.cli.follow import Follower, tell_end

    talk().print(f"{layout.id} in {safe_line(str(layout.root))}", style="dim")
    follower = Follower(layout, as_json=as_json)
    pressure = _Pressure.NONE
    while True:
        with follower:
            while not follower.has_ended and not interrupts.are_pending:
                follower.advance()
        if follower.has_ended:
            code = tell_end(layout)
            is_interrupted = pressure and code != ExitCode.PREEMPTED
            return int(ExitCode.INTERRUPTED) if is_interrupted else code
        interrupts.take()
        if interrupts.was_terminated:
            if pressure is _Pressure.NONE:
                pressure = _save_for_scheduler(layout)
            continue
        pressure = _press_harder(layout, pressure)
        if pressure is _Pressure.LEFT:
            return int(ExitCode.INTERRUPTED)


class _Pressure(IntEnum):
    """How often the user wanted the end, and how much."""

    NONE = 0
    SAVING = 1
    ENDING = 2
    LEFT = 3


def _save_for_scheduler(layout: RunLayout) -> _Pressure:
    """A scheduler takes the machine away: let the run save; further signals change nothing."""
    from tui_trainer.procs.preempt import PREEMPTION
    from tui_trainer.procs.stop import request_stop

    request_stop(layout, by=PREEMPTION)
    talk().print("signalled: saving and stopping")
    return _Pressure.SAVING


def _press_harder(layout: RunLayout, pressure: _Pressure) -> _Pressure:
    """What one more interruption means: stop and save; do not wait for the save; leave it to the supervisor."""
    from tui_trainer.procs.stop import request_stop

    if pressure is _Pressure.NONE:
        answer = _ask() if can_ask() else "s"
        if answer == "w":
            return pressure
        if answer == "s":
            request_stop(layout, by=SENDER)
            talk().print("saving and stopping; ctrl+c again does not wait for the save")
            return _Pressure.SAVING
    elif pressure is _Pressure.SAVING:
        request_stop(layout, now=True, by=SENDER)
        talk().print("ending its processes; ctrl+c again leaves that to the supervisor")
        return _Pressure.ENDING
    _tell_how_to_return(layout)
    return _Pressure.LEFT


def _ask() -> str:
    """Whether to leave the run running, to stop and save, or to go on watching; ctrl+c again leaves it running."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        while True:
            answer = typer.prompt("[l]eave it running, [s]top and save, go on [w]atching", default="l", err=True)
            if answer.strip().lower()[:1] in ("l", "s", "w"):
                return str(answer.strip().lower()[:1])
    except (KeyboardInterrupt, typer.Abort):
        return "l"
    finally:
        signal.signal(signal.SIGINT, before)
