"""What a checkpoint holds of its run beside weights, optimiser and random numbers: `run_state.json` in its folder.

Written by the trainer, read by the trainer that goes on from it and by whoever plans that. It is part of the manifest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tui_trainer.runs.files import number, read_json, whole_number, write_json

NAME = "run_state.json"
VERSION = 1


@dataclass(frozen=True)
class DataPosition:
    """How far a run is in its rows, and what their order follows from.

    Attributes:
        epoch: epochs gone through.
        num_done: rows of the present epoch that are trained on, on all ranks together.
        num_rows: rows of an epoch, packed rows where rows are packed; 0 for a stream.
        strategy: "random", "sequential" or "group_by_length".
        seed: start of the order of epoch 0; that of the next epoch begins one higher.
        group_size: rows of similar length that stand together; it stays what it was when the run began.
        stream: the position of streamed rows, as the stream tells it.
    """

    epoch: int = 0
    num_done: int = 0
    num_rows: int = 0
    strategy: str = "random"
    seed: int = 0
    group_size: int = 1
    stream: dict[str, Any] | None = None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> DataPosition:
        """The position as it stands in a file; what is missing or no number is 0."""
        stream = data.get("stream")
        return cls(
            epoch=whole_number(data.get("epoch")) or 0,
            num_done=whole_number(data.get("num_done")) or 0,
            num_rows=whole_number(data.get("num_rows")) or 0,
            strategy=str(data.get("strategy") or "random"),
            seed=whole_number(data.get("seed")) or 0,
            group_size=whole_number(data.get("group_size")) or 1,
            stream=stream if isinstance(stream, dict) else None,
        )


@dataclass(frozen=True)
class LossWindow:
    """What the next log entry and the mean loss at the end have to know of the steps before the checkpoint.

    Attributes:
        since: step of the last log entry.
        sums: each rank's sum of losses since then.
        total: sum of the losses logged before.
    """

    since: int = 0
    sums: tuple[float, ...] = ()
    total: float = 0.0

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LossWindow:
        """The window as it stands in a file."""
        sums = data.get("sums")
        return cls(
            since=whole_number(data.get("since")) or 0,
            sums=tuple(number(value) or 0.0 for value in sums) if isinstance(sums, list) else (),
            total=number(data.get("total")) or 0.0,
        )


@dataclass(frozen=True)
class CheckpointState:
    """Where a run stood when its checkpoint was written.

    Attributes:
        step: optimiser steps done.
        max_steps: steps of the whole run, as planned then.
        world_size: processes that trained together.
        fingerprint: of the tokenised rows.
        tokenizer: fingerprint of the tokenizer.
        config: the configuration of the run.
        learning_rate: the peak of the schedule, commands included.
        position: how far the run is in its rows; None where the library kept count itself.
        window: losses not logged yet.
        settings: the fields that commands had set, with their values.
        commands: ids of the commands carried out after the checkpoint's very step whose effect it holds.
    """

    step: int = 0
    max_steps: int = 0
    world_size: int = 1
    fingerprint: str = ""
    tokenizer: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    learning_rate: float | None = None
    position: DataPosition | None = None
    window: LossWindow | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    commands: tuple[str, ...] = ()

    def write(self, checkpoint: Path) -> None:
        """Put the state into the folder of a checkpoint.

        Raises:
            OSError: the disk is full.
        """
        write_json(checkpoint / NAME, {"version": VERSION, **asdict(self)})

    @classmethod
    def read(cls, checkpoint: Path) -> CheckpointState | None:
        """The state in the folder of a checkpoint; None if there is none, as in one that this program did not write."""
        data = read_json(checkpoint / NAME)
        if data is None:
            return None
        position, window, commands = data.get("position"), data.get("window"), data.get("commands")
        return cls(
            step=whole_number(data.get("step")) or 0,
            max_steps=whole_number(data.get("max_steps")) or 0,
            world_size=whole_number(data.get("world_size")) or 1,
            fingerprint=str(data.get("fingerprint") or ""),
            tokenizer=str(data.get("tokenizer") or ""),
            config=_mapping(data.get("config")),
            learning_rate=number(data.get("learning_rate")),
            position=DataPosition.from_dict(position) if isinstance(position, dict) else None,
            window=LossWindow.from_dict(window) if isinstance(window, dict) else None,
            settings=_mapping(data.get("settings")),
            commands=tuple(map(str, commands)) if isinstance(commands, list) else (),
        )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
