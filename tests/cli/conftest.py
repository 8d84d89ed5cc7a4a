"""A run store of its own for each test, runs in it that need no processes, and the command line in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tui_trainer.cli import output
from tui_trainer.cli.app import run
from tui_trainer.runs.events import Event
from tui_trainer.runs.identity import ProcessIdentity
from tui_trainer.runs.journal import JournalWriter
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.status import RunStatus, State, write_status
from tui_trainer.runs.store import create

CONFIG = """\
name = "trial"
[model]
name_or_path = "somewhere"
[data]
path = "rows.jsonl"
[training]
max_steps = 100000
save_steps = 1000
learning_rate = 1e-4
"""


@dataclass(frozen=True)
class Printed:
    """What a command left behind."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """The one JSON document on stdout."""
        return json.loads(self.out)


Call = Callable[..., Printed]


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run store; state and caches lie beside it."""
    monkeypatch.setenv("TUI_TRAINER_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("TUI_TRAINER_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Runs a command in this process."""

    def do(*words: str) -> Printed:
        capsys.readouterr()
        # a command of its own would not find consoles that another one made for another stdout
        output.talk.cache_clear()
        output.paper.cache_clear()
        code = run(words)
        printed = capsys.readouterr()
        return Printed(code, printed.out, printed.err)

    return do


def made_run(store: Path, name: str, state: State, *events: Event, config: str = CONFIG, **status: Any) -> RunLayout:
    """A run as it lies on the disk; a live one is held by this very process."""
    layout = create(name, config, {"versions": {"torch": "2.13"}, "parent": None}, root=store)
    with JournalWriter(layout.events) as journal:
        for event in events:
            journal.write(event)
    process = ProcessIdentity.current() if state.is_live else None
    write_status(layout, RunStatus(layout.id, state, process=process, **status))
    return layout
