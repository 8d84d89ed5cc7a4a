"""Other weights for a loaded model, written where its own are: no second copy in memory, nothing built anew.

All files are opened and compared with the model first; either everything is written or nothing. A checkpoint that is
deleted meanwhile stays readable until it is closed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.utils import get_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from torch import Tensor

from tui_trainer.engine.models.folder import ADAPTER_CONFIG, read_object
from tui_trainer.engine.models.messages import first_line
from tui_trainer.engine.models.weights import ADAPTER_WEIGHTS, weight_files
from tui_trainer.errors import DataError

_ABOUT_ITSELF = ("base_model_name_or_path", "revision", "inference_mode", "peft_version", "auto_mapping")
"""What an adapter's configuration says that has nothing to do with its arithmetic."""


def copy_adapter(model: PeftModel, name: str, new: Path, old: Path) -> bool:
    """Write the weights of one adapter over those of another.

    Args:
        model: has the adapter.
        name: of the adapter in it.
        new: folder of the adapter to take over.
        old: folder the present one came from.

    Returns:
        Whether it could be done: they have to be of the same kind, rank and place.

    Raises:
        DataError: the new one's files are broken or gone.
    """
    if _arithmetic(new) != _arithmetic(old):
        return False
    own: Mapping[str, Tensor] = get_peft_model_state_dict(model, adapter_name=name)
    return _copy([new / ADAPTER_WEIGHTS], own, set(own))


def copy_model(model: Any, folder: Path) -> bool:
    """Write the weights of a whole model over those of another.

    Args:
        model: the model; not one of PEFT's, nor a quantised one.
        folder: holds the weights to take over.

    Returns:
        Whether it could be done: names and shapes have to be the same.

    Raises:
        DataError: the files are broken or gone.
    """
    own: dict[str, Tensor] = model.state_dict()
    tied = set(getattr(model, "_tied_weights_keys", None) or ())
    return _copy(weight_files(folder), own, set(own) - tied)


def _arithmetic(folder: Path) -> dict[str, Any]:
    config = read_object(folder / ADAPTER_CONFIG)
    kept = {key: value for key, value in config.items() if key not in _ABOUT_ITSELF}
    return {key: sorted(value) if isinstance(value, list) else value for key, value in kept.items()}


def _copy(files: Sequence[Path], own: Mapping[str, Tensor], needed: set[str]) -> bool:
    with _opened(files) as sources:
        shapes = {key: tuple(file.get_slice(key).get_shape()) for file in sources for key in file.keys()}  # noqa: SIM118
        is_same = needed <= shapes.keys() <= own.keys()
        if not files or not is_same or any(tuple(own[key].shape) != shape for key, shape in shapes.items()):
            return False
        with torch.inference_mode():
            for file in sources:
                for key in file.keys():  # noqa: SIM118 - a handle of safetensors is no mapping
                    own[key].copy_(file.get_tensor(key))
    return True


@contextmanager
def _opened(files: Sequence[Path]) -> Iterator[list[Any]]:
    try:
        with ExitStack() as stack:
            yield [stack.enter_context(safe_open(file, framework="pt")) for file in files]
    except (OSError, SafetensorError) as error:
        where = str(files[0].parent) if files else ""
        raise DataError(
            f"the weights cannot be read: {first_line(error)}",
            where=where,
            remedy="The checkpoint may have been deleted or be unfinished; choose another.",
        ) from None
