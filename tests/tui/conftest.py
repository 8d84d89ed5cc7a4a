"""Fixtures of the interface's tests: an app over a fake world, a run store with runs in it, a clock that stands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tui_trainer.config.draft import Draft
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.status import State
from tui_trainer.tui import format as fmt
from tui_trainer.tui.app import WorkbenchApp
from tui_trainer.tui.target import Opening

from .fakes import FakeWorld
from .recorded import record_run

MakeApp = Callable[..., WorkbenchApp]


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's own files."""
    monkeypatch.setenv("TUI_TRAINER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TEXTUAL_ANIMATIONS", "none")


@pytest.fixture
def still_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run started five minutes ago; measuring takes no time; the caret of a field does not blink."""
    monkeypatch.setattr(fmt, "ago", lambda when: "5:00 ago")
    monkeypatch.setattr("tui_trainer.tui.screens.measure.time", SimpleNamespace(monotonic=lambda: 0.0))
    monkeypatch.setattr("textual.widgets.Input.cursor_blink", False)
    monkeypatch.setattr("textual.widgets.TextArea.cursor_blink", False)


@pytest.fixture
def world(tmp_path: Path) -> FakeWorld:
    return FakeWorld(tmp_path / "runs")


@pytest.fixture
def draft() -> Draft:
    """A draft that could be launched."""
    made = Draft()
    made.set_many(
        {"name": "medqa", "model.name_or_path": "demo:smollm2", "data.path": "medqa.jsonl", "data.max_length": 512}
    )
    return made


@pytest.fixture
def run(world: FakeWorld) -> RunLayout:
    """A run of 1,204 of 5,000 steps that is going on."""
    return record_run(world.root, "identity", steps=1204, max_steps=5000)


@pytest.fixture
def finished_run(world: FakeWorld) -> RunLayout:
    return record_run(world.root, "dates", steps=498, max_steps=498, state=State.FINISHED)


@pytest.fixture
def make_app(world: FakeWorld, draft: Draft) -> MakeApp:
    """Makes the app on a screen, with a draft and maybe a run in view."""

    def make(mode: str, run: RunLayout | None = None, *, with_draft: bool = True) -> WorkbenchApp:
        return WorkbenchApp(world.services, Opening(mode, draft if with_draft else Draft(), run), world.root)

    return make
