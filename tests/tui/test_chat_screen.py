"""The Chat screen: loads at the first question, streams, stops, retries, turns knobs."""

from __future__ import annotations

from collections.abc import Callable

from textual.widgets import Input, Static

from tui_trainer.errors import MachineError
from tui_trainer.tui.app import WorkbenchApp
from tui_trainer.tui.screens.chat import ChatScreen
from tui_trainer.tui.widgets.field_list import FieldList
from tui_trainer.tui.widgets.transcript import Transcript

from .fakes import FakeWorld
from .waiting import wait_until

MakeApp = Callable[..., WorkbenchApp]


def _entries(app: WorkbenchApp) -> list[tuple[str, str]]:
    return [(entry.role, entry.text) for entry in app.screen.query_one(Transcript).entries]


def _last_note(app: WorkbenchApp) -> str:
    entries = app.screen.query_one(Transcript).entries
    return entries[-1].note if entries else ""


async def test_a_question_loads_the_model_and_streams_the_answer(make_app: MakeApp, world: FakeWorld) -> None:
    app = make_app("chat")
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.press(*"who", "enter")
        await wait_until(pilot, lambda: "stop" in _last_note(app))
        assert _entries(app) == [("user", "who"), ("assistant", "You said: who ")]
        assert [method for method, _ in world.chat.calls] == ["load", "generate"]
        assert "50.0 tok/s" in _last_note(app)
        assert "first token 0.12 s" in _last_note(app)


async def test_the_conversation_and_the_knobs_go_along(make_app: MakeApp, world: FakeWorld) -> None:
    app = make_app("chat")
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.press(*"one", "enter")
        await wait_until(pilot, lambda: "stop" in _last_note(app))
        await pilot.press("escape", "p")
        knobs = app.screen.query_one("#knobs", FieldList)
        knobs.go_to("top_k")
        await pilot.press("enter", *"5", "enter")
        await pilot.press("escape", "i", *"two", "enter")
        await wait_until(pilot, lambda: len(_entries(app)) == 4 and "stop" in _last_note(app))
        request = world.chat.calls[-1][1]
        assert [turn["role"] for turn in request["messages"]] == ["user", "assistant", "user"]
        assert request["params"]["top_k"] == 5
        assert request["params"]["temperature"] == 0.7


async def test_escape_stops_an_answer_and_keeps_what_came(make_app: MakeApp, world: FakeWorld) -> None:
    world.chat.is_endless = True
    app = make_app("chat")
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.press(*"go", "enter")
        await wait_until(pilot, lambda: _entries(app)[-1:] == [("assistant", "You said: go ")])
        await pilot.press("escape")
        await wait_until(pilot, lambda: "stopped" in _last_note(app))
        assert _entries(app)[-1] == ("assistant", "You said: go ")


async def test_retry_edit_and_undo(make_app: MakeApp) -> None:
    app = make_app("chat")
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.press(*"hi", "enter")
        await wait_until(pilot, lambda: "stop" in _last_note(app))
        await pilot.press("escape", "r")
        await wait_until(pilot, lambda: len(_entries(app)) == 2 and "stop" in _last_note(app))
        await pilot.press("e")
        await pilot.pause()
        assert app.screen.query_one("#line", Input).value == "hi"
        assert _entries(app) == []


async def test_a_model_that_cannot_be_loaded_is_told_of(make_app: MakeApp, world: FakeWorld) -> None:
    world.chat.load_error = MachineError("the hub does not answer", remedy="Use a folder.")
    app = make_app("chat")
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.press(*"hi", "enter")
        await wait_until(pilot, lambda: bool(_entries(app)))
        assert _entries(app) == [("error", "the hub does not answer. Use a folder.")]
        assert "the hub does not answer" in str(app.screen.query_one("#model", Static).render())


async def test_a_model_without_template_completes(make_app: MakeApp, world: FakeWorld) -> None:
    world.chat.has_template = False
    app = make_app("chat")
    async with app.run_test(size=(120, 36)) as pilot:
        await pilot.press(*"once", "enter")
        await wait_until(pilot, lambda: "stop" in _last_note(app))
        assert world.chat.calls[-1][1]["prompt"] == "once"
        assert "plain completion" in str(app.screen.query_one("#model", Static).render())


async def test_neutral_gives_all_knobs_back(make_app: MakeApp) -> None:
    app = make_app("chat")
    async with app.run_test(size=(120, 36)) as pilot:
        screen = app.screen
        assert isinstance(screen, ChatScreen)
        await pilot.press("escape", "p", "enter", *"0.1", "enter")
        await pilot.pause()
        assert screen.params() == {"temperature": 0.1}
        await pilot.press("z")
        assert screen.params() == {}
