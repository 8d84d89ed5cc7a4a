"""Model and template of the draft are chosen from lists, on Data and Args alike; what is not listed can be typed."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, OptionList

from tests.slow_disk import SlowDisk
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.store import rename_run
from tui_trainer.tui.app import WorkbenchApp
from tui_trainer.tui.chat.targets import model_options
from tui_trainer.tui.screens.pick_model import PickModel
from tui_trainer.tui.screens.pick_template import PickTemplate
from tui_trainer.tui.widgets.field_list import FieldList
from tui_trainer.tui.widgets.group_list import GroupList
from tui_trainer.tui.widgets.search_pick import SearchPick

from .fakes import FakeWorld
from .test_type_ahead import burst
from .waiting import wait_until

MakeApp = Callable[..., WorkbenchApp]
MODEL = "model.name_or_path"
BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"


@pytest.fixture
def checkpoint(run: RunLayout) -> str:
    """A checkpoint of a run that began with a model of the hub."""
    run.checkpoint(400).mkdir(parents=True)
    run.config.write_text(f'name = "identity"\n[model]\nname_or_path = "{BASE}"\n', "utf-8")
    return f"{run.id}@400"


async def _to_field(app: WorkbenchApp, pilot: Pilot[None], key: str) -> list[str]:
    """Go to a field of the draft; returns the keys that edit it."""
    if app.current_mode == "data":
        await wait_until(pilot, lambda: app.focused is not None and app.focused.id == "rows")
        return ["m" if key == MODEL else "t"]
    await wait_until(pilot, lambda: app.session.dataset.state.verdict is not None)
    app.screen.query_one(GroupList).go_to("Model" if key == MODEL else "Data")
    await pilot.press("enter")
    app.screen.query_one("#fields", FieldList).go_to(key)
    return ["enter"]


def _lines(app: WorkbenchApp) -> list[str]:
    listing = app.screen.query_one(OptionList)
    return [str(listing.get_option_at_index(at).prompt) for at in range(listing.option_count)]


@pytest.mark.parametrize("mode", ["data", "args"])
async def test_the_model_is_a_checkpoint_or_what_is_typed_or_none(
    make_app: MakeApp, mode: str, checkpoint: str
) -> None:
    app = make_app(mode)
    config = app.session.draft
    async with app.run_test(size=(80, 24)) as pilot:
        keys = await _to_field(app, pilot, MODEL)
        await pilot.press(*keys)
        await wait_until(pilot, lambda: isinstance(app.screen, SearchPick))
        assert [line.split("  ")[0] for line in _lines(app)] == [
            "not set",
            "identity at step 400",
            "demo:smollm2",
            BASE,
        ]
        assert app.screen.query_one(OptionList).highlighted == 2, "the one that the draft has"
        await pilot.press("up", "enter")
        await wait_until(pilot, lambda: config.value(MODEL) == checkpoint)
        await pilot.press(*keys, *"./own", "enter")
        await wait_until(pilot, lambda: config.value(MODEL) == "./own")
        await pilot.press(*keys)
        await wait_until(pilot, lambda: isinstance(app.screen, SearchPick))
        await pilot.press("pageup", "enter")
        await wait_until(pilot, lambda: config.value(MODEL) is None)
        await pilot.press("u")
        await wait_until(pilot, lambda: config.value(MODEL) == "./own")


@pytest.mark.parametrize("mode", ["data", "args", "chat"])
async def test_a_model_typed_ahead_waits_for_a_list_from_a_slow_disk(
    make_app: MakeApp, mode: str, checkpoint: str, world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(mode)
    with monkeypatch.context() as patch:
        async with app.run_test(size=(80, 24)) as pilot:
            if mode == "chat":
                await pilot.press("escape")
            keys = ["o"] if mode == "chat" else await _to_field(app, pilot, MODEL)
            disk = SlowDisk(world.root, 0.01, patch)
            burst(app, *keys, *"smollm2", "5")
            await wait_until(pilot, lambda: isinstance(app.screen, SearchPick))
            await wait_until(pilot, lambda: app.screen.query_one(Input).value == "smollm25")
            assert isinstance(app.screen, PickModel) == (mode == "chat")
            assert disk.threads
            assert threading.main_thread() not in disk.threads
            patch.undo()


async def test_a_name_that_is_typed_whole_is_taken_not_one_that_mentions_it(make_app: MakeApp, checkpoint: str) -> None:
    app = make_app("data")
    async with app.run_test(size=(80, 24)) as pilot:
        keys = await _to_field(app, pilot, MODEL)
        for typed in (BASE, BASE.removesuffix("-Instruct"), "Org/identity"):
            await pilot.press(*keys)
            await wait_until(pilot, lambda: isinstance(app.screen, SearchPick))
            app.screen.query_one(Input).value = typed
            await pilot.press("enter")
            await wait_until(pilot, lambda: app.session.draft.value(MODEL) == typed)  # noqa: B023 - waited for here


async def test_args_picks_a_template_as_data_does(make_app: MakeApp, world: FakeWorld) -> None:
    app = make_app("args")
    async with app.run_test(size=(80, 24)) as pilot:
        keys = await _to_field(app, pilot, "data.template")
        burst(app, *keys, *"qwen")
        await wait_until(pilot, lambda: isinstance(app.screen, PickTemplate))
        await wait_until(pilot, lambda: app.screen.query_one(Input).value == "qwen")
        await wait_until(
            pilot,
            lambda: ("sample_as", "qwen3") in [(name, params.get("template")) for name, params in world.data.calls],
        )
        await pilot.press("enter")
        await wait_until(pilot, lambda: app.session.draft.value("data.template") == "qwen3")


def test_what_runs_began_with_is_listed_once(run: RunLayout, checkpoint: str) -> None:
    found = {value: note for value, _, note in model_options(run.root.parent, BASE)}
    assert found[BASE] == "the model of the arguments"
    assert list(found) == [checkpoint, BASE, "demo:smollm2"]
    assert {value: note for value, _, note in model_options(run.root.parent, None)}[BASE] == "a run began with it"


def test_runs_of_one_name_are_told_apart(run: RunLayout, checkpoint: str, finished_run: RunLayout) -> None:
    rename_run(finished_run, "identity")
    finished_run.checkpoint(20).mkdir(parents=True)
    lines = [line for _, line, _ in model_options(run.root.parent, None)]
    assert {f"{run.id} at step 400", f"{finished_run.id} at step 20"} <= set(lines)
