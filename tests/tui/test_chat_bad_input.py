"""Wrong knobs on the Chat screen: the same table as for the command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from textual.widgets import Input, Static

from tests.bad_knobs import CONTRADICTIONS, IGNORED, OUT_OF_RANGE
from tui_trainer.config.catalogue import sampling_knobs
from tui_trainer.engine.generate.knobs import YOURS, inspect_knobs
from tui_trainer.errors import DataError, MachineError, UsageError, WorkbenchError
from tui_trainer.tui.app import WorkbenchApp
from tui_trainer.tui.widgets.ask import AskText
from tui_trainer.tui.widgets.knob_list import KnobList, parse

from .fakes import FakeWorld
from .test_chat_screen import WIDE, MakeApp, ask, said, shown, text_of
from .waiting import wait_until


def tells(app: WorkbenchApp, words: str) -> Callable[[], bool]:
    """Whether the text below the knobs says it."""
    return lambda: words in text_of(app, "#about-knob")


async def test_every_value_out_of_range_is_refused_where_it_is_typed(make_app: MakeApp) -> None:
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("escape", "p")
        knobs = app.screen.query_one(KnobList)
        for name, cases in OUT_OF_RANGE.items():
            for text, words in cases:
                with pytest.raises(ValueError, match=words):
                    parse(sampling_knobs()[name], text)
            knobs.go_to(name)
            before = knobs.value(name)
            await pilot.press("enter")
            await wait_until(pilot, lambda: isinstance(app.screen, AskText))
            app.screen.query_one(Input).value = text
            await pilot.press("enter")
            assert words in str(app.screen.query_one(".ask--error", Static).render()), name
            await pilot.press("escape")
            await wait_until(pilot, lambda: not isinstance(app.screen, AskText))
            assert knobs.value(name) == before


async def test_contradictions_and_knobs_without_effect_are_marked(make_app: MakeApp, world: FakeWorld) -> None:
    async def inspected(params: dict[str, Any], on_item: Any) -> Any:
        return inspect_knobs([(YOURS, params["params"])])

    world.chat._knobs = inspected  # type: ignore[method-assign]
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("escape")
        await ask(pilot, app, "hi")
        screen, knobs = app.screen, app.screen.query_one(KnobList)
        for given, words in CONTRADICTIONS:
            knobs.give_back()
            for name, text in given.items():
                knobs.set_text(name, text)
            await wait_until(pilot, tells(app, words))
        for given, name, words in IGNORED:
            knobs.give_back()
            for each, text in given.items():
                knobs.set_text(each, text)
            knobs.go_to(name)
            await wait_until(pilot, tells(app, words))
            assert "No effect: " in text_of(app, "#about-knob")
        assert app.screen is screen


FAILURES: list[WorkbenchError] = [
    UsageError("the prompt has 5019 tokens and the model's context is 512", remedy="Shorten the prompt."),
    DataError("the chat template refuses this conversation: only poems", remedy="Ask without a template."),
    UsageError("token 99999 does not exist: the model knows 259 tokens"),
    MachineError("the server cannot be reached: connection refused", remedy="Start it, or check host and port."),
    UsageError("the server does not speak OpenAI's language: it lists no models"),
]


async def test_what_cannot_be_answered_is_told_and_the_session_lives(make_app: MakeApp, world: FakeWorld) -> None:
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("escape")
        for error in FAILURES:
            world.chat.generate_error = error
            await ask(pilot, app, "hi")
            assert error.what[:40] in shown(app)
        world.chat.generate_error = None
        await ask(pilot, app, "ho")
        assert said(app)[-1] == ("assistant", "You said: ho ")
