"""A model as a folder that any tool can load: whole weights, an adapter, or an adapter merged into its base.

The folder is written beside its place and renamed, so that it is whole or not there. Files that need no change are
copied as they are. Called by `tui-trainer export`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import GenerationConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from tui_trainer.engine.models.adapter import load_adapter
from tui_trainer.engine.models.card import model_card, run_settings
from tui_trainer.engine.models.folder import ADAPTER_CONFIG, TOKENIZER_FILES, foreign_code, read_object
from tui_trainer.engine.models.locate import ModelSource, locate_model
from tui_trainer.engine.models.placement import available_memory, best_attention, torch_dtype
from tui_trainer.engine.models.pretrained import class_of, load_weights, read_config
from tui_trainer.engine.models.weights import (
    ADAPTER_WEIGHTS,
    WEIGHTS_INDEX,
    check_weights,
    count_parameters,
    weight_files,
)
from tui_trainer.engine.report import Report, ignore_report
from tui_trainer.errors import MachineError, RefusedError, UsageError
from tui_trainer.runs.files import sync
from tui_trainer.units import size

Kind = Literal["model", "adapter", "merged"]

CARD = "README.md"
DTYPES = ("auto", "float32", "bfloat16", "float16")
_GENERATION_CONFIG = "generation_config.json"
_TOKENIZER = (
    *TOKENIZER_FILES,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)
_SPARE = 1.05
_CHUNK = 16 << 20
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        folder: where it lies.
        kind: a whole model as it was trained, an adapter alone, or one merged into its base.
        dtype: type of the weights.
        source: where it came from.
        base: the model the adapter was trained on, by its name or folder; None for a whole model.
        num_bytes: of each file, by its name.
    """

    folder: Path
    kind: Kind
    dtype: str
    source: ModelSource
    base: str | None
    num_bytes: dict[str, int]


def export_model(
    reference: str, target: Path, *, is_merged: bool = False, dtype: str = "auto", report: Report = ignore_report
) -> Exported:
    """Write a model into a new folder: safetensors, configuration, tokenizer with chat template, model card.

    Args:
        reference: RUN, RUN@STEP, RUN@best, or any other model that `locate_model` finds.
        target: the folder; it may exist if it is empty.
        is_merged: put an adapter into the weights of its base. A whole model stays what it is.
        dtype: "auto" for the type the weights have, or float32, bfloat16, float16.
        report: told what is going on; what it raises ends the export without a trace.

    Raises:
        RefusedError: the folder holds something already.
        UsageError: there is no such type.
        MachineError: the disk or the memory is too small.
        WorkbenchError: as `locate_model` and `load_adapter`.
    """
    if dtype not in DTYPES:
        raise UsageError(f"there is no type {dtype!r} to export in", remedy=f"Types are {', '.join(DTYPES)}.")
    _refuse_taken(target)
    source = locate_model(reference, report=report)
    if source.adapter is None:
        kind: Kind = "model"
    else:
        kind = "merged" if is_merged else "adapter"
    saved = _saved_dtype(source, kind)
    wanted = saved if dtype == "auto" else torch_dtype(dtype)
    with _beside(target) as folder:
        _check_room(folder, _num_weights(source, kind) * wanted.itemsize, target)
        if kind == "adapter":
            _write_adapter(source, folder, None if dtype == "auto" else wanted, report)
        elif kind == "model" and wanted == saved:
            _copy(source.path, [*weight_files(source.path), *_described_by(source.path)], folder, report)
        else:
            _write_model(source, folder, wanted, report)
        _write_companions(source, folder, report)
        (folder / CARD).write_text(model_card(source, kind, _name(wanted)), "utf-8")
        check_weights(folder)
        report("writing to the disk", None, None)
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        for path in files:
            path.chmod((folder / CARD).stat().st_mode)  # safetensors makes files that only their owner reads
            sync(path)
        sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}
    base = None if source.adapter is None else source.repo_id or str(source.path)
    return Exported(target, kind, _name(wanted), source, base, sizes)


