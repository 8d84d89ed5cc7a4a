"""The Hugging Face hub: what its cache holds, whether it answers, and fetching a model's files.

The cache comes first and needs no network. Whether the hub answers is found out once in a process, within
`PROBE_SECONDS` in all; after that an offline machine is told so at once instead of once a file.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import HfApi, constants, get_session, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    IncompleteSnapshotError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    RevisionResolutionError,
)
from huggingface_hub.utils._validators import validate_repo_id
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from tui_trainer.engine.models.folder import has_tokenizer, is_adapter, is_model
from tui_trainer.engine.models.messages import first_line
from tui_trainer.engine.models.weights import weight_files
from tui_trainer.engine.report import Report, ignore_report
from tui_trainer.errors import DataError, MachineError, RefusedError, UsageError, WorkbenchError

PROBE_SECONDS = 5.0

Needs = Literal["model", "tokenizer", "config"]
"""Which files of a model are wanted: all, those of its tokenizer, or its configuration alone."""

_SMALL_FILES = ["*.json", "*.jinja", "*.txt", "*.model"]
_PATTERNS: dict[Needs, list[str]] = {
    "model": [*_SMALL_FILES, "*.safetensors"],
    "tokenizer": _SMALL_FILES,
    "config": ["config.json", "adapter_config.json", "*.safetensors.index.json", "generation_config.json"],
}
_DUPLICATES = ["*/*", "consolidated*.safetensors", "*.fp16.*", "*.bf16.*", "*.fp32.*"]
"""Other formats and precisions of the same weights that some repositories hold."""


def is_hub_id(reference: str) -> bool:
    """Whether a text can be the name of a model on the hub, "owner/name" or "name"."""
    try:
        validate_repo_id(reference)
    except HFValidationError:
        return False
    return bool(reference)


def cache_folder(cache_dir: str | None = None) -> Path:
    """Where the hub's cache lies."""
    return Path(cache_dir).expanduser() if cache_dir else Path(constants.HF_HUB_CACHE)


@cache
def is_online() -> bool:
    """Whether the hub answers; asked once in a process.

    Any answer counts, also a refusal. A name server that hangs cannot be interrupted, which is why the question runs in
    a thread of its own.
    """
    if constants.is_offline_mode():
        return False
    answered = threading.Event()

    def ask() -> None:
        try:
            get_session().head(constants.ENDPOINT, timeout=PROBE_SECONDS)
        except Exception:  # whatever the network stack raises means the same: no answer
            return
        answered.set()

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PROBE_SECONDS)
    return answered.is_set()


def cached_model(
    repo_id: str,
    *,
    revision: str | None = None,
    cache_dir: str | None = None,
    needs: Needs = "model",
    is_strict: bool = True,
) -> Path | None:
    """The folder in the hub's cache that holds all that is needed of a model; None if there is none.

    Args:
        repo_id: "owner/name".
        revision: branch, tag or commit.
        cache_dir: the hub's cache, if not the usual one.
        needs: which files.
        is_strict: every small file of the repository has to be there too, as far as the cache knows them; else what
            cannot be done without is enough.
    """
    try:
        folder = Path(
            snapshot_download(
                repo_id,
                revision=revision,
                cache_dir=cache_folder(cache_dir),
                allow_patterns=_PATTERNS[needs],
                ignore_patterns=_DUPLICATES,
                local_files_only=True,
            )
        )
    except IncompleteSnapshotError as error:
        if is_strict:
            return None
        folder = Path(error.snapshot_path)
    except (LocalEntryNotFoundError, RevisionResolutionError, HFValidationError, OSError):
        return None
    return folder if _is_complete(folder, needs, is_strict) else None


def _is_complete(folder: Path, needs: Needs, is_strict: bool) -> bool:
    if needs == "tokenizer":
        return has_tokenizer(folder)
    if not (is_model(folder) or is_adapter(folder)):
        return False
    if needs == "config" or is_adapter(folder):
        return True
    try:
        return bool(weight_files(folder)) and (has_tokenizer(folder) or not is_strict)
    except DataError:
        return False


def fetch_model(
    repo_id: str,
    *,
    revision: str | None = None,
    cache_dir: str | None = None,
    needs: Needs = "model",
    with_code: bool = False,
    report: Report = ignore_report,
) -> Path:
    """Fetch what is needed of a model into the hub's cache; returns the folder.

    Args:
        repo_id: "owner/name".
        revision: branch, tag or commit.
        cache_dir: the hub's cache, if not the usual one.
        needs: which files.
        with_code: fetch the repository's Python files too; only with the user's consent to run them.
        report: told the bytes that are there and those there will be.

    Raises:
        MachineError: the hub does not answer, wants a login or a permission, or the disk is full.
        UsageError: there is no such model or revision.
        RefusedError: its weights are pickled.
    """
    if not is_online():
        raise offline_error(f"the model {repo_id!r} is not in the hub's cache", str(cache_folder(cache_dir)))
    report(f"fetching {repo_id}", None, None)
    with hub_errors(repo_id, revision):
        folder = snapshot_download(
            repo_id,
            revision=revision,
            cache_dir=cache_folder(cache_dir),
            allow_patterns=[*_PATTERNS[needs], *(["*.py"] if with_code else [])],
            ignore_patterns=_DUPLICATES,
            tqdm_class=_reporting_bar(f"fetching {repo_id}", report),
        )
        if needs == "model" and not any(Path(folder).glob("*.safetensors")):
            raise _without_safetensors(repo_id, HfApi().list_repo_files(repo_id, revision=revision))
    return Path(folder)


