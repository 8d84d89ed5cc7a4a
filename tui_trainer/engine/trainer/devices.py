"""Whether torch finds the GPUs that the launcher counted. Called by `engine.trainer.run` before the ranks meet.

The launcher counts with `nvidia-smi`, which does not know what torch was built for. Where torch finds no GPU accelerate
would compute on the CPU without a word, and each of several ranks would hold itself for the only one.
"""

from __future__ import annotations

import os

import torch

from tui_trainer.config.schema import RunConfig
from tui_trainer.errors import MachineError


def check_devices(config: RunConfig) -> None:
    """See that this rank has the GPU that it was started for.

    Raises:
        MachineError: torch finds no GPU, or fewer than there are ranks on this machine.
    """
    if config.training.use_cpu or not _is_launched_for_gpus():
        return
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if count == 0:
        raise MachineError(
            f"the run was started for GPUs, and torch {torch.__version__} finds none: {_why()}",
            remedy="Install the torch build for this driver, or set training.use_cpu = true.",
        )
    if here > count:
        raise MachineError(
            f"{here} processes were started on this machine, and torch finds {count} GPUs",
            remedy="Lower launch.num_processes; CUDA_VISIBLE_DEVICES, also in launch.env, says which GPUs are seen.",
        )


def _is_launched_for_gpus() -> bool:
    """Whether `accelerate launch` was told to use GPUs; a trainer started by hand takes what there is."""
    if "ACCELERATE_MIXED_PRECISION" not in os.environ:
        return False
    return os.environ.get("ACCELERATE_USE_CPU", "").lower() not in ("true", "1", "yes")


def _why() -> str:
    if torch.version.cuda is None and torch.version.hip is None:
        return "it is the build without GPU support"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None:
        return f"CUDA_VISIBLE_DEVICES is {hidden!r}"
    return f"the driver may be too old for CUDA {torch.version.cuda}"
