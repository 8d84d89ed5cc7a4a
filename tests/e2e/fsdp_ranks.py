"""A rank that trains runs under FSDP without a GPU: `python -m tests.e2e.fsdp_ranks STORE RUN_DIRECTORY…`.

The library spreads weights over GPUs only; here it is told that this rank's device is one, and talks through gloo. The
runs follow one another in one process; each later one begins with the checkpoint of step 3 of the one before.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType

from tui_trainer.config.launch import launch_command
from tui_trainer.engine import train
from tui_trainer.runs.layout import RunLayout


def _prepare_backend(*_: Any, **__: Any) -> tuple[str, DistributedType]:
    """What accelerate is to think of this rank."""
    return "gloo", DistributedType.MULTI_GPU


def _set_device(state: Any) -> None:
    state.device = torch.device("cpu")


def main(store: str, *directories: str) -> int:
    """Train the runs; returns the exit code of the first that fails."""
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    PartialState._prepare_backend, PartialState.set_device = _prepare_backend, _set_device
    layouts = [RunLayout(Path(directory)) for directory in directories]
    for number, layout in enumerate(layouts):
        AcceleratorState._reset_state(True)
        torch.distributed.init_process_group("gloo", init_method=f"file://{store}{number}", rank=rank, world_size=size)
        if number and rank == 0:
            shutil.copytree(layouts[number - 1].checkpoint(3), layout.checkpoint(3))
        torch.distributed.barrier()
        config = train.read_config(layout)
        told = launch_command(
            config.model_copy(update={"training": config.training.model_copy(update={"use_cpu": False})}),
            layout.root,
            num_gpus=size,
            num_cpus=1,
        )
        os.environ.update(told.env)
        if code := train.main([str(layout.root)]):
            return code
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