def _refuse_taken(target: Path) -> None:
    if target.is_dir() and not target.is_symlink():
        if any(target.iterdir()):
            raise RefusedError("the folder is not empty", where=str(target), remedy="Name a new one with --out.")
    elif target.exists() or target.is_symlink():
        raise RefusedError("exists already and is no folder", where=str(target), remedy="Name a new one with --out.")


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A new folder beside `target` that takes its place at the end, and is gone if there is no good end."""
    target = target.absolute()
    folder: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = target.with_name(f".{target.name}-{os.urandom(4).hex()}.unfinished")
        folder.mkdir()
        yield folder
        folder.replace(target)
        sync(target.parent)
    except OSError as error:
        raise MachineError(
            f"the folder cannot be written: {error.strerror or error}",
            where=str(target),
            remedy="Free space, or name another place with --out.",
        ) from None
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _saved_dtype(source: ModelSource, kind: Kind) -> torch.dtype:
    """The type of the weights as they lie on the disk: an adapter's first one, or what a model's configuration says."""
    if kind == "adapter":
        with safe_open(_adapter(source) / ADAPTER_WEIGHTS, framework="pt") as file:
            first: torch.Tensor = file.get_tensor(next(iter(file.keys())))
        return first.dtype
    config = read_object(source.path / "config.json")
    name = config.get("dtype") or config.get("torch_dtype") or "float32"
    dtype = getattr(torch, str(name).removeprefix("torch."), None)
    return dtype if isinstance(dtype, torch.dtype) else torch.float32


def _adapter(source: ModelSource) -> Path:
    assert source.adapter is not None
    return source.adapter


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _num_weights(source: ModelSource, kind: Kind) -> int:
    return count_parameters([_adapter(source) / ADAPTER_WEIGHTS] if kind == "adapter" else weight_files(source.path))


def _check_room(folder: Path, num_bytes: int, target: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < num_bytes * _SPARE:
        raise MachineError(
            f"the weights need {size(num_bytes)} and {size(free)} are free",
            where=str(target),
            remedy="Free space, or name another place with --out.",
        )


def _write_adapter(source: ModelSource, folder: Path, dtype: torch.dtype | None, report: Report) -> None:
    """Write an adapter as it is, or in another type."""
    adapter = _adapter(source)
    _copy(adapter, [adapter / ADAPTER_CONFIG], folder, report)
    if dtype is None:
        _copy(adapter, [adapter / ADAPTER_WEIGHTS], folder, report)
        return
    report(f"writing the adapter in {_name(dtype)}", None, None)
    weights = {name: weight.to(dtype) for name, weight in load_file(adapter / ADAPTER_WEIGHTS).items()}
    save_file(weights, folder / ADAPTER_WEIGHTS, metadata={"format": "pt"})


def _described_by(folder: Path) -> list[Path]:
    """The configuration of a whole model, the index of its weights, and the code it brought along."""
    code = folder.glob("*.py") if foreign_code(folder).classes else ()
    return [path for path in (folder / "config.json", folder / WEIGHTS_INDEX, *code) if path.is_file()]


def _write_model(source: ModelSource, folder: Path, dtype: torch.dtype, report: Report) -> None:
    """Load a model, with its adapter merged if it has one, and save it in a type."""
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    trust = bool(run_settings(source).get("model", {}).get("trust_remote_code"))  # consent given when it was trained
    config = read_config(source.path, trust_remote_code=trust, report=report)
    report(f"loading {source.repo_id or source.path.name}", None, None)
    computed = _computing_dtype(source, dtype)
    attention = best_attention(class_of(config), torch.device("cpu"), is_half=False)
    model = load_weights(source.path, config, computed, attention, trust_remote_code=trust)
    if source.adapter is not None:
        model = _merge(model, source, report)
    model.to(dtype)  # type: ignore[arg-type]
    model.config.dtype = dtype
    model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]  # its own is copied, as it is
    expected = sum(weight.numel() for weight in model.parameters()) * dtype.itemsize
    with _watched(folder, expected, report):
        model.save_pretrained(folder, max_shard_size="5GB")
    (folder / _GENERATION_CONFIG).unlink(missing_ok=True)


def _computing_dtype(source: ModelSource, dtype: torch.dtype) -> torch.dtype:
    """The type in which an adapter is added to the weights: float32 where it fits, so that only the sum is rounded.

    Raises:
        MachineError: the weights fit the memory in neither.
    """
    count, available = count_parameters(weight_files(source.path)), available_memory()
    candidates = (torch.float32, dtype) if source.adapter is not None else (dtype,)
    for candidate in candidates:
        if available is None or count * candidate.itemsize * _SPARE <= available:
            return candidate
    assert available is not None
    raise MachineError(
        f"the weights need {size(count * candidates[-1].itemsize)} of memory and {size(available)} are available",
        remedy="End other programs, or leave out --merge: the adapter alone needs little.",
    )


def _merge(model: PreTrainedModel, source: ModelSource, report: Report) -> PreTrainedModel:
    """The base with the adapter in its weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of one library about the other
        adapted = load_adapter(model, _adapter(source))
        report("merging the adapter into the weights", None, None)
        merged: Any = adapted.merge_and_unload()
    inputs, outputs = merged.get_input_embeddings(), merged.get_output_embeddings()
    if outputs is not None and inputs.weight is not outputs.weight:
        # one of two tied layers was trained by itself: they are two now
        merged.config.get_text_config().tie_word_embeddings = merged.config.tie_word_embeddings = False
    result: PreTrainedModel = merged
    return result


def _write_companions(source: ModelSource, folder: Path, report: Report) -> None:
    """What belongs to the weights: how to generate, the tokenizer and its chat template."""
    homes = [home for home in (source.adapter, source.path) if home is not None]
    settings = next((home / _GENERATION_CONFIG for home in homes if (home / _GENERATION_CONFIG).is_file()), None)
    if settings is not None:
        _copy(settings.parent, [settings], folder, report)
    home = source.tokenizer_path
    names = [home / name for name in dict.fromkeys(_TOKENIZER)]
    code = home.glob("*.py") if home != source.path and foreign_code(home).classes else ()
    files = [path for path in (*names, *home.glob("additional_chat_templates/*.jinja"), *code) if path.is_file()]
    _copy(home, files, folder, report)


def _copy(home: Path, files: list[Path], folder: Path, report: Report) -> None:
    """Copy files to the same place below another folder; links are followed, as the hub's cache is made of them."""
    total, done = sum(path.stat().st_size for path in files), 0
    for path in files:
        target = folder / path.relative_to(home)
        target.parent.mkdir(parents=True, exist_ok=True)
        with path.open("rb") as original, target.open("wb") as copy:
            while chunk := original.read(_CHUNK):
                copy.write(chunk)
                done += len(chunk)
                report("copying, in MiB:", done >> 20, total >> 20)


@contextlib.contextmanager
def _watched(folder: Path, expected: int, report: Report) -> Iterator[None]:
    """Report how much lies in a folder while the library writes into it without a word."""
    is_done = threading.Event()

    def watch() -> None:
        while not is_done.wait(_POLL_SECONDS):
            written = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
            report("saving, in MiB:", written >> 20, expected >> 20)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_done.set()
        thread.join()
