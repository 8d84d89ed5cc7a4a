"""The Runs screen: lists what the store holds, opens, renames, deletes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from textual.widgets import Static

from tui_trainer.runs.files import write_json
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.store import read_run
from tui_trainer.tui.app import WorkbenchApp
from tui_trainer.tui.widgets.run_table import RunTable

from .waiting import wait_until

MakeApp = Callable[..., WorkbenchApp]


async def test_runs_are_listed_newest_first(make_app: MakeApp, run: RunLayout, finished_run: RunLayout) -> None:
    app = make_app("runs")
    async with app.run_test(size=(120, 36)) as pilot:
        table = app.screen.query_one(RunTable)
        await wait_until(pilot, lambda: table.num_lines == 2)
        lines = ["".join(text for text, _ in table.line_parts(at)) for at in range(2)]
        assert "running" in lines[0]
        assert "identity" in lines[0]
        assert "finished" in lines[1]


async def test_enter_brings_a_run_into_view(make_app: MakeApp, run: RunLayout) -> None:
    app = make_app("runs")
    async with app.run_test(size=(120, 36)) as pilot:
        await wait_until(pilot, lambda: app.screen.query_one(RunTable).num_lines == 1)
        await pilot.press("enter")
        await wait_until(pilot, lambda: app.current_mode == "train")
        assert app.session.run.layout == run


async def test_a_clone_begins_with_what_was_chosen_and_finds_its_files(
    make_app: MakeApp, run: RunLayout, tmp_path: Path
) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    write_json(run.launch, {"cwd": str(folder)})
    run.config.write_text('name = "identity"\n[data]\npath = "rows.jsonl"\n[training]\nlearning_rate = 3e-4\n')
    app = make_app("runs")
    async with app.run_test(size=(120, 36)) as pilot:
        await wait_until(pilot, lambda: app.screen.query_one(RunTable).num_lines == 1)
        await pilot.press("a")
        await wait_until(pilot, lambda: app.current_mode == "args")
        draft = app.session.draft
        assert draft.value("data.path") == str(folder / "rows.jsonl")
        assert draft.value("training.learning_rate") == 3e-4
        assert draft.origin == run.id


async def test_renaming(make_app: MakeApp, run: RunLayout) -> None:
    app = make_app("runs")
    async with app.run_test(size=(120, 36)) as pilot:
        await wait_until(pilot, lambda: app.screen.query_one(RunTable).num_lines == 1)
        await pilot.press("R", *"better", "enter")
        await wait_until(pilot, lambda: read_run(run).name == "better")
        assert run.root.is_dir()


async def test_a_run_that_is_over_can_be_deleted(make_app: MakeApp, finished_run: RunLayout) -> None:
    app = make_app("runs")
    async with app.run_test(size=(120, 36)) as pilot:
        await wait_until(pilot, lambda: app.screen.query_one(RunTable).num_lines == 1)
        await pilot.press("D", "n")
        assert finished_run.root.exists()
        await pilot.press("D", "y")
        await wait_until(pilot, lambda: not finished_run.root.exists())


async def test_a_run_that_goes_on_is_not_deleted(make_app: MakeApp, run: RunLayout) -> None:
    app = make_app("runs")
    async with app.run_test(size=(120, 36)) as pilot:
        await wait_until(pilot, lambda: app.screen.query_one(RunTable).num_lines == 1)
        await pilot.press("D", "y")
        await pilot.pause()
        assert run.root.exists()


async def test_an_empty_store_says_what_to_do(make_app: MakeApp) -> None:
    app = make_app("runs")
    async with app.run_test(size=(80, 24)) as pilot:
        await wait_until(pilot, lambda: "No runs yet" in str(app.screen.query_one("#welcome", Static).render()))
