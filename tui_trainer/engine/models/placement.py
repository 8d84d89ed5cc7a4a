"""Where a model is put and in which type: decided from the configuration, the GPUs and the free memory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig
from transformers.utils.import_utils import is_flash_attn_2_available

from tui_trainer.config.schema import RunConfig
from tui_trainer.errors import MachineError, UsageError
from tui_trainer.units import size

_CACHE_AND_CONTEXT_BYTES = 800 << 20
"""What a chat needs beside the weights: the GPU's context and the keys and values of a few thousand tokens."""
_SPARE = 1.3
"""A GPU that others use too is taken only with this much more free memory than needed."""


@dataclass(frozen=True)
class Placement:
    """Where and in which type a model for chat is loaded, and why."""

    device: torch.device
    dtype: torch.dtype
    reason: str


def training_dtype(config: RunConfig) -> torch.dtype:
    """Type of the weights during training.

    Full training keeps float32, since updates smaller than a bfloat16 step would be lost; frozen weights may be short.
    """
    if config.model.dtype != "auto":
        return torch_dtype(config.model.dtype)
    is_on_gpu = not config.training.use_cpu and torch.cuda.is_available()
    return torch.bfloat16 if config.lora is not None and is_on_gpu and computes_in_bf16() else torch.float32


def computes_in_bf16() -> bool:
    """Whether the current GPU has bfloat16 in hardware; before Ampere torch imitates it, many times slower."""
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def torch_dtype(name: str) -> torch.dtype:
    """The type of that name in torch.

    Raises:
        UsageError: there is no such type.
    """
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise UsageError(f"there is no type {name!r}", remedy="Types are auto, float32, bfloat16 and float16.")
    return dtype


def attention_for_training(config: RunConfig, model_class: Any, dtype: torch.dtype) -> str:
    """How attention is computed in a run: as the configuration says, else the best that this rank has."""
    if config.model.attn_implementation != "auto":
        return config.model.attn_implementation
    is_on_gpu = not config.training.use_cpu and torch.cuda.is_available()
    device = torch.device("cuda", torch.cuda.current_device()) if is_on_gpu else torch.device("cpu")
    return best_attention(model_class, device, is_half=computes_in_half(config, dtype))


def best_attention(model_class: Any, device: torch.device, *, is_half: bool) -> str:
    """How attention is best computed, by the name that transformers gives it.

    The result is always handed over, so that a model's configuration cannot choose a kernel from somewhere else.

    Args:
        model_class: the model's class, which knows what it supports.
        device: where it computes.
        is_half: whether it is computed in 16 bits, without which flash attention does not work.
    """
    if is_half and getattr(model_class, "_supports_flash_attn", False) and _has_flash_attention(device):
        return "flash_attention_2"
    return "sdpa" if getattr(model_class, "_supports_sdpa", False) else "eager"


def _has_flash_attention(device: torch.device) -> bool:
    if device.type != "cuda":
        return False
    return torch.cuda.get_device_capability(device)[0] >= 8 and is_flash_attn_2_available()


def computes_in_half(config: RunConfig, dtype: torch.dtype) -> bool:
    """Whether a run's forward pass is in 16 bits: by its weights or by mixed precision."""
    mixed = config.launch.mixed_precision in ("bf16", "fp16") or config.training.bf16 or config.training.fp16
    return dtype.itemsize == 2 or mixed


