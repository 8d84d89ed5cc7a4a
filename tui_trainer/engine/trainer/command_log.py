"""The log of the commands that changed a run: written before they take effect, read when the run resumes.

A command that sets a field stands in `commands.jsonl`, forced to the disk, with the step after which it is carried out;
only then is it carried out. A run that is killed and goes on from an earlier checkpoint carries it out again at its own
step, so that it computes what it computed before. Commands that leave no trace in the weights (save, evaluate, pause)
are not in it. Used by `engine.trainer.steering` on all ranks; only rank 0 touches the file.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from tui_trainer.engine.trainer.group import Group
from tui_trainer.runs.control import Command
from tui_trainer.runs.files import number, whole_number
from tui_trainer.runs.journal import JournalWriter, read_lines
from tui_trainer.runs.layout import RunLayout

VERSION = 1


class CommandLog:
    """The commands of a run that are to survive a kill.

    Args:
        layout: the run.
        group: its ranks, which agree on what is in the log.
    """

    def __init__(self, layout: RunLayout, group: Group) -> None:
        self._layout = layout
        self._group = group
        self._due: dict[int, list[Command]] = {}
        self._done: tuple[int, list[str]] = (0, [])

    def begin(self, step: int, known: Collection[str] = ()) -> None:
        """Read what is to be carried out again; called by all ranks before the first step.

        Args:
            step: step of the checkpoint that the run goes on from, 0 for a start from nothing.
            known: ids of the commands carried out after this very step whose effect the checkpoint holds.
        """
        found = read_log(self._layout) if self._group.is_first else []
        self._due = {}
        for at, command in self._group.from_first(found):
            if at > step or (at == step and command.id not in known):
                self._due.setdefault(at, []).append(command)
        self._done = step, list(known)

    def due(self, step: int) -> list[Command]:
        """The commands to carry out again after `step`, oldest first; each is given once."""
        return self._due.pop(step, [])

    def record(self, command: Command, step: int) -> bool:
        """Write down that a command is about to be carried out after `step`; called by all ranks.

        Returns:
            Whether it stands on the disk. If not, it must not be carried out.
        """
        is_written = True
        if self._group.is_first:
            try:
                self._append(
                    {
                        "type": "command",
                        "id": command.id,
                        "step": step,
                        "command": command.name,
                        "arguments": command.arguments,
                        "by": command.by,
                        "sent": command.sent,
                    }
                )
            except OSError:
                is_written = False
        return bool(self._group.from_first(is_written))

    def carried_out(self, command: Command, step: int) -> None:
        """Note that a command has taken effect."""
        at, ids = self._done
        self._done = step, [*(ids if at == step else ()), command.id]

    def done_at(self, step: int) -> list[str]:
        """Ids of the commands carried out after `step`, whose effect a checkpoint saved now holds."""
        at, ids = self._done
        return ids if at == step else []

    def _append(self, fields: Mapping[str, Any]) -> None:
        with JournalWriter(self._layout.command_log) as journal:
            journal.append({"v": VERSION, **fields}, durable=True)


def forget_after(layout: RunLayout, step: int, known: Collection[str] = ()) -> None:
    """Note that the run goes back to a checkpoint: what was commanded after it belongs to the branch that is left.

    Args:
        layout: the run.
        step: step of the checkpoint.
        known: ids of the commands carried out after this very step whose effect the checkpoint holds.

    Raises:
        OSError: the log cannot be written.
    """
    if layout.command_log.exists():
        with JournalWriter(layout.command_log) as journal:
            journal.append({"v": VERSION, "type": "rewind", "step": step, "known": list(known)}, durable=True)


def read_log(layout: RunLayout) -> list[tuple[int, Command]]:
    """The commands of the branch that the run is on, each with the step after which it is carried out."""
    found: list[tuple[int, Command]] = []
    for entry in _entries(layout):
        step = whole_number(entry.get("step"))
        arguments = entry.get("arguments")
        if step is None:
            continue
        if entry.get("type") == "rewind":
            known = entry.get("known") or ()
            found = [(at, command) for at, command in found if at < step or (at == step and command.id in known)]
        elif isinstance(arguments, dict):
            name, by, identifier = (str(entry.get(key) or "") for key in ("command", "by", "id"))
            found.append((step, Command(name, arguments, by, number(entry.get("sent")) or 0.0, identifier)))
    return found


def _entries(layout: RunLayout) -> Iterator[Mapping[str, Any]]:
    """The lines that are whole; a torn one is a command that never took effect."""
    for line in read_lines(layout.command_log):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict):
            yield entry
