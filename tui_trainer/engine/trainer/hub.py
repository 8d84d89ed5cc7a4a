"""Uploading checkpoints to the hub while the training goes on: only published ones, only their files.

The library would upload the whole output directory, which here is the run with its log and configuration. Called by
`engine.trainer.trainer` on rank 0.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from transformers.trainer_utils import HubStrategy

from tui_trainer.engine.trainer.journal import EventLog
from tui_trainer.runs.events import Alert
from tui_trainer.runs.layout import RunLayout

FOR_RESUMING_ONLY = (
    "optimizer*",
    "scheduler.pt",
    "scaler.pt",
    "rng_state*.pth",
    "trainer_state.json",
    "manifest.json",
    "pytorch_model_fsdp*",
    "global_step*",
    "zero_to_fp32.py",
    "latest",
)
"""Files of a checkpoint that nobody needs who only uses the model."""

Upload = Callable[..., Any]
"""`HfApi.upload_folder` or what stands for it."""


class HubUploads:
    """Uploads the checkpoints of a run, one at a time.

    Args:
        layout: the run.
        events: where a failed upload is reported; the training goes on.
        repo_id: repository to upload to.
        strategy: what is uploaded: the end, the model at every save, also the newest checkpoint, also all of them.
        revision: branch to upload to.
        is_insistent: queue a checkpoint while the one before is still on its way, instead of leaving it out.
        upload: what uploads a folder.
    """

    def __init__(
        self,
        layout: RunLayout,
        events: EventLog,
        repo_id: str,
        strategy: HubStrategy,
        *,
        revision: str | None = None,
        is_insistent: bool = False,
        upload: Upload | None = None,
    ) -> None:
        self._folder = layout.root / "upload"
        self._events = events
        self._repo_id = repo_id
        self._strategy = strategy
        self._revision = revision
        self._is_insistent = is_insistent
        self._upload = upload or HfApi().upload_folder
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="hub")
        self._last: Future[None] | None = None

    def checkpoint_saved(self, path: Path, step: int, *, is_end: bool) -> None:
        """Begin to upload a published checkpoint, if the strategy wants it."""
        if self._strategy is HubStrategy.END and not is_end:
            return
        is_busy = self._last is not None and not self._last.done()
        if is_busy and not (self._is_insistent or is_end):
            return
        copy = self._folder / path.name
        linked_copy(path, copy)
        self._last = self._worker.submit(self._send, copy, step)

    def finish(self) -> None:
        """Wait for the uploads that are on their way."""
        self._worker.shutdown(wait=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _send(self, copy: Path, step: int) -> None:
        message = f"Training, step {step}"
        try:
            self._send_folder(copy, message, ignore_patterns=list(FOR_RESUMING_ONLY))
            if self._strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
                name = "last-checkpoint" if self._strategy is HubStrategy.CHECKPOINT else copy.name
                self._send_folder(copy, f"{message}, checkpoint", path_in_repo=name)
        except Exception as error:  # the hub's client raises errors of many libraries, none of which may end a training
            self._events.write(
                Alert(
                    step=step,
                    kind="hub",
                    message=f"checkpoint {step} was not uploaded to {self._repo_id}: {error}",
                    remedy="The training goes on. Upload it later with `hf upload`.",
                )
            )
        finally:
            shutil.rmtree(copy, ignore_errors=True)

    def _send_folder(self, folder: Path, message: str, **more: Any) -> None:
        self._upload(repo_id=self._repo_id, folder_path=folder, commit_message=message, revision=self._revision, **more)


def linked_copy(source: Path, target: Path) -> None:
    """Make a copy of a checkpoint that costs no space and stays when the checkpoint is rotated away."""
    shutil.rmtree(target, ignore_errors=True)
    try:
        shutil.copytree(source, target, copy_function=os.link)
    except OSError:  # a file system without links
        shutil.copytree(source, target, dirs_exist_ok=True)
