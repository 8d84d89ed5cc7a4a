"""What is known of the machine and the data when a configuration is checked, and how rules word a problem."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tui_trainer.config.schema import RunConfig
from tui_trainer.config.shape import ModelShape
from tui_trainer.errors import Problem


@dataclass(frozen=True)
class Facts:
    """What is known; None where it is not, and then nothing is said about it.

    Attributes:
        num_gpus: usable GPUs of this machine.
        gpu_indices: their numbers, as `nvidia-smi` counts and `launch.gpu_ids` means them; empty if not known.
        gpu_memory_bytes: memory of each of them.
        has_bf16: whether its GPUs compute in bfloat16.
        num_cpus: usable cores.
        memory_bytes: main memory that is free.
        free_disk_bytes: free space where runs are kept.
        num_train_rows: prepared rows to train on.
        longest: tokens of the longest of them.
        model_shape: sizes of the model.
        packages: those of `config.packages.OPTIONAL` that are installed.
    """

    num_gpus: int | None = None
    gpu_indices: tuple[int, ...] = ()
    gpu_memory_bytes: tuple[int, ...] = ()
    has_bf16: bool | None = None
    num_cpus: int | None = None
    memory_bytes: int | None = None
    free_disk_bytes: int | None = None
    num_train_rows: int | None = None
    longest: int | None = None
    model_shape: ModelShape | None = None
    packages: frozenset[str] | None = None

    def is_without_gpu(self, config: RunConfig) -> bool:
        """Whether the run will find no GPU on this machine, or is not to use one."""
        return config.training.use_cpu or (self.num_gpus == 0 and config.launch.backend == "local")


Rule = Callable[[RunConfig, Facts], Iterator[Problem]]


def error(key: str, message: str, remedy: str, *keys: str) -> Problem:
    """A problem that forbids a launch; `keys` are what mends it besides `key`."""
    return Problem(key, message, remedy, keys=(key, *keys))


def warning(key: str, message: str, remedy: str, *keys: str) -> Problem:
    """A problem that does not forbid a launch."""
    return Problem(key, message, remedy, severity="warning", keys=(key, *keys))
