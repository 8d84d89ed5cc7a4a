"""`tui-trainer trust`: agree to the Python code of a model's repository, or take that back."""

from __future__ import annotations

from typing import Annotated

import typer

from tui_trainer.cli.output import can_ask, talk
from tui_trainer.text import safe_line


def trust(
    repository: Annotated[str, typer.Argument(metavar="REPOSITORY", help="A hub id, or the folder of a model.")],
    revoke: Annotated[bool, typer.Option("--revoke", help="Take it back.")] = False,
) -> None:
    """Agree that the Python code of a model's repository runs on this machine.

    It holds for the revision that is loaded next; other code is asked for anew. The code runs only where
    model.trust_remote_code is true.
    """
    from tui_trainer import consent

    name = safe_line(consent.repository_of(repository))
    if revoke:
        was_allowed = consent.revoke(repository)
        talk().print(f"the code of {name} " + ("is no longer agreed to" if was_allowed else "was not agreed to"))
        return
    consent.allow(repository)
    talk().print(f"the code of {name} may run, at the revision that is loaded next")


def ask_for_code(repository: str) -> bool:
    """Ask whether the code of a repository may run, unless somebody agreed before; remembers a yes.

    Returns:
        Whether it may; False where nobody can be asked.
    """
    from tui_trainer import consent

    if consent.is_allowed(repository):
        return True
    name = safe_line(consent.repository_of(repository))
    if not can_ask() or not typer.confirm(
        f"The model {name} runs Python code of its repository, with all your rights. Do you trust it?", err=True
    ):
        return False
    consent.allow(repository)
    return True