def _without_safetensors(repo_id: str, names: Sequence[str]) -> WorkbenchError:
    """The error for a repository whose weights, if it has any, are in a form that is not loaded from there."""
    page = f"{constants.ENDPOINT}/{repo_id}"
    ggufs = [name for name in names if name.endswith(".gguf")]
    if ggufs:
        return UsageError(
            f"the model {repo_id!r} has GGUF files and no safetensors: {', '.join(ggufs[:3])}",
            where=page,
            remedy=f"Fetch one with `hf download {repo_id} {ggufs[0]}` and name the file.",
        )
    if any(name.endswith((".bin", ".pt", ".pth")) for name in names):
        return RefusedError(
            f"the model {repo_id!r} has pickled weights only, and unpickling can run code",
            where=page,
            remedy="Look for a revision or a copy of it with safetensors, or convert it where that is safe.",
        )
    return UsageError(f"{repo_id!r} holds no weights", where=page, remedy="Name the repository that has them.")


def offline_error(what: str, where: str) -> MachineError:
    """The error for something that only the hub could give, and the hub does not answer."""
    if constants.is_offline_mode():
        return MachineError(
            f"{what}, and HF_HUB_OFFLINE forbids to ask the hub",
            where=where,
            remedy="Unset HF_HUB_OFFLINE, or name a folder on this machine.",
        )
    return MachineError(
        f"{what}, and {constants.ENDPOINT} does not answer",
        where=where,
        remedy="Connect this machine (HTTPS_PROXY and HF_ENDPOINT are honoured), or copy the model here and name its "
        "folder.",
    )


@contextmanager
def hub_errors(repo_id: str, revision: str | None) -> Iterator[None]:
    """Turn the hub library's errors into sentences."""
    page = f"{constants.ENDPOINT}/{repo_id}"
    try:
        yield
    except WorkbenchError:
        raise
    except GatedRepoError:
        raise MachineError(
            f"the model {repo_id!r} is gated: its owner has to grant you access",
            where=page,
            remedy="Ask for access on that page, then log in with `hf auth login` or export HF_TOKEN.",
        ) from None
    except RepositoryNotFoundError:
        raise UsageError(
            f"the hub has no model {repo_id!r}, or it is private and you are not logged in",
            where=page,
            remedy="Check the spelling; for a private model log in with `hf auth login` or export HF_TOKEN.",
        ) from None
    except (RevisionNotFoundError, RevisionResolutionError):
        raise UsageError(
            f"the model {repo_id!r} has no revision {revision!r}",
            where=page,
            remedy="Give a branch, tag or commit that the model's page lists, or leave model.revision out.",
        ) from None
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", "an error")
        raise MachineError(
            f"the hub answered {status} when asked for {repo_id!r}", where=page, remedy="Try again in a minute."
        ) from None
    except OSError as error:
        raise _machine_error(error, repo_id) from None
    except Exception as error:  # the network stack's own errors share no base with anything
        if type(error).__module__.partition(".")[0] not in ("httpx", "httpx2", "httpcore", "hf_xet"):
            raise
        raise MachineError(
            f"the connection to the hub broke while fetching {repo_id!r}: {type(error).__name__}",
            where=page,
            remedy="Try again: what has arrived is kept.",
        ) from None


def _machine_error(error: OSError, repo_id: str) -> MachineError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return MachineError(
            f"the disk is full while fetching {repo_id!r}",
            where=constants.HF_HUB_CACHE,
            remedy="Free space, or set model.cache_dir or HF_HOME to a larger disk.",
        )
    return MachineError(
        f"fetching {repo_id!r} failed: {first_line(error)}",
        where=constants.HF_HUB_CACHE,
        remedy="Try again: what came is kept.",
    )


def _reporting_bar(task: str, report: Report) -> type[Any]:
    """A progress bar class for the hub library that draws nothing and reports bytes."""

    class ReportingBar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._counts_bytes = kwargs.get("unit") == "B"
            kwargs.pop("name", None)
            super().__init__(*args, **{**kwargs, "disable": False, "file": _Nowhere(), "mininterval": 0.2})

        def update(self, n: float | None = 1) -> Any:
            shown = super().update(n)
            if self._counts_bytes:
                report(task, int(self.n), int(self.total) if self.total else None)
            return shown

    return ReportingBar


class _Nowhere:
    """A stream that takes everything and keeps nothing."""

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass
