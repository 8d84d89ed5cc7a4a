"""Safetensors files: which a folder has, whether they are whole, how many numbers they hold. No weight is read.

Pickled weights are refused: unpickling can run code.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from math import prod
from pathlib import Path

from tui_trainer.engine.models.folder import is_adapter, read_object
from tui_trainer.errors import DataError, RefusedError

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
_PICKLES = ("pytorch_model*.bin", "adapter_model.bin", "*.pt", "*.pth", "*.ckpt")
_MAX_HEADER_BYTES = 100 << 20
"""Longest head the format allows."""
_CONVERT = (
    "Unpickling can run code, so only safetensors are loaded. If you trust where they come from, convert them once: "
    'python -c \'from transformers import AutoModelForCausalLM as M; M.from_pretrained("{0}")'
    '.save_pretrained("{0}-safetensors")\''
)


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of the model in a folder, in the order of its index; empty if there are none.

    Raises:
        DataError: the index is broken or names a file that is not there.
    """
    index = folder / WEIGHTS_INDEX
    if not index.is_file():
        return [folder / WEIGHTS] if (folder / WEIGHTS).is_file() else []
    weight_map = read_object(index).get("weight_map")
    if not isinstance(weight_map, dict):
        raise DataError("has no weight_map", where=str(index), remedy="Fetch or save the model again.")
    files = [folder / str(name) for name in dict.fromkeys(weight_map.values())]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(files)} weight files are missing, {missing[0]} the first",
            where=str(folder),
            remedy="Fetch or copy the model again.",
        )
    return files


def check_weights(folder: Path) -> None:
    """See that a folder has safetensors weights: a whole model's or an adapter's.

    Raises:
        RefusedError: it has pickled weights only.
        DataError: it has none, or its index names files that are not there.
    """
    if (folder / ADAPTER_WEIGHTS).is_file() if is_adapter(folder) else weight_files(folder):
        return
    pickled = _pickled(folder)
    if pickled:
        raise RefusedError(f"the weights are pickled ({pickled[0]})", where=str(folder), remedy=_CONVERT.format(folder))
    wanted = ADAPTER_WEIGHTS if is_adapter(folder) else WEIGHTS
    raise DataError(
        f"the folder has a configuration but no weights: {wanted} is missing",
        where=str(folder),
        remedy="Fetch or copy the model again.",
    )


def _pickled(folder: Path) -> list[str]:
    return sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))


def count_parameters(files: Iterable[Path]) -> int:
    """How many numbers the safetensors files hold; only their heads are read.

    Raises:
        DataError: a file is broken or cut off.
    """
    return sum(_count(path) for path in files)


def _count(path: Path) -> int:
    """A safetensors file begins with the length of its JSON head, 8 bytes little endian."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        head = file.read(length) if 0 < length <= min(_MAX_HEADER_BYTES, size) else b""
    try:
        tensors = {name: entry for name, entry in json.loads(head).items() if name != "__metadata__"}
        end = max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
        count = sum(int(prod(entry["shape"])) for entry in tensors.values())
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise _broken(path, "its head cannot be read") from None
    if size != 8 + length + end:
        raise _broken(path, f"it should have {8 + length + end} bytes and has {size}")
    return count


def _broken(path: Path, why: str) -> DataError:
    return DataError(f"the weights are broken: {why}", where=str(path), remedy="Fetch or copy the model again.")