def place_for_chat(
    num_parameters: int, config: PreTrainedConfig, device: str = "auto", dtype: str = "auto"
) -> Placement:
    """A GPU if one has room, else the CPU.

    Args:
        num_parameters: of model and adapter together.
        config: the model's configuration, which names the type it was saved in.
        device: "auto", "cpu", "cuda" or "cuda:1".
        dtype: "auto", "float32", "bfloat16" or "float16".

    Raises:
        MachineError: there is no such GPU, or the memory is too small anywhere.
        UsageError: the device or type does not exist.
    """
    saved = getattr(config, "dtype", None)
    short = saved if isinstance(saved, torch.dtype) and saved.itemsize == 2 else torch.bfloat16
    if device == "cpu":
        return _on_cpu(num_parameters, dtype, short, "asked for")
    if device != "auto":
        index = _gpu_index(device)
        return Placement(torch.device("cuda", index), _gpu_dtype(dtype, saved), "asked for")
    if not torch.cuda.is_available():
        return _on_cpu(num_parameters, dtype, short, "there is no GPU")
    on_gpu = _gpu_dtype(dtype, saved)
    needed = int((num_parameters * on_gpu.itemsize + _CACHE_AND_CONTEXT_BYTES) * _SPARE)
    free = {index: room for index in range(torch.cuda.device_count()) if (room := _room(index)) is not None}
    if not free:
        return _on_cpu(num_parameters, dtype, short, "no GPU lets another program in")
    index = max(free, key=free.__getitem__)
    if free[index] >= needed:
        return Placement(torch.device("cuda", index), on_gpu, f"GPU {index} has {size(free[index])} free")
    reason = f"GPU {index} has {size(free[index])} free and {size(needed)} would be needed"
    return _on_cpu(num_parameters, dtype, short, reason)


def _room(index: int) -> int | None:
    """Bytes free on a GPU; None where it is out of order, or another program has it alone (exclusive mode)."""
    try:
        return int(torch.cuda.mem_get_info(index)[0])
    except RuntimeError:
        return None


def _on_cpu(num_parameters: int, dtype: str, short: torch.dtype, reason: str) -> Placement:
    available = available_memory()
    candidates = [torch_dtype(dtype)] if dtype != "auto" else [torch.float32, short]
    for candidate in candidates:
        needed = num_parameters * candidate.itemsize + (_CACHE_AND_CONTEXT_BYTES >> 1)
        if available is None or needed <= available:
            halved = ", and float32 would not fit the memory" if candidate is not candidates[0] else ""
            return Placement(torch.device("cpu"), candidate, reason + halved)
    raise MachineError(
        f"the model needs {size(needed)} of memory in {str(candidates[-1]).removeprefix('torch.')} and "
        f"{size(available or 0)} are available",
        remedy="End other programs, or choose a smaller model.",
    )


def _gpu_index(device: str) -> int:
    kind, _, number = device.partition(":")
    if kind != "cuda" or not (number == "" or number.isdigit()):
        raise UsageError(f"there is no device {device!r}", remedy="Devices are auto, cpu, cuda and cuda:0, cuda:1, …")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(number or 0) >= count:
        raise MachineError(
            f"the device {device} was asked for and this machine has {count or 'no'} usable GPUs",
            remedy="Use device cpu or auto; `tui-trainer doctor` shows what torch sees.",
        )
    return int(number or 0)


def _gpu_dtype(dtype: str, saved: Any) -> torch.dtype:
    if dtype != "auto":
        return torch_dtype(dtype)
    if isinstance(saved, torch.dtype) and saved.itemsize == 2:
        return saved if saved != torch.bfloat16 or computes_in_bf16() else torch.float16
    return torch.float32


def available_memory() -> int | None:
    """Bytes of main memory that can be had: the machine's, or what the container leaves; None if unknown."""
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
        machine = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return None
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text("ascii"))
        used = int(Path("/sys/fs/cgroup/memory.current").read_text("ascii"))
    except (OSError, ValueError):
        return machine
    return min(machine, max(limit - used, 0))


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be had on a device; None if unknown.

    On a GPU what torch keeps of tensors that are gone counts too: the driver holds it for taken, torch gives it again.
    """
    if device.type != "cuda":
        return available_memory()
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + kept


def local_rank() -> int:
    """This process's number on its machine, as the launcher says."""
    return int(os.environ.get("LOCAL_RANK", "0"))
