"""Asking for the yes that damaged data needs, once the trainer has refused it; used by `train` on a terminal."""

from __future__ import annotations

import typer

from tui_trainer.cli.output import can_ask, talk
from tui_trainer.runs.data_consent import DataConsent
from tui_trainer.runs.files import read_json
from tui_trainer.runs.layout import RunLayout
from tui_trainer.text import safe_line


def ask_for_data(layout: RunLayout) -> bool:
    """Ask whether a run that was refused trains on its data all the same, and put a yes into its directory.

    Returns:
        Whether it may; False where nobody can be asked, or where it was refused for something else.
    """
    verdict = (read_json(layout.data) or {}).get("verdict")
    if not isinstance(verdict, dict) or not can_ask():
        return False
    given = DataConsent.read(layout)
    missing = given.missing(verdict.get("needs_yes") or [])
    if not missing:
        return False
    for problem in verdict["problems"]:
        if problem["code"] in missing:
            talk().print(safe_line(f"{problem['message']}. {problem['remedy']}"), style="yellow")
    if not typer.confirm("Train on it all the same?", err=True):
        return False
    DataConsent(given.codes.union(missing), by="terminal").write(layout)
    return True
