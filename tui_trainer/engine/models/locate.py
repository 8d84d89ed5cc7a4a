"""From what a user calls a model to the folders it lies in.

A reference is a folder, a .gguf file, demo:smollm2, a run (RUN, RUN@STEP, RUN@best) or a hub id, tried in this order.
What lies behind it may be a whole model or a PEFT adapter, whose base is located in turn. After this nothing asks the
network any more: every loader gets a folder.
"""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tui_trainer.config.model import ModelConfig
from tui_trainer.engine.models import gguf, smollm2
from tui_trainer.engine.models.folder import (
    ADAPTER_CONFIG,
    has_tokenizer,
    is_adapter,
    is_model,
    read_object,
)
from tui_trainer.engine.models.hub import (
    Needs,
    cache_folder,
    cached_model,
    fetch_model,
    is_hub_id,
    is_online,
    offline_error,
)
from tui_trainer.engine.models.weights import check_weights
from tui_trainer.engine.report import Report, ignore_report
from tui_trainer.errors import DataError, UsageError, WorkbenchError
from tui_trainer.paths import runs_dir
from tui_trainer.runs.layout import RunLayout, checkpoint_step
from tui_trainer.runs.store import (
    find_checkpoint,
    find_run,
    is_run,
    list_runs,
    newest_checkpoint,
    split_checkpoint,
)

_MAX_BASES = 4
"""Adapters may stand on a model that is itself named by reference, but not for ever."""


@dataclass(frozen=True)
class ModelSource:
    """Where a model lies.

    Attributes:
        reference: what the user called it.
        path: folder of the whole model.
        adapter: folder of the PEFT adapter that goes on it, if any.
        tokenizer_path: folder of its tokenizer; a checkpoint's own goes before its base's.
        run: the run it comes from, if any.
        step: the checkpoint's step, if it is one.
        repo_id: its name on the hub, if it came from there.
        commit: the commit it was fetched at.
    """

    reference: str
    path: Path
    adapter: Path | None = None
    tokenizer_path: Path = Path()
    run: RunLayout | None = None
    step: int | None = None
    repo_id: str | None = None
    commit: str | None = None


@dataclass(frozen=True)
class _Search:
    """What stays the same while a reference is followed."""

    revision: str | None
    cache_dir: str | None
    needs: Needs
    with_code: bool
    report: Report
    depth: int = 0


def locate_model(
    reference: str,
    *,
    revision: str | None = None,
    cache_dir: str | None = None,
    needs: Needs = "model",
    with_code: bool = False,
    report: Report = ignore_report,
) -> ModelSource:
    """Find a model, fetching or converting it if it is not on this machine in the form that is needed.

    Args:
        reference: hub id, folder, .gguf file, run, or demo:smollm2.
        revision: branch, tag or commit, for a hub id.
        cache_dir: the hub's cache, if not the usual one.
        needs: which files have to be there; a tokenizer is found without fetching the weights.
        with_code: fetch the repository's Python files too; only with the user's consent to run them.
        report: told what is going on.

    Raises:
        UsageError: there is nothing of that name; the message says where it was looked for.
        DataError: what was found is broken.
        RefusedError: the weights are pickled.
        MachineError: the hub does not answer, or something else is lacking.
    """
    return _locate(reference.strip(), _Search(revision, cache_dir, needs, with_code, report))


def locate_tokenizer(config: ModelConfig, reference: str, report: Report) -> Path:
    """The folder of a tokenizer; `model.revision` counts where it is the model's own.

    Args:
        config: names tokenizer and model.
        reference: the one of the two that the tokenizer comes from.
        report: told what is going on.

    Raises:
        WorkbenchError: as `locate_model`.
    """
    source = locate_model(
        reference,
        revision=None if config.tokenizer_name_or_path else config.revision,
        cache_dir=config.cache_dir,
        needs="tokenizer",
        with_code=config.trust_remote_code,
        report=report,
    )
    return source.tokenizer_path


