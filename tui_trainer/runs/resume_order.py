"""What the next start of a run is to do with its checkpoints: `resume.json`.

Written by whoever resumes a run, carried out by the trainer, so that a kill between the order and its end changes
nothing: the next start carries it out again. Going back to an older checkpoint deletes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from tui_trainer.runs.files import read_json, whole_number, write_json
from tui_trainer.runs.layout import RunLayout

VERSION = 1


@dataclass(frozen=True)
class ResumeOrder:
    """An order to go on from a checkpoint.

    Attributes:
        step: step of the checkpoint.
        is_forced: go on although model, data or order are not those of the checkpoint.
        is_done: the checkpoints after it are out of the way; what is forced stays so.
        parent: the run that the checkpoint was taken from, if it was another one.
    """

    step: int
    is_forced: bool = False
    is_done: bool = False
    parent: str = ""

    def write(self, layout: RunLayout) -> None:
        """Put the order into the run directory, for good.

        Raises:
            OSError: the directory cannot be written.
        """
        fields = {"step": self.step, "force": self.is_forced, "done": self.is_done, "parent": self.parent}
        write_json(layout.resume_order, {"version": VERSION, **fields}, durable=True)

    @classmethod
    def read(cls, layout: RunLayout) -> Self | None:
        """The order in the run directory, if there is one."""
        data = read_json(layout.resume_order) or {}
        step = whole_number(data.get("step"))
        if step is None:
            return None
        return cls(step, data.get("force") is True, data.get("done") is True, str(data.get("parent") or ""))
