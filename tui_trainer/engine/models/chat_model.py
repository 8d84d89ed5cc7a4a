"""Loading a model to talk to, where there is room for it: on a GPU, else on the CPU. Called by the chat worker."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from tui_trainer.engine.models.adapter import load_adapter
from tui_trainer.engine.models.int8 import INT8, quantize
from tui_trainer.engine.models.locate import ModelSource, locate_model
from tui_trainer.engine.models.placement import Placement, best_attention, place_for_chat
from tui_trainer.engine.models.pretrained import class_of, load_weights, read_config
from tui_trainer.engine.models.stop_tokens import stop_token_ids
from tui_trainer.engine.models.tokenizer import tokenizer_from
from tui_trainer.engine.models.weights import ADAPTER_WEIGHTS, count_parameters, weight_files
from tui_trainer.engine.report import Report, ignore_report
from tui_trainer.errors import MachineError, UsageError


@dataclass
class LoadedModel:
    """A model to talk to.

    Attributes:
        model: in evaluation mode, on its device.
        tokenizer: with the chat template of the checkpoint or its base, if there is one.
        source: where it lies.
        stop_token_ids: tokens that end an answer: the model's, the tokenizer's and the template's end of turn.
        context_length: most tokens of prompt and answer together; None if the model does not say.
        device: where it computes.
        dtype: type of its weights.
        reason: why it was put there.
        num_parameters: of model and adapter.
        is_int8: whether its linear layers have weights in 8 bits.
    """

    model: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase
    source: ModelSource
    stop_token_ids: tuple[int, ...]
    context_length: int | None
    device: torch.device
    dtype: torch.dtype
    reason: str
    num_parameters: int
    is_int8: bool = False

    @property
    def has_template(self) -> bool:
        """Whether messages can be put into the form the model was trained on."""
        return bool(self.tokenizer.chat_template)


def locate_for_chat(reference: str, adapter: str | None = None, report: Report = ignore_report) -> ModelSource:
    """Where a model to talk to lies, with an adapter put on it if one is named.

    Args:
        reference: hub id, folder, .gguf file, run (RUN, RUN@STEP, RUN@best) or demo:smollm2.
        adapter: a PEFT adapter to put on it: folder, hub id or run.
        report: told what is going on.

    Raises:
        WorkbenchError: as `locate_model`; a UsageError if the adapter is a whole model.
    """
    source = locate_model(reference, report=report)
    return source if adapter is None else _put_on(source, adapter, report)


def load_located(
    source: ModelSource, *, device: str = "auto", dtype: str = "auto", report: Report = ignore_report
) -> LoadedModel:
    """A model ready to answer: on a GPU that has room, else on the CPU in float32. Its repository's code never runs.

    Args:
        source: where it lies.
        device: "auto", "cpu", "cuda" or "cuda:1".
        dtype: "auto", "float32", "bfloat16", "float16", or "int8" for weights in 8 bits on the CPU.
        report: told what is going on.

    Raises:
        WorkbenchError: a DataError for weights that do not fit, a MachineError for memory.
    """
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    config = read_config(source.path, trust_remote_code=False, report=report)
    tokenizer = tokenizer_from(source.tokenizer_path)
    files = weight_files(source.path) + ([source.adapter / ADAPTER_WEIGHTS] if source.adapter else [])
    num_parameters = count_parameters(files)
    is_int8 = dtype == INT8
    placement = place_for_chat(num_parameters, config, *(_int8_place(device) if is_int8 else (device, dtype)))
    report(f"loading {source.reference} on {placement.device} ({placement.reason})", None, None)
    model = _load_for_chat(source, config, placement)
    if is_int8:
        report("rounding the weights to 8 bits", None, None)
        quantize(model)
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        source=source,
        stop_token_ids=stop_token_ids(model, tokenizer),
        context_length=context_length(config, tokenizer),
        device=placement.device,
        dtype=placement.dtype,
        reason=placement.reason,
        num_parameters=num_parameters,
        is_int8=is_int8,
    )


def _int8_place(device: str) -> tuple[str, str]:
    """Device and type in which a model is loaded before its weights are rounded to 8 bits.

    Raises:
        UsageError: another device than the CPU is asked for.
    """
    if device not in ("auto", "cpu"):
        raise UsageError(f"dtype {INT8} is for the CPU, and {device} was asked for", remedy="Choose bfloat16 there.")
    return "cpu", "float32"


def _put_on(source: ModelSource, adapter: str, report: Report) -> ModelSource:
    """A source with another source's adapter on it; the adapter's tokenizer wins if it has one."""
    other = locate_model(adapter, report=report)
    if other.adapter is None:
        raise UsageError(
            f"{adapter} is a whole model, not an adapter",
            where=str(other.path),
            remedy="Name it as the model itself, without --adapter.",
        )
    own = other.tokenizer_path == other.adapter
    tokenizer_path = other.tokenizer_path if own else source.tokenizer_path
    return replace(source, adapter=other.adapter, tokenizer_path=tokenizer_path, run=other.run, step=other.step)


def _load_for_chat(source: ModelSource, config: PreTrainedConfig, placement: Placement) -> PreTrainedModel | PeftModel:
    is_half = placement.dtype.itemsize == 2
    attention = best_attention(class_of(config), placement.device, is_half=is_half)
    base = load_weights(source.path, config, placement.dtype, attention, trust_remote_code=False)
    model: Any = load_adapter(base, source.adapter) if source.adapter is not None else base
    try:
        model.to(placement.device)
    except torch.OutOfMemoryError:
        raise MachineError(
            f"{placement.device} has too little memory for the model",
            remedy="Choose the device cpu, or end what else is on the GPU.",
        ) from None
    loaded: PreTrainedModel | PeftModel = model.eval().requires_grad_(False)
    return loaded


def context_length(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Most tokens that a model can look at; None if neither it nor its tokenizer says."""
    text_config = config.get_text_config()
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        if isinstance(length := getattr(text_config, name, None), int) and length > 0:
            return length
    return tokenizer.model_max_length if tokenizer.model_max_length < 10**9 else None
