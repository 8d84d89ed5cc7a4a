"""What a checkpoint holds of its run beside weights, optimiser and random numbers: `run_state.json` in its folder.

Written by the trainer, read by the trainer that goes on from it and by whoever plans that. It is part of the manifest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tui_trainer.runs.files import read_json, write_json

NAME = "run_state.json"
VERSION = 1


@dataclass(frozen=True)
class CheckpointState:
    """Where a run stood when its checkpoint was written.

    Attributes:
        settings: the fields that commands had set, with their values.
        commands: ids of the commands carried out after the checkpoint's very step whose effect it holds.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    commands: tuple[str, ...] = ()

    def write(self, checkpoint: Path) -> None:
        """Put the state into the folder of a checkpoint.

        Raises:
            OSError: the disk is full.
        """
        write_json(checkpoint / NAME, {"version": VERSION, **asdict(self)})

    @classmethod
    def read(cls, checkpoint: Path) -> CheckpointState:
        """The state in the folder of a checkpoint; what is missing there is empty."""
        data = read_json(checkpoint / NAME) or {}
        settings, commands = data.get("settings"), data.get("commands")
        return cls(
            settings=settings if isinstance(settings, dict) else {},
            commands=tuple(map(str, commands)) if isinstance(commands, list) else (),
        )
