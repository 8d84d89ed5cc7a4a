"""Want of memory, told with numbers: before an answer is begun, and when it runs out on the way."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from tui_trainer.engine.models.placement import free_memory
from tui_trainer.errors import RunFailedError
from tui_trainer.units import size

_SPARE_BYTES = 256 << 20
"""Beside keys and values: logits, activations of a chunk of the prompt."""
_MESSAGES = ("not enough memory", "can't allocate memory", "out of memory")


def num_cache_bytes(config: Any, num_tokens: int, num_rows: int, dtype: torch.dtype) -> int:
    """Bytes of keys and values.

    Args:
        config: the model's configuration.
        num_tokens: tokens of each row.
        num_rows: answers computed at once.
        dtype: of keys and values.
    """
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or getattr(text, "num_attention_heads", 1)
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // getattr(text, "num_attention_heads", 1)
    return int(2 * text.num_hidden_layers * heads * head_dim * dtype.itemsize * num_tokens * num_rows)


class MemoryGuard:
    """Keeps a session alive when memory runs out.

    Args:
        model: the model.
        device: where it computes.
        dtype: of its keys and values.
        forget: drops what is kept of the last conversation.
    """

    def __init__(self, model: Any, device: torch.device, dtype: torch.dtype, forget: Callable[[], None]) -> None:
        self._config = model.config
        self._device = device
        self._dtype = dtype
        self._forget = forget

    @contextmanager
    def watch(self, num_tokens: int, num_rows: int) -> Iterator[None]:
        """Around an answer; the system ends a process that takes more main memory than there is, so it is asked before.

        Raises:
            RunFailedError: there is too little memory; what was kept of the conversation is dropped.
        """
        available = free_memory(self._device)
        if available is not None and self._needed(num_tokens, num_rows) > available:
            raise self._out_of_memory(num_tokens, num_rows)
        try:
            yield
        except (torch.OutOfMemoryError, MemoryError):
            raise self._out_of_memory(num_tokens, num_rows) from None
        except RuntimeError as error:
            if not any(message in str(error) for message in _MESSAGES):
                raise
            raise self._out_of_memory(num_tokens, num_rows) from None

    def _needed(self, num_tokens: int, num_rows: int) -> int:
        return num_cache_bytes(self._config, num_tokens, num_rows, self._dtype) + _SPARE_BYTES

    def _out_of_memory(self, num_tokens: int, num_rows: int) -> RunFailedError:
        self._forget()
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        available = free_memory(self._device)
        has = "" if available is None else f", and {size(available)} are free"
        needed = f"{size(self._needed(num_tokens, num_rows))} or more"
        return RunFailedError(
            f"out of memory on {self._device}: a prompt of {num_tokens} tokens, answered {num_rows} times at once, "
            f"needs {needed}{has}",
            remedy="Ask for fewer answers (n, best_of, beam_width), shorten the conversation, or use the device cpu.",
        )
