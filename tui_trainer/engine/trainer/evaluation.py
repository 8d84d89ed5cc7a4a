"""How a run measures itself without changing itself: which rank looks at which rows, random numbers kept as they were.

Called by `engine.trainer.trainer` at each evaluation.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from tui_trainer.engine.trainer.group import Group


@contextmanager
def untouched_randomness(device: torch.device) -> Iterator[None]:
    """Give all random number generators the state back that they had before, so that measuring changes no training.

    Args:
        device: where this rank computes; the generators of other ranks' GPUs are not touched, which would take memory
            on each of them.
    """
    python, array = random.getstate(), np.random.get_state()
    with torch.random.fork_rng([] if device.type == "cpu" else [device]):
        yield
    random.setstate(python)
    np.random.set_state(array)


def eval_batches(num_rows: int, batch_size: int, group: Group) -> tuple[list[list[int]], int]:
    """The rows that one rank evaluates, batch by batch.

    Every rank gets the same number of batches, since sharded models need all ranks in every forward pass. Where the
    batches do not come out even, the ranks without one repeat another's last.

    Returns:
        The batches, and how many of them count; the rest, at most one, is repeated.
    """
    batches = [list(range(start, min(start + batch_size, num_rows))) for start in range(0, num_rows, batch_size)]
    own = batches[group.rank :: group.size]
    num_rounds = -(-len(batches) // group.size)
    return own + batches[-1:] * (num_rounds - len(own)), len(own)
