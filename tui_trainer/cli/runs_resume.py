"""`tui-trainer runs resume`: let a run go on in its own directory, from its newest checkpoint or an older one."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from tui_trainer.cli.arguments import ForceOption, JsonOption, SetOption
from tui_trainer.cli.output import paper, print_json, talk
from tui_trainer.errors import ExitCode


def register(app: typer.Typer) -> None:
    """Add the command to `runs`."""
    app.command("resume")(resume)


def resume(
    reference: Annotated[
        str,
        typer.Argument(metavar="RUN[@STEP]", help="The run; @STEP or @best goes back to that checkpoint."),
    ],
    assignments: SetOption = None,
    force: ForceOption = False,
    detach: Annotated[bool, typer.Option("--detach", help="Start it and leave it to itself.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what it would do, start nothing.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Let a run go on where it was, or from an older checkpoint; later ones stay on the disk, superseded."""
    from tui_trainer.cli.interrupts import Interrupts
    from tui_trainer.cli.resume_text import show_plan
    from tui_trainer.cli.train import check_machine, leave, stay
    from tui_trainer.procs.resume import check_plan, config_for, find_target, plan_for, resume_run

    target = find_target(reference)
    resolved = check_machine(config_for(target, assignments or ()))
    plan = plan_for(target, resolved, is_new_run=False)
    if dry_run:
        print_json(plan.to_dict()) if as_json else show_plan(paper(), plan)
        return int(ExitCode.DONE)
    show_plan(talk(), plan)
    check_plan(plan, is_forced=force)
    with Interrupts() as interrupts:
        layout = resume_run(target, resolved, argv=sys.argv, is_forced=force)
        if detach:
            return leave(layout, as_json=as_json)
        return stay(layout, interrupts, as_json=as_json)
