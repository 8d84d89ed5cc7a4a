"""Which run directory the ranks of several machines write their checkpoints into. Called by `engine.trainer.run`.

Each machine was started with a run directory of its own, and that of machine 0 has the checkpoints. Every rank writes a
part of them, its random numbers at least, so all of them have to write there.
"""

from __future__ import annotations

from pathlib import Path

from tui_trainer.config.launch import saves_whole_weights
from tui_trainer.config.schema import RunConfig
from tui_trainer.engine.trainer.group import Group
from tui_trainer.errors import MachineError
from tui_trainer.runs.layout import RunLayout


def common_layout(layout: RunLayout, config: RunConfig, group: Group) -> RunLayout:
    """The run directory of rank 0 where all ranks see it, else this machine's own; called by all ranks.

    Raises:
        MachineError: the machines share no disk, and the checkpoints would need one.
    """
    if config.launch.num_machines == 1:
        return layout
    first = RunLayout(Path(group.from_first(str(layout.root))))
    if group.all_true(first.config.is_file()):
        return first
    if _is_in_pieces(config):
        raise MachineError(
            "the machines see no common run directory, and each would keep its own piece of every checkpoint",
            where=str(first.root),
            remedy="Set TUI_TRAINER_RUNS to a disk that all machines share, or use FSDP with "
            'training.fsdp_config = {state_dict_type = "FULL_STATE_DICT"}.',
        )
    return layout


def _is_in_pieces(config: RunConfig) -> bool:
    """Whether no rank writes a whole checkpoint."""
    return bool(config.training.deepspeed) or (bool(config.training.fsdp) and not saves_whole_weights(config.training))
