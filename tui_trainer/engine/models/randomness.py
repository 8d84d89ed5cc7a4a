"""Random weights that depend on a seed alone, made without touching anyone else's random numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, torch's random numbers on the CPU begin with `seed`; after it they go on as if nothing had been drawn.

    New weights are made on the CPU; the generators of the GPUs are neither read nor set.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