def _locate(reference: str, search: _Search) -> ModelSource:
    if not reference:
        raise UsageError("no model is named", remedy="Give a hub id, a folder, a .gguf file, a run or demo:smollm2.")
    if reference.startswith(("http://", "https://")):
        raise UsageError(
            f"{reference} is the address of a server; the weights themselves are needed here",
            remedy="Give a hub id, a folder, a .gguf file, a run or demo:smollm2.",
        )
    if reference.startswith("demo:"):
        return _demo(reference, search)
    path = Path(reference).expanduser()
    if is_run(path):
        return _from_run(reference, RunLayout(path.absolute()), "latest", search)
    if path.is_dir():
        folder = path.resolve()
        return replace(_from_folder(reference, folder, search), run=_enclosing_run(folder))
    if path.is_file():
        return _from_file(reference, path.absolute(), search)
    run, which = split_checkpoint(reference)
    if layout := _run_named(run):
        return _from_run(reference, layout, which, search)
    if run != reference:
        find_run(run)
    if _is_path_only(reference) or not is_hub_id(reference):
        raise _not_found(reference)
    return _from_hub(reference, search)


def _demo(reference: str, search: _Search) -> ModelSource:
    if reference != smollm2.REFERENCE:
        raise UsageError(f"there is no demo model {reference!r}", remedy=f"The demo model is {smollm2.REFERENCE}.")
    folder, repo_id = smollm2.folder(search.needs, search.report)
    return _from_folder(reference, folder, replace(search, revision=None), repo_id=repo_id)


def _from_file(reference: str, path: Path, search: _Search) -> ModelSource:
    if path.suffix.lower() != ".gguf":
        raise UsageError(
            f"{path.name} is no model",
            where=str(path),
            remedy="Give the folder that holds config.json and the weights, or a .gguf file.",
        )
    return _from_folder(reference, gguf.converted(path, report=search.report), search)


def _from_run(reference: str, layout: RunLayout, which: str, search: _Search) -> ModelSource:
    if which == "latest":
        checkpoint, skipped = newest_checkpoint(layout)
        for line in skipped:
            search.report(line, None, None)
    else:
        checkpoint = find_checkpoint(layout, which)
    source = _from_folder(reference, checkpoint.path, search, run=layout)
    return replace(source, run=layout, step=checkpoint.step)


def _run_named(reference: str) -> RunLayout | None:
    try:
        return find_run(reference)
    except UsageError:
        if any(run.id.startswith(reference) for run in list_runs()):
            raise
        return None


def _from_folder(
    reference: str, folder: Path, search: _Search, *, run: RunLayout | None = None, repo_id: str | None = None
) -> ModelSource:
    commit = folder.name if repo_id else None
    if search.needs == "tokenizer" and has_tokenizer(folder):
        adapter = folder if is_adapter(folder) else None
        return ModelSource(
            reference, folder, adapter, folder, step=checkpoint_step(folder), repo_id=repo_id, commit=commit
        )
    if is_adapter(folder):
        if search.needs == "model":
            check_weights(folder)
        base = _base_of(folder, run or _enclosing_run(folder), search)
        tokenizer = folder if has_tokenizer(folder) else base.tokenizer_path
        return replace(
            base, reference=reference, adapter=folder, tokenizer_path=tokenizer, step=checkpoint_step(folder)
        )
    if is_model(folder):
        if search.needs == "model":
            check_weights(folder)
        return ModelSource(
            reference, folder, tokenizer_path=folder, step=checkpoint_step(folder), repo_id=repo_id, commit=commit
        )
    ggufs = sorted(folder.glob("*.gguf"))
    if len(ggufs) == 1:
        return _from_file(reference, ggufs[0], search)
    raise _no_model_in(folder, ggufs)


def _no_model_in(folder: Path, ggufs: list[Path]) -> DataError:
    if ggufs:
        names = ", ".join(path.name for path in ggufs[:4])
        return DataError(
            f"the folder holds {len(ggufs)} GGUF files: {names}", where=str(folder), remedy="Name one of them."
        )
    models = sorted(path.name for path in folder.iterdir() if path.is_dir() and (is_model(path) or is_adapter(path)))
    inside = f"Inside it are {', '.join(models[:4])}: name one of them." if models else ""
    return DataError(
        "the folder holds no model: it has no config.json, adapter_config.json or .gguf file",
        where=str(folder),
        remedy=inside or "Name the folder in which the model was saved.",
    )


