"""How the threads of torch behave on a CPU that others use too, a training run above all."""

from __future__ import annotations

import os


def wait_asleep() -> None:
    """Let threads that wait for each other sleep instead of spin; has to be called before torch is loaded.

    With more busy threads than cores, spinning threads keep the one they wait for from running: on two busy cores a
    small model answered ten times slower, for ten times the CPU time. What the user set stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def leave_cores_to_training() -> None:
    """Let torch use half the cores in this process; a run on the same machine needs the others."""
    import torch

    torch.set_num_threads(max(1, min(torch.get_num_threads(), (os.cpu_count() or 2) // 2)))
