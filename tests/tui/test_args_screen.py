"""The Args screen: fields, where values come from, what they lead to, problems, launching."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from textual.widgets import Input, Static

from tui_trainer.errors import MachineError
from tui_trainer.procs.orders import LaunchOrder
from tui_trainer.procs.queue import Queue
from tui_trainer.runs.layout import RunLayout
from tui_trainer.tui.app import WorkbenchApp
from tui_trainer.tui.screens.text import TextScreen
from tui_trainer.tui.widgets.ask import Confirm, Pick
from tui_trainer.tui.widgets.chart import Chart
from tui_trainer.tui.widgets.field_list import FieldList
from tui_trainer.tui.widgets.group_list import GroupList
from tui_trainer.tui.widgets.pairs import Pairs

from .fakes import FakeWorld
from .waiting import wait_until

MakeApp = Callable[..., WorkbenchApp]
SIZE = (120, 36)


def _plan(app: WorkbenchApp) -> str:
    return " ".join(str(app.screen.query_one(Pairs).render()).split())


def _problems(app: WorkbenchApp) -> str:
    return str(app.screen.query_one("#problems", Static).render())


async def _ready(app: WorkbenchApp, pilot: object) -> None:
    await wait_until(pilot, lambda: app.session.dataset.state.shape is not None)  # type: ignore[arg-type]
    await wait_until(pilot, lambda: app.session.dataset.state.verdict is not None)  # type: ignore[arg-type]


async def test_fields_lead_to_steps_rate_and_memory(make_app: MakeApp) -> None:
    app = make_app("args")
    async with app.run_test(size=SIZE) as pilot:
        await _ready(app, pilot)
        assert "8 rows = 8 × 1 accumulated × 1 process" in _plan(app)
        assert "480, 160 an epoch" in _plan(app)
        assert "memory about" in _plan(app)
        app.screen.query_one(GroupList).go_to("Batch")
        await pilot.press("enter", "enter", *"4", "enter")
        await wait_until(pilot, lambda: "957, 319 an epoch" in _plan(app).replace("\u202f", ""))
        rate = app.screen.query_one("#rate", Chart).plot.curves[0].series
        assert rate.last_x >= 950


async def test_where_a_value_came_from_and_back(make_app: MakeApp) -> None:
    app = make_app("args")
    async with app.run_test(size=SIZE) as pilot:
        await _ready(app, pilot)
        app.screen.query_one(GroupList).go_to("Optimiser")
        await pilot.press("enter")
        fields = app.screen.query_one("#fields", FieldList)
        fields.go_to("training.learning_rate")
        await pilot.press("enter", *"2e-4", "enter")
        await pilot.pause()
        assert fields.field is not None
        assert (fields.field.value, fields.field.layer) == ("0.0002", "typed")
        await pilot.press("backspace")
        await pilot.pause()
        assert (fields.field.value, fields.field.layer) == ("5e-05", "default")
        await pilot.press("u")
        await pilot.pause()
        assert fields.field.value == "0.0002"


async def test_the_field_of_that_name_is_found_first(make_app: MakeApp) -> None:
    app = make_app("args")
    async with app.run_test(size=SIZE) as pilot:
        await _ready(app, pilot)
        await pilot.press("slash", *"max_steps", "enter")
        fields = app.screen.query_one("#fields", FieldList)
        await wait_until(pilot, lambda: fields.field is not None and fields.field.key == "training.max_steps")


async def test_search_finds_fields_by_what_they_do(make_app: MakeApp) -> None:
    app = make_app("args")
    async with app.run_test(size=SIZE) as pilot:
        await _ready(app, pilot)
        await pilot.press("slash", *"clipping", "enter")
        fields = app.screen.query_one("#fields", FieldList)
        await wait_until(pilot, lambda: fields.field is not None and fields.field.key == "training.max_grad_norm")
        await pilot.press("escape")
        assert app.screen.query_one("#search", Input).value == ""


async def test_lora_switches_its_whole_group(make_app: MakeApp) -> None:
    app = make_app("args")
    async with app.run_test(size=SIZE) as pilot:
        await _ready(app, pilot)
        app.screen.query_one(GroupList).go_to("LoRA")
        await pilot.press("enter", "space")
        await pilot.pause()
        assert app.session.draft.config.lora is not None
        await pilot.press("space")
        await pilot.pause()
        assert app.session.draft.config.lora is None


async def test_a_problem_is_shown_and_one_key_away(make_app: MakeApp) -> None:
    app = make_app("args")
    async with app.run_test(size=SIZE) as pilot:
        await _ready(app, pilot)
        app.session.draft.set_many({"training.bf16": True, "training.fp16": True})
        app.session.draft_edited()
        await pilot.pause()
        assert "✘ training." in _problems(app)
        await pilot.press("L")
        await pilot.pause()
        field = app.screen.query_one("#fields", FieldList).field
        assert field is not None
        assert field.key in ("training.bf16", "training.fp16")
        assert field.has_problem


async def test_launching_asks_where_something_speaks_against_it(make_app: MakeApp, world: FakeWorld) -> None:
    app = make_app("args")
    async with app.run_test(size=SIZE) as pilot:
        await _ready(app, pilot)
        await pilot.press("L")
        await wait_until(pilot, lambda: isinstance(app.screen, Confirm))
        text = "\n".join(str(static.render()) for static in app.screen.query(Static))
        assert "the answer is cut" in text
        await pilot.press("n")
        assert world.launched == []
        await pilot.press("L", "y")
        await wait_until(pilot, lambda: app.current_mode == "train")
        assert [resolved.config.name for resolved in world.launched] == ["medqa"]
        assert world.agreed == [("answer_cut",)]
        assert app.session.run.layout is not None


async def test_data_that_cannot_be_trained_on_is_not_launched(make_app: MakeApp, world: FakeWorld) -> None:
    world.data.blocks_launch = True
    app = make_app("args")
    async with app.run_test(size=SIZE) as pilot:
        await _ready(app, pilot)
        await pilot.press("L")
        await pilot.pause()
        assert not isinstance(app.screen, Confirm)
        assert world.launched == []


async def test_a_start_that_fails_is_told_of(make_app: MakeApp, world: FakeWorld) -> None:
    world.start_error = MachineError("the disk is full", remedy="Free space.")
    world.data.problems = []
    app = make_app("args")
    async with app.run_test(size=SIZE) as pilot:
        await _ready(app, pilot)
        await pilot.press("L")
        await wait_until(pilot, lambda: isinstance(app.screen, Confirm) or bool(app._notifications))
        if isinstance(app.screen, Confirm):
            await pilot.press("y")
        await wait_until(pilot, lambda: any("the disk is full" in note.message for note in app._notifications))
        assert app.current_mode == "args"


async def test_the_command_and_the_file_that_would_run(make_app: MakeApp) -> None:
    app = make_app("args")
    async with app.run_test(size=SIZE) as pilot:
        await _ready(app, pilot)
        await pilot.press("p")
        await wait_until(pilot, lambda: isinstance(app.screen, TextScreen))
        text = "\n".join(str(static.render()) for static in app.screen.query(Static))
        assert "accelerate launch" in text
        assert 'name_or_path = "demo:smollm2"' in text


async def test_saving_and_opening_the_file_gives_the_same_configuration(make_app: MakeApp, tmp_path: Path) -> None:
    from tui_trainer.config.load import load_config

    app = make_app("args")
    target = tmp_path / "saved.toml"
    async with app.run_test(size=SIZE) as pilot:
        await _ready(app, pilot)
        await pilot.press("s", *str(target), "enter")
        await wait_until(pilot, target.exists)
    assert load_config(str(target)).config == app.session.draft.config


async def test_a_preset_becomes_the_layer_below(make_app: MakeApp) -> None:
    app = make_app("args")
    async with app.run_test(size=SIZE) as pilot:
        await _ready(app, pilot)
        await pilot.press("P")
        await pilot.pause()
        await pilot.press("enter")
        await wait_until(pilot, lambda: app.session.draft.origin != "defaults")
        assert app.session.draft.layer("data.path").value == "preset"


async def test_queueing(make_app: MakeApp, world: FakeWorld) -> None:
    app = make_app("args")
    async with app.run_test(size=SIZE) as pilot:
        await _ready(app, pilot)
        await pilot.press("Q", "y")
        await wait_until(pilot, lambda: app.current_mode == "train")
        assert world.queued == [True]


async def test_where_others_are_at_work_it_is_asked_whether_to_wait(
    make_app: MakeApp, world: FakeWorld, run: RunLayout
) -> None:
    Queue().hold(run, LaunchOrder(("x",), num_cpus=1))
    app = make_app("args")
    async with app.run_test(size=(120, 36)) as pilot:
        await _ready(app, pilot)
        await pilot.press("L", "y")
        await wait_until(pilot, lambda: isinstance(app.screen, Pick))
        await pilot.press("enter")
        await wait_until(pilot, lambda: app.current_mode == "train")
        assert world.queued == [True]


async def test_code_of_a_repository_is_asked_for_once(make_app: MakeApp) -> None:
    app = make_app("args")
    async with app.run_test(size=SIZE) as pilot:
        await _ready(app, pilot)
        draft = app.session.draft
        app.screen.set_field("model.trust_remote_code", "true")  # type: ignore[attr-defined]
        await wait_until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("n")
        assert draft.value("model.trust_remote_code") is False
        app.screen.set_field("model.trust_remote_code", "true")  # type: ignore[attr-defined]
        await wait_until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        assert draft.value("model.trust_remote_code") is True
        app.screen.set_field("model.trust_remote_code", "true")  # type: ignore[attr-defined]
        await pilot.pause()
        assert not isinstance(app.screen, Confirm)