def _base_of(adapter: Path, run: RunLayout | None, search: _Search) -> ModelSource:
    """The model an adapter goes on: the one it names, else the one its run trained."""
    if search.depth >= _MAX_BASES:
        raise DataError("the adapter's base is an adapter on an adapter, and so on", where=str(adapter))
    config = read_object(adapter / ADAPTER_CONFIG)
    named = [(str(config.get("base_model_name_or_path") or ""), config.get("revision"))]
    if run:
        named.append(_model_of_run(run))
    deeper = replace(search, depth=search.depth + 1)
    failure: WorkbenchError | None = None
    for reference, revision in named:
        if reference:
            try:
                return _locate(reference, replace(deeper, revision=revision))
            except WorkbenchError as error:
                failure = failure or error
    if failure is None:
        raise DataError(
            "does not name the model that the adapter goes on",
            where=str(adapter / ADAPTER_CONFIG),
            remedy='Write its hub id or folder there as "base_model_name_or_path".',
        )
    raise type(failure)(
        f"the base of the adapter is missing: {failure.what}",
        where=failure.where or str(adapter),
        remedy=failure.remedy,
    )


def _model_of_run(run: RunLayout) -> tuple[str, Any]:
    try:
        model = tomllib.loads(run.config.read_text("utf-8")).get("model", {})
    except (OSError, ValueError):
        return "", None
    return str(model.get("name_or_path") or ""), model.get("revision")


def _enclosing_run(folder: Path) -> RunLayout | None:
    root = folder.parent.parent
    return RunLayout(root) if checkpoint_step(folder) is not None and is_run(root) else None


def _from_hub(repo_id: str, search: _Search) -> ModelSource:
    revision, cache_dir, needs = search.revision, search.cache_dir, search.needs
    folder = cached_model(repo_id, revision=revision, cache_dir=cache_dir, needs=needs)
    if folder is None and is_online():
        folder = fetch_model(
            repo_id,
            revision=revision,
            cache_dir=cache_dir,
            needs=needs,
            with_code=search.with_code,
            report=search.report,
        )
    if folder is None:
        folder = cached_model(repo_id, revision=revision, cache_dir=cache_dir, needs=needs, is_strict=False)
    if folder is None:
        raise _not_found(repo_id, cache_folder(cache_dir))
    return _from_folder(repo_id, folder, search, repo_id=repo_id)


def _is_path_only(reference: str) -> bool:
    return reference.startswith(("/", "./", "../", "~")) or reference.endswith(("/", ".gguf", ".safetensors"))


def _not_found(reference: str, hub_cache: Path | None = None) -> WorkbenchError:
    """The error for a name behind which nothing lies, with what is near to it."""
    looked = [f"no folder {Path(reference).expanduser().absolute()}"]
    if "/" not in reference:
        looked.append(f"no run in {runs_dir()}")
    near = _nearest(reference)
    if hub_cache:
        error = offline_error(
            f"there is no model {reference!r}: {', '.join(looked)}, not in the hub's cache", str(hub_cache)
        )
        return type(error)(error.what, where=error.where, remedy=f"{near} {error.remedy}".strip())
    return UsageError(
        f"there is no model {reference!r}: {', '.join(looked)}",
        remedy=near or "Give a hub id, a folder, a .gguf file, a run or demo:smollm2.",
    )


def _nearest(reference: str) -> str:
    path = Path(reference).expanduser()
    try:
        siblings = [entry.name for entry in path.parent.iterdir() if entry.is_dir() or entry.suffix == ".gguf"]
    except OSError:
        siblings = []
    names = {name: str(path.parent / name) for name in siblings}
    if "/" not in reference:
        names |= {run.id: run.id for run in list_runs()} | {run.name: run.name for run in list_runs()}
        names[smollm2.REFERENCE] = smollm2.REFERENCE
    close = difflib.get_close_matches(path.name, names, n=1, cutoff=0.7)
    return f"Did you mean {names[close[0]]}?" if close else ""
