"""Where the ranks of several machines write their checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tui_trainer.config.schema import RunConfig
from tui_trainer.engine.trainer.common_disk import common_layout
from tui_trainer.engine.trainer.group import Group
from tui_trainer.errors import MachineError
from tui_trainer.runs.layout import RunLayout

TWO = {"num_machines": 2, "num_processes": 2}
PIECES = {"fsdp": True, "fsdp_config": {"fsdp_state_dict_type": "SHARDED_STATE_DICT"}}


class SecondMachine(Group):
    """Rank 1 of two, which hears from rank 0 where its run directory is."""

    first = Path()

    def from_first(self, value: Any) -> Any:
        return str(self.first)

    def all_true(self, value: bool) -> bool:
        return value


@pytest.fixture
def group(tmp_path: Path) -> SecondMachine:
    group = SecondMachine(1, 2, torch.device("cpu"))
    SecondMachine.first = tmp_path / "first"
    return group


def config(training: dict[str, Any], **launch: Any) -> RunConfig:
    return RunConfig.model_validate({"training": training, "launch": launch})


def test_all_ranks_write_into_the_directory_of_rank_0(group: SecondMachine, tmp_path: Path) -> None:
    own = RunLayout(tmp_path / "second")
    group.first.mkdir()
    (group.first / "config.toml").touch()
    assert common_layout(own, config(PIECES, **TWO), group).root == group.first
    assert common_layout(own, config(PIECES, num_processes=2), group) is own


@pytest.mark.parametrize("training", [PIECES, {"deepspeed": {"zero_optimization": {"stage": 2}}}])
def test_pieces_on_different_disks_are_no_checkpoint(
    group: SecondMachine, tmp_path: Path, training: dict[str, Any]
) -> None:
    own = RunLayout(tmp_path / "second")
    with pytest.raises(MachineError, match="its own piece of every checkpoint"):
        common_layout(own, config(training, **TWO), group)
    assert common_layout(own, config({"fsdp": True}, **TWO), group) is own
