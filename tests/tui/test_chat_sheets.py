"""The sheets over the Chat screen: tokens and alternatives, what the model sees, branches, saving, sets of prompts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Static

from tui_trainer.errors import UsageError
from tui_trainer.runs.layout import RunLayout
from tui_trainer.tui.app import WorkbenchApp
from tui_trainer.tui.chat.measures import measure
from tui_trainer.tui.screens.branches import Branches
from tui_trainer.tui.screens.measure import MeasureSheet, PromptSet, ScoreSheet
from tui_trainer.tui.screens.reply_tokens import ReplyTokens
from tui_trainer.tui.screens.seen import Seen, parity_text
from tui_trainer.tui.widgets.ask import AskText, Confirm, Pick
from tui_trainer.tui.widgets.measure_table import MeasureTable
from tui_trainer.tui.widgets.reply_tokens import AlternativeList, ReplyFlow
from tui_trainer.tui.widgets.token_flow import TokenFlow

from .fake_chat import id_of
from .fakes import FakeWorld
from .recorded import record_checkpoints
from .test_chat_screen import WIDE, MakeApp, _with_second_model, ask, is_answered, said
from .waiting import wait_until


@pytest.fixture
def talked(make_app: MakeApp) -> Callable[[Pilot[Any], WorkbenchApp], Any]:
    async def talk(pilot: Pilot[Any], app: WorkbenchApp) -> None:
        await pilot.press("escape")
        await ask(pilot, app, "hi")

    return talk


def status(app: WorkbenchApp, selector: str) -> str:
    return str(app.screen.query_one(selector, Static).render())


async def test_another_token_is_taken_and_the_reply_goes_on_from_there(
    make_app: MakeApp, world: FakeWorld, talked: Any
) -> None:
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        await talked(pilot, app)
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, ReplyTokens))
        await wait_until(pilot, lambda: app.screen.query_one(AlternativeList).num_lines == 30)
        await pilot.press("right")
        await wait_until(pilot, lambda: (world.chat.asked("alternatives") or [{}])[-1].get("position") == 1)
        assert "token 2/2" in status(app, "#token-status")
        assert "log-probability: over 50 %" in status(app, "#token-legend")
        await pilot.press("enter", "down", "enter")
        await is_answered(pilot, app, "generate", 2)
        assert world.chat.asked("generate")[-1]["prefill_ids"] == [id_of("You said: "), 501]
        assert said(app)[-1][1].startswith("You said:  other1")


async def test_tokens_of_two_models_begin_with_their_difference(
    make_app: MakeApp, world: FakeWorld, talked: Any
) -> None:
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("escape")
        await _with_second_model(pilot, app)
        await ask(pilot, app, "hi")
        await pilot.press("t")
        await wait_until(pilot, lambda: isinstance(app.screen, ReplyTokens))
        await wait_until(pilot, lambda: "KL" in status(app, "#token-status"))
        assert "B against A" in status(app, "#token-legend")
        assert "A -0.10 (rank 1) · B -1.10 (rank 1)" in status(app, "#token-status")
        await pilot.press("n")
        assert app.screen.query_one(ReplyFlow).cursor == 0 or "token" in status(app, "#token-status")
        await pilot.press("escape")
        await wait_until(pilot, lambda: not isinstance(app.screen, ReplyTokens))
        assert len(world.chat.asked("generate")) == 0


async def test_what_the_model_sees_has_three_views(make_app: MakeApp, world: FakeWorld, talked: Any) -> None:
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        await talked(pilot, app)
        await pilot.press("w")
        await wait_until(pilot, lambda: "token 1/9" in status(app, "#seen-status"))
        assert world.chat.asked("render")[0]["reply"] == "You said: hi "
        assert "<|im_start|>" in status(app, "#seen-status")
        assert "special" in status(app, "#seen-status")
        await pilot.press("v")
        await wait_until(pilot, lambda: "trained" in status(app, "#seen-status"))
        flow = app.screen.query_one("#seen-training", TokenFlow)
        flow.action_last()
        await wait_until(pilot, lambda: "token 11/11" in status(app, "#seen-status"))
        assert "· trained" in status(app, "#seen-status")
        await pilot.press("v")
        assert "✔ the prompt is what training rendered" in str(
            app.screen.query_one("#seen-parity Static", Static).render()
        )
        await pilot.press("escape")
        await wait_until(pilot, lambda: not isinstance(app.screen, Seen))


def test_the_first_token_that_differs_is_marked() -> None:
    tokens = [{"id": n, "text": f"t{n}", "special": False} for n in range(30)]
    training = [*tokens[:20], {"id": 99, "text": "\x1bevil", "special": False}]
    answer = {
        "tokens": tokens,
        "training": {"tokens": training, "problems": [{"code": "template_not_prefix", "message": "history differs"}]},
        "parity": {"same": False, "first_difference": {"index": 20}, "message": "token 20 differs"},
        "template": None,
    }
    text = parity_text(answer)
    assert "✘ token 20 differs" in text.plain
    assert "␛evil" in text.plain
    assert "t7t8" not in text.plain
    assert "template_not_prefix: history differs" in text.plain
    marked = [text.plain[span.start : span.end] for span in text.spans if "reverse" in str(span.style)]
    assert marked == ["t20", "20 ", "␛evil", "99 "]


async def test_the_tree_of_branches_leads_to_each(make_app: MakeApp, world: FakeWorld, talked: Any) -> None:
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        await talked(pilot, app)
        world.chat.reply = "another"
        await pilot.press("r")
        await is_answered(pilot, app, "generate", 2)
        await pilot.press("b")
        await wait_until(pilot, lambda: isinstance(app.screen, Branches))
        await pilot.press("up", "enter")
        await wait_until(pilot, lambda: said(app)[-1] == ("assistant", "You said: hi "))


async def test_rows_are_added_and_transcripts_replaced_only_when_asked(
    make_app: MakeApp, talked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        await talked(pilot, app)
        await pilot.press("S", "j", "j", "enter", "enter")
        await wait_until(pilot, lambda: Path("chat.jsonl").exists())
        row = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "You said: hi "}]}
        assert json.loads(Path("chat.jsonl").read_text()) == row
        await pilot.press("S", "j", "j", "enter", "enter", "enter")
        await wait_until(pilot, lambda: len(Path("chat.jsonl").read_text().splitlines()) == 2)
        Path("chat.md").write_text("mine")
        await pilot.press("S", "enter", "enter")
        await wait_until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("n")
        await pilot.pause()
        assert Path("chat.md").read_text() == "mine"
        await pilot.press("S", "enter", "enter")
        await wait_until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await wait_until(pilot, lambda: Path("chat.md").read_text().startswith("## user"))


async def test_a_set_of_prompts_becomes_a_table_over_checkpoints(
    make_app: MakeApp, world: FakeWorld, talked: Any
) -> None:
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("escape", "o", *"dates@668", "enter")
        await ask(pilot, app, "hi")
        await pilot.press("m", *"set.jsonl", "enter")
        await wait_until(pilot, lambda: bool(world.chat.asked("read_prompts")))
        await pilot.pause()
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, PromptSet))
        await wait_until(pilot, lambda: "2 models, 2 prompts" in status(app, "#measure-status"))
        request = world.chat.asked("prompt_set")[0]
        assert request["models"] == ["dates"]
        table = app.screen.query_one(MeasureTable)
        shown = ["".join(text for text, _ in table.line_parts(line)) for line in range(table.num_lines)]
        assert shown[0].split() == ["step", "100", "10", "100%", "100%", "0%", "100%", "-0.500", "0.900", "0.100"]
        assert shown[1].split() == ["step", "200", "20", "100%", "0%", "100%", "100%", "-0.500", "0.900", "0.100"]
        await pilot.press("down")
        await pilot.pause()
        below = str(app.screen.query_one("#measure-replies Static", Static).render())
        assert "reply 0 at 200" in below
        assert "✔ exact" in below


async def test_a_set_of_prompts_at_some_checkpoints(
    make_app: MakeApp, world: FakeWorld, run: RunLayout, talked: Any
) -> None:
    record_checkpoints(run, 100, 200, 300, max_steps=300)
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("escape", "o", *f"{run.id}@300", "enter")
        await ask(pilot, app, "hi")
        await pilot.press("m", *"set.jsonl", "enter")
        await wait_until(pilot, lambda: isinstance(app.screen, Pick))
        await pilot.press("down", "enter")
        await wait_until(pilot, lambda: isinstance(app.screen, AskText))
        line = app.screen.query_one(Input)
        line.value = "7"
        await pilot.press("enter")
        await wait_until(pilot, lambda: "checkpoint '7'" in status(app, ".ask--error"))
        line.value = "every 2"
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, PromptSet))
        await wait_until(pilot, lambda: bool(world.chat.asked("prompt_set")))
        assert world.chat.asked("prompt_set")[0]["models"] == [f"{run.id}@100", f"{run.id}@300"]


async def test_measuring_is_stopped_and_what_came_stays(make_app: MakeApp, world: FakeWorld, talked: Any) -> None:
    world.chat.is_endless = False
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        await talked(pilot, app)
        world.chat.is_endless = True
        await pilot.press("m", "enter")
        await pilot.pause()
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, PromptSet) and len(app.screen.rows) == 2)
        assert world.chat.asked("prompt_set")[0]["prompts"] == [{"prompt": "hi"}]
        await pilot.press("escape")
        await wait_until(pilot, lambda: "stopped by you after 2 replies" in status(app, "#measure-status"))
        assert app.screen.query_one(MeasureTable).num_lines == 2
        await pilot.press("escape")
        await wait_until(pilot, lambda: not isinstance(app.screen, MeasureSheet))


async def test_two_models_are_scored_over_the_questions(make_app: MakeApp, world: FakeWorld, talked: Any) -> None:
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("escape")
        await _with_second_model(pilot, app)
        await ask(pilot, app, "hi")
        await pilot.press("m", "enter")
        await pilot.pause()
        await pilot.press("end", "enter")
        await wait_until(pilot, lambda: isinstance(app.screen, ScoreSheet))
        await wait_until(pilot, lambda: "KL of B against A 0.32" in status(app, "#measure-status"))
        assert "perplexity A 5, 2.3 bits a token · perplexity B 2" in status(app, "#measure-status")


async def test_a_file_that_cannot_be_read_is_told_of(
    make_app: MakeApp, world: FakeWorld, talked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(params: dict[str, Any], on_item: Any) -> Any:
        raise UsageError("there is no such file", where="none.jsonl")

    monkeypatch.setattr(world.chat, "_read_prompts", refuse)
    app = make_app("chat")
    async with app.run_test(size=WIDE, notifications=True) as pilot:
        await talked(pilot, app)
        await pilot.press("m", *"none.jsonl", "enter")
        await wait_until(pilot, lambda: any("no such file" in note.message for note in app._notifications))


def test_figures_are_means_of_what_is_there() -> None:
    rows = [
        {"model": "a", "step": 1, "num_tokens": 10, "finish_reason": "stop", "exact": True, "repeats": False},
        {"model": "a", "step": 1, "num_tokens": 20, "finish_reason": "length", "exact": None, "repeats": True},
    ]
    (line,) = measure(rows)
    assert (line.tokens, line.stopped, line.repeating, line.exact, line.regex) == (15.0, 0.5, 0.5, 1.0, None)


async def test_tokens_of_a_server_are_shown_with_what_it_sent_along(
    make_app: MakeApp, world: FakeWorld, talked: Any
) -> None:
    load = world.chat._load

    async def load_server(params: dict[str, Any], on_item: Any) -> dict[str, Any]:
        return await load(params, on_item) | {"kind": "server", "dialect": "llama.cpp"}

    world.chat._load = load_server  # type: ignore[method-assign]
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        await talked(pilot, app)
        reply = app.screen.conversation.tip.reply  # type: ignore[attr-defined]
        tops = [{"id": 7, "text": "You said: ", "logprob": -0.1}, {"id": 8, "text": "Me", "logprob": -2.0}]
        reply.tokens = [replace(reply.tokens[0], id=7, top=tops), replace(reply.tokens[1], id=None)]
        await pilot.press("t")
        await wait_until(pilot, lambda: isinstance(app.screen, ReplyTokens))
        await wait_until(pilot, lambda: app.screen.query_one(AlternativeList).num_lines == 2)
        assert "token 1/2 · id 7" in status(app, "#token-status")
        assert (app.screen.query_one(AlternativeList).row or {})["text"] == "You said: "
        await pilot.press("enter", "down", "enter")
        await wait_until(pilot, lambda: "cannot be made to go on" in status(app, "#token-status"))
        await pilot.press("escape", "right")
        await wait_until(pilot, lambda: "set the knob logprobs" in status(app, "#token-status"))
        assert world.chat.asked("tokens") == world.chat.asked("alternatives") == []
