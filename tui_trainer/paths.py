"""Where the workbench keeps things: state, caches, the run store, the shipped presets.

`TUI_TRAINER_HOME` moves all state; without it the XDG directories are used. `TUI_TRAINER_RUNS` moves the run store.
"""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def _base(kind: str, xdg_variable: str, fallback: str) -> Path:
    home = os.environ.get("TUI_TRAINER_HOME")
    if home:
        return Path(home).expanduser() / kind
    xdg = os.environ.get(xdg_variable)
    return (Path(xdg) if xdg else Path.home() / fallback) / "tui-trainer"


def cache_dir() -> Path:
    """Converted models, tokenised datasets, verdicts: everything that can be made again."""
    return _base("cache", "XDG_CACHE_HOME", ".cache")


def config_dir() -> Path:
    """The user's settings, key map and own presets."""
    return _base("config", "XDG_CONFIG_HOME", ".config")


def state_dir() -> Path:
    """Recent sources, transcripts, remembered consents."""
    return _base("state", "XDG_STATE_HOME", ".local/state")


def runs_dir() -> Path:
    """The run store: one directory a run."""
    return Path(os.environ.get("TUI_TRAINER_RUNS") or "runs").expanduser().absolute()


def presets_dir() -> Path:
    """The shipped presets: inside the installed package, beside it in a checkout."""
    packaged = _PACKAGE / "presets"
    return packaged if packaged.is_dir() else _PACKAGE.parent / "presets"


def typed_path(text: str) -> Path:
    """A path as a user types it, with the home folder for `~`; `~nobody`, who has none, stays as it is."""
    try:
        return Path(text.strip()).expanduser()
    except RuntimeError:
        return Path(text.strip())


def is_there(path: Path) -> bool:
    """Whether something lies at a path that a user typed; a name longer than any file's is just not there."""
    try:
        return path.exists()
    except OSError:
        return False


def make_private(directory: Path) -> Path:
    """Create `directory` (and its parents) readable by its owner only."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    return directory
