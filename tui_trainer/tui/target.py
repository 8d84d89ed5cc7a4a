"""What `tui-trainer [RUN|CONFIG|SOURCE]` opens on."""

from __future__ import annotations

import sys
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from tui_trainer.errors import UsageError
from tui_trainer.paths import runs_dir
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.store import find_run, list_runs
from tui_trainer.text import safe_line

if TYPE_CHECKING:
    from tui_trainer.config.draft import Draft


_PATIENCE_SECONDS = 0.5


@dataclass(frozen=True)
class Opening:
    """What the app begins with.

    Attributes:
        mode: the first screen.
        draft: the configuration to edit; None for the defaults.
        run: the run in view.
    """

    mode: str = "data"
    draft: Draft | None = None
    run: RunLayout | None = None


def find_opening(target: str | None, root: Path | None = None) -> Opening:
    """What a target means: a configuration or preset, a run, else a dataset.

    Without a target: the run that is going on, if there is one.

    Raises:
        ConfigurationError: the configuration has problems.
        UsageError: several runs begin like the target.
    """
    if target is None:
        live = next((run for run in list_runs(root) if run.status.state.is_live), None)
        return Opening("train", run=live.layout) if live else Opening()
    from tui_trainer.config.draft import Draft
    from tui_trainer.config.presets import list_presets

    if target.endswith(".toml") or target in {preset.name for preset in list_presets()}:
        return Opening("args", draft=draft_from(target))
    try:
        return Opening("train", run=find_run(target, root))
    except UsageError as error:
        if "begin with" in error.what:
            raise
    draft = Draft(origin="defaults")
    draft.set("data.path", target)
    return Opening("data", draft=draft)


def wait_for_opening(target: str | None, root: Path | None = None, *, patience: float = _PATIENCE_SECONDS) -> Opening:
    """`find_opening` in a thread, which ctrl+c leaves behind; says on stderr what it waits for if that takes long.

    Raises:
        WorkbenchError: as `find_opening`.
    """
    found: Future[Opening] = Future()

    def find() -> None:
        try:
            found.set_result(find_opening(target, root))
        except BaseException as error:  # it is raised where it is waited for
            found.set_exception(error)

    # daemon: an operation on a dead network disk does not keep the interpreter from its end
    Thread(target=find, name="opening", daemon=True).start()
    try:
        return found.result(patience)
    except TimeoutError:
        sys.stderr.write(f"reading the run store {safe_line(str(root or runs_dir()))} …\n")
        return found.result()


def draft_from(reference: str) -> Draft:
    """A draft on top of a preset or a configuration file.

    Raises:
        ConfigurationError: it has problems.
        UsageError: there is no such preset or file.
    """
    from tui_trainer.config.draft import Draft
    from tui_trainer.config.load import read_layers

    return Draft(read_layers(reference), origin=reference)
