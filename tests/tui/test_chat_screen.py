"""The Chat screen: loads at the first question, streams, stops, branches, turns knobs, compares two models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from textual.pilot import Pilot
from textual.widgets import Input, OptionList, Static

from tui_trainer.config.knob_presets import find_knob_preset, save_knob_preset
from tui_trainer.errors import MachineError, RunFailedError
from tui_trainer.runs.layout import RunLayout
from tui_trainer.tui.app import WorkbenchApp
from tui_trainer.tui.chat.reply import Reply, Token
from tui_trainer.tui.chat.targets import model_options
from tui_trainer.tui.screens.chat import ChatScreen
from tui_trainer.tui.screens.pick_model import PickModel
from tui_trainer.tui.widgets.ask import AskText
from tui_trainer.tui.widgets.knob_list import KnobList
from tui_trainer.tui.widgets.prompt_line import PromptLine
from tui_trainer.tui.widgets.search_pick import SearchPick
from tui_trainer.tui.widgets.transcript import Said, Transcript, TurnView

from .fake_chat import text_shown
from .fakes import FakeWorld
from .waiting import wait_until

MakeApp = Callable[..., WorkbenchApp]
WIDE = (120, 36)


def transcript_of(app: WorkbenchApp) -> Transcript:
    return app.screen_stack[0].query_one(Transcript)


def said(app: WorkbenchApp) -> list[tuple[str, str]]:
    return list(transcript_of(app).said)


def shown(app: WorkbenchApp) -> str:
    return text_shown(transcript_of(app)).plain


def text_of(app: WorkbenchApp, selector: str) -> str:
    return str(app.screen_stack[0].query_one(selector, Static).render())


async def ask(pilot: Pilot[Any], app: WorkbenchApp, question: str) -> None:
    """Type a question and wait for its whole answer."""
    await pilot.press("i")
    app.screen.query_one(PromptLine).fill(question)
    await pilot.press("enter")
    await wait_until(pilot, lambda: ("user", question) in said(app)[-2:-1] and not transcript_of(app).is_waiting)
    await pilot.press("escape")


async def is_answered(pilot: Pilot[Any], app: WorkbenchApp, asked: str, times: int) -> None:
    world_calls = app.services.chat
    await wait_until(pilot, lambda: len(world_calls.asked(asked)) == times)  # type: ignore[attr-defined]
    await wait_until(pilot, lambda: not transcript_of(app).is_waiting)


async def test_a_question_loads_the_model_and_streams_the_answer(make_app: MakeApp, world: FakeWorld) -> None:
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("escape")
        await ask(pilot, app, "who")
        assert said(app) == [("user", "who"), ("assistant", "You said: who ")]
        assert [method for method, _ in world.chat.calls][:2] == ["load", "knobs"]
        assert "stop · 2/256 tokens · 50.0 tok/s · first token 0.12 s · seed 7" in shown(app)
        assert "135 M parameters · cpu float32 · decode fused" in text_of(app, "#model-a")


async def test_the_conversation_and_only_set_knobs_go_along(make_app: MakeApp, world: FakeWorld) -> None:
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("escape")
        await ask(pilot, app, "one")
        await pilot.press("p")
        app.screen.query_one("#knobs", KnobList).go_to("top_k")
        await pilot.press("enter", *"5", "enter", "escape")
        await ask(pilot, app, "two")
        request = world.chat.asked("generate")[-1]
        assert [turn["role"] for turn in request["messages"]] == ["user", "assistant", "user"]
        assert request["params"] == {"top_k": 5, "logprobs": 0}


async def test_escape_stops_an_answer_and_keeps_what_came(make_app: MakeApp, world: FakeWorld) -> None:
    world.chat.is_endless = True
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press(*"go", "enter")
        await wait_until(pilot, lambda: said(app)[-1:] == [("assistant", "You said: go ")])
        await pilot.press("escape")
        await wait_until(pilot, lambda: "stopped by you · 2 tokens" in shown(app))
        world.chat.is_endless = False
        await pilot.press("escape", "c")
        await is_answered(pilot, app, "generate", 2)
        assert len(world.chat.asked("generate")[-1]["prefill_ids"]) == 2


async def test_retries_and_edits_are_branches_between_which_arrows_go(make_app: MakeApp, world: FakeWorld) -> None:
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("escape")
        await ask(pilot, app, "hi")
        world.chat.reply = "another"
        await pilot.press("r")
        await is_answered(pilot, app, "generate", 2)
        assert said(app)[-1] == ("assistant", "another")
        assert "‹2/2›" in shown(app)
        await pilot.press("left")
        await wait_until(pilot, lambda: said(app)[-1] == ("assistant", "You said: hi "))
        await pilot.press("e")
        line = app.screen.query_one(PromptLine)
        assert line.text == "hi"
        line.fill("ho")
        await pilot.press("enter")
        await is_answered(pilot, app, "generate", 3)
        assert said(app)[0] == ("user", "ho")
        await pilot.press("escape", "up", "left")
        await wait_until(pilot, lambda: said(app) == [("user", "hi"), ("assistant", "You said: hi ")])


async def test_undo_leaves_the_question_aside_and_down_enters_it_again(make_app: MakeApp) -> None:
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("escape")
        await ask(pilot, app, "one")
        await ask(pilot, app, "two")
        await pilot.press("u")
        await wait_until(pilot, lambda: len(said(app)) == 2)
        assert "a branch goes on from here" in text_of(app, "#goes-on")
        await pilot.press("down")
        await wait_until(pilot, lambda: len(said(app)) == 4)
        await pilot.press("n")
        await wait_until(pilot, lambda: said(app) == [])
        assert "a branch goes on" in text_of(app, "#goes-on")


async def test_several_answers_stand_together_and_one_goes_on(make_app: MakeApp, world: FakeWorld) -> None:
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        app.screen.query_one(KnobList).set_text("n", "3")
        await pilot.press("escape")
        await ask(pilot, app, "hi")
        assert len(app.screen.query(Said)) == 4
        await pilot.press("plus")
        await wait_until(pilot, lambda: transcript_of(app).conversation.tip.place == (2, 3))


async def test_continue_lengthens_the_reply_from_its_exact_tokens(make_app: MakeApp, world: FakeWorld) -> None:
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("escape")
        await ask(pilot, app, "hi")
        world.chat.reply = "and more"
        await pilot.press("c")
        await is_answered(pilot, app, "generate", 2)
        assert said(app)[-1] == ("assistant", "You said: hi and more")
        request = world.chat.asked("generate")[-1]
        assert [turn["role"] for turn in request["messages"]] == ["user"]
        assert len(request["prefill_ids"]) == 2


async def test_replies_begin_with_what_was_typed_and_a_system_message_goes_first(
    make_app: MakeApp, world: FakeWorld
) -> None:
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("escape", "a", *"Sure", "enter", "s", *"Short", "enter")
        await pilot.pause()
        assert "Sure" in str(app.screen.query_one(PromptLine).border_title)
        await ask(pilot, app, "hi")
        request = world.chat.asked("generate")[-1]
        assert request["prefill"] == "Sure"
        assert request["messages"][0] == {"role": "system", "content": "Short"}
        assert said(app)[-1][1].startswith("SureYou said")
        assert "Short" in text_of(app, "#said-before")


async def test_a_model_that_cannot_be_loaded_is_told_of(make_app: MakeApp, world: FakeWorld) -> None:
    world.chat.load_error = MachineError("the hub does not answer", remedy="Use a folder.")
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press(*"hi", "enter")
        await wait_until(pilot, lambda: len(said(app)) == 2)
        assert "the hub does not answer. Use a folder." in shown(app)
        assert "the hub does not answer" in text_of(app, "#model-a")
        world.chat.load_error = None
        await pilot.press("escape")
        await pilot.press("r")
        await is_answered(pilot, app, "generate", 1)
        assert said(app)[-1] == ("assistant", "You said: hi ")


async def test_a_worker_that_died_is_started_and_loaded_again(make_app: MakeApp, world: FakeWorld) -> None:
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("escape")
        await ask(pilot, app, "hi")
        world.chat.generate_error = MachineError("the chat worker ended: killed by SIGKILL", remedy="Try again.")
        await ask(pilot, app, "ho")
        assert "killed by SIGKILL" in shown(app)
        world.chat.generate_error = None
        await ask(pilot, app, "hu")
        assert len(world.chat.asked("load")) == 2
        assert [turn["content"] for turn in world.chat.asked("generate")[-1]["messages"]] == [
            "hi",
            "You said: hi ",
            "hu",
        ]


async def test_a_worker_that_died_between_two_questions_is_loaded_again(make_app: MakeApp, world: FakeWorld) -> None:
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("escape")
        await ask(pilot, app, "hi")
        world.chat.pid = None
        await ask(pilot, app, "ho")
        assert len(world.chat.asked("load")) == 2


async def test_an_error_is_a_sentence_and_the_session_lives(make_app: MakeApp, world: FakeWorld) -> None:
    world.chat.generate_error = RunFailedError("out of memory on cpu: needs 9.1 GiB, and 2.0 GiB are free")
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("escape")
        await ask(pilot, app, "hi")
        assert "needs 9.1 GiB" in shown(app)
        world.chat.generate_error = None
        await ask(pilot, app, "ho")
        assert said(app) == [("user", "ho"), ("assistant", "You said: ho ")]


async def test_a_model_without_template_completes(make_app: MakeApp, world: FakeWorld) -> None:
    world.chat.has_template = False
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("escape")
        await ask(pilot, app, "once")
        assert world.chat.asked("generate")[-1]["prompt"] == "once"
        assert "plain completion" in text_of(app, "#model-a")


async def test_the_chat_template_is_chosen_by_name_by_file_and_left_again(make_app: MakeApp, world: FakeWorld) -> None:
    app = make_app("chat")
    async with app.run_test(size=WIDE, notifications=True) as pilot:

        async def choose(value: str, typed: str = "") -> None:
            await pilot.press("A")
            await wait_until(pilot, lambda: isinstance(app.screen, SearchPick))
            app.screen.query_one(Input).value = value
            await pilot.pause()
            lines = [str(option.prompt) for option in app.screen.query_one(OptionList).options]
            assert lines[0].startswith(value)
            await pilot.press("enter")
            if typed:
                await wait_until(pilot, lambda: isinstance(app.screen, AskText))
                app.screen.query_one(Input).value = typed
                await pilot.press("enter")
            await wait_until(pilot, lambda: isinstance(app.screen, ChatScreen))
            await pilot.pause()

        def title() -> str:
            return str(app.screen.query_one(PromptLine).border_title)

        await pilot.press("escape")
        await choose("plain")
        await wait_until(pilot, lambda: title() == "template plain")
        await choose("variables", '{mood = "wild"}')
        assert title() == "template plain, mood=wild"
        await ask(pilot, app, "hi")
        asked = world.chat.asked("generate")[-1]
        assert (asked["template"], asked["template_kwargs"]) == ("plain", {"mood": "wild"})
        await pilot.press("w")
        await wait_until(pilot, lambda: bool(world.chat.asked("render")))
        assert world.chat.asked("render")[-1]["template"] == "plain"
        await pilot.press("escape")
        await choose("gone")
        await wait_until(pilot, lambda: any("cannot be had" in note.message for note in app._notifications))
        assert title() == "template plain, mood=wild"
        await choose("none")
        await wait_until(pilot, lambda: title().startswith("no chat template: plain completion"))
        await ask(pilot, app, "ho")
        assert world.chat.asked("generate")[-1]["prompt"] == "ho"
        await choose("as it was trained")
        await wait_until(pilot, lambda: title() == "mood=wild")
        await ask(pilot, app, "ha")
        assert "template" not in world.chat.asked("generate")[-1]


async def test_escape_sequences_and_endless_text_are_shown_harmlessly(make_app: MakeApp, world: FakeWorld) -> None:
    world.chat.reply = "\x1b[2J\x1b]52;c;AAAA\x07" + "x" * 50_000
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("escape")
        await ask(pilot, app, "hi")
        assert "\x1b" not in shown(app)
        assert "␛[2J" in shown(app)
        assert "more characters" in shown(app)
        assert len(shown(app)) < 25_000
        await pilot.press("v")
        await pilot.pause()
        assert "\x1b" not in shown(app)


async def test_many_lines_can_be_pasted_and_typed(make_app: MakeApp, world: FakeWorld) -> None:
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("a", "ctrl+j", "b", "enter")
        await is_answered(pilot, app, "generate", 1)
        assert world.chat.asked("generate")[0]["messages"][-1]["content"] == "a\nb"


# Knobs


async def test_knobs_say_where_they_come_from_and_what_they_take(make_app: MakeApp, world: FakeWorld) -> None:
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("escape")
        await ask(pilot, app, "hi")
        await wait_until(pilot, lambda: "generation_config" in text_of(app, "#about-knob"))
        assert "at least 0 and at most 2" in text_of(app, "#about-knob")
        await pilot.press("p", "enter", *"0", "enter")
        await wait_until(pilot, lambda: text_of(app, "#about-knob").startswith("greedy"))
        knobs = app.screen.query_one(KnobList)
        knobs.move_cursor(1)
        await wait_until(pilot, lambda: "No effect: temperature 0" in text_of(app, "#about-knob"))


async def test_arrows_step_a_number_and_stop_at_the_end_of_its_range(make_app: MakeApp) -> None:
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("escape", "p", "left", "left")
        knobs = app.screen.query_one(KnobList)
        assert knobs.value("temperature") == (0.8, "you")
        await pilot.press("down", "right", "left")
        assert knobs.value("top_p") == (0.95, "you")
        knobs.go_to("max_tokens")
        await pilot.press("right")
        assert knobs.value("max_tokens") == (266, "you")
        knobs.go_to("top_k")
        await pilot.press("left")
        assert knobs.value("top_k") == (-1, "default")


async def test_an_answer_of_half_a_character_can_be_gone_on_with(make_app: MakeApp, world: FakeWorld) -> None:
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        screen = app.screen
        assert isinstance(screen, ChatScreen)
        question = screen.conversation.ask("hi")
        half = Reply(tokens=[Token(195, "", -1.0, 1, "<0xC3>")], finish_reason="length")
        screen.conversation.answer(question, [half])
        await screen.transcript.show()
        await pilot.press("escape", "c")
        await wait_until(pilot, lambda: "generate" in [method for method, _ in world.chat.calls])
        request = next(asked for method, asked in world.chat.calls if method == "generate")
        assert request["prefill_ids"] == [195]


async def test_a_wrong_value_is_refused_with_the_range(make_app: MakeApp) -> None:
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("escape", "p", "enter", *"3", "enter")
        await pilot.pause()
        error = app.screen.query_one(".ask--error", Static)
        assert "must be a number at least 0 and at most 2, not 3" in str(error.render())


async def test_a_contradiction_is_marked_with_its_remedy(make_app: MakeApp, world: FakeWorld) -> None:
    world.chat.problems = [{"key": "best_of", "message": "is 1, and n = 2 are wanted", "remedy": "set 2"}]
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("escape")
        await ask(pilot, app, "hi")
        await wait_until(pilot, lambda: "best_of is 1, and n = 2 are wanted. set 2" in text_of(app, "#about-knob"))


async def test_neutral_sets_against_the_model_and_give_back_undoes(make_app: MakeApp) -> None:
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        screen = app.screen
        assert isinstance(screen, ChatScreen)
        await pilot.press("escape")
        await ask(pilot, app, "hi")
        await wait_until(pilot, lambda: screen.query_one(KnobList).value("temperature") == (0.7, "model"))
        screen.query_one(KnobList).set_text("presence_penalty", "1.5")
        screen.query_one(KnobList).set_text("max_tokens", "9")
        await pilot.press("z")
        assert screen.params() == {"temperature": 1.0, "max_tokens": 9}
        await pilot.press("Z")
        assert screen.params() == {}


async def test_presets_keep_and_take_only_what_differs(make_app: MakeApp) -> None:
    save_knob_preset("mine", {"temperature": 0.25})
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        screen = app.screen
        assert isinstance(screen, ChatScreen)
        await pilot.press("escape", "P")
        await pilot.pause()
        options = app.screen.query_one(OptionList)
        options.highlighted = options.option_count - 1
        await pilot.press("enter")
        await pilot.pause()
        assert screen.params() == {"temperature": 0.25}
        assert screen.query_one(KnobList).value("temperature") == (0.25, "preset mine")
        screen.query_one(KnobList).set_text("top_k", "7")
        await pilot.press("P", "enter", *"new", "enter")
        await pilot.pause()
        assert find_knob_preset("new").values == {"temperature": 0.25, "top_k": 7}


# Colours and two models


async def test_colours_go_through_their_modes_with_a_legend(make_app: MakeApp) -> None:
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("escape")
        await ask(pilot, app, "a b c")
        assert not app.screen.query_one("#legend").display
        await pilot.press("v")
        assert "log-probability: over 50 %" in text_of(app, "#legend")
        styles = [str(span.style) for span in text_shown(transcript_of(app)).spans]
        assert any("reverse" in style for style in styles)
        await pilot.press("v")
        assert "rank: first" in text_of(app, "#legend")
        await pilot.press("v")
        assert not app.screen.query_one("#legend").display


async def _with_second_model(pilot: Pilot[Any], app: WorkbenchApp) -> None:
    await pilot.press("O", *"base", "enter")
    await wait_until(pilot, lambda: app.screen_stack[0].models.slot("b").is_loaded)  # type: ignore[attr-defined]


async def test_two_models_answer_side_by_side_with_their_differences(make_app: MakeApp, world: FakeWorld) -> None:
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("escape")
        await _with_second_model(pilot, app)
        await ask(pilot, app, "hi")
        assert world.chat.asked("compare")[0]["messages"][-1]["content"] == "hi"
        assert world.chat.asked("compare")[0]["params"]["temperature"] == 0.7  # what A asks for, B gets too
        view = list(app.screen.query(TurnView))[-1]
        first, second = view.query(Said)
        assert first.region.y == second.region.y
        assert first.region.right <= second.region.x
        assert second.turn.text == "You said: hi indeed "
        assert second.turn.reply is not None
        assert second.turn.reply.different == frozenset({2})
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        first, second = list(app.screen.query(TurnView))[-1].query(Said)
        assert first.region.bottom <= second.region.y


async def test_what_training_changed_is_a_colour(make_app: MakeApp, world: FakeWorld) -> None:
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("escape")
        await _with_second_model(pilot, app)
        await ask(pilot, app, "hi")
        await pilot.press("v", "v", "v")
        await wait_until(pilot, lambda: "perplexity A 3.32 · perplexity B 1.49 · KL 0.25" in shown(app))
        assert "B against A: B far more likely" in text_of(app, "#legend")
        assert len(world.chat.asked("tokens")) == 2


async def test_the_second_model_can_be_dropped(make_app: MakeApp, world: FakeWorld) -> None:
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("escape")
        await _with_second_model(pilot, app)
        await pilot.press("O", "home", "enter")
        await wait_until(pilot, lambda: not app.screen_stack[0].models.has_other)  # type: ignore[attr-defined]
        assert world.chat.asked("unload") == [{"slot": "b"}]


# Targets


async def test_a_server_is_asked_for_its_models(make_app: MakeApp, world: FakeWorld) -> None:
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("escape", "o")
        await pilot.pause()
        app.screen.query_one(Input).value = "http://localhost:8000/v1"
        await pilot.press("enter")
        await wait_until(pilot, lambda: app.screen.query_one(OptionList).option_count == 2)
        assert "vllm, without best_of" in str(app.screen.query_one(OptionList).get_option_at_index(0).prompt)
        await pilot.press("down", "enter")
        await wait_until(pilot, lambda: bool(world.chat.asked("load")))
        assert world.chat.asked("load")[0]["model"] == "http://localhost:8000/v1#large"


async def test_an_adapter_is_put_on_a_base(make_app: MakeApp, world: FakeWorld) -> None:
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("escape", "o")
        await pilot.pause()
        app.screen.query_one(Input).value = "demo:smollm2 + runs/x/adapter"
        await pilot.pause()
        await pilot.press("enter")
        await wait_until(pilot, lambda: bool(world.chat.asked("load")))
        request = world.chat.asked("load")[0]
        assert (request["model"], request["adapter"]) == ("demo:smollm2", "runs/x/adapter")


async def test_the_run_is_followed_and_left(make_app: MakeApp, world: FakeWorld, run: RunLayout) -> None:
    world.chat.follow_items = [
        {"event": "waiting"},
        {"event": "swapped", "step": 1200, "path": "x", "age_seconds": 180, "how": "weights in place", "device": "cpu"},
    ]
    app = make_app("chat", run)
    async with app.run_test(size=(160, 48)) as pilot:
        await pilot.press("escape", "f")
        await wait_until(pilot, lambda: "step 1\u202f200" in text_of(app, "#model-a"))
        line = text_of(app, "#model-a")
        assert f"follows {run.id}" in line
        assert "saved 3:00 ago" in line
        assert world.chat.asked("follow") == [{"run": run.id, "slot": "a"}]
        await pilot.press("f")
        await wait_until(pilot, lambda: "follows" not in text_of(app, "#model-a"))


async def test_a_chosen_model_stays_until_another_screen_sends_one_to_talk_to_its_run(
    make_app: MakeApp, run: RunLayout
) -> None:
    (run.checkpoints / "step-000100").mkdir(parents=True)
    app = make_app("chat", run)
    async with app.run_test(size=WIDE) as pilot:
        await wait_until(pilot, lambda: "identity@100" in text_of(app, "#model-a"))
        await pilot.press("escape", "o", *"demo:smollm2", "enter")
        await wait_until(pilot, lambda: "demo:smollm2" in text_of(app, "#model-a"))
        await pilot.press("3")
        await wait_until(pilot, lambda: app.current_mode == "train")
        await pilot.press("4")
        await wait_until(pilot, lambda: app.current_mode == "chat")
        assert "demo:smollm2" in text_of(app, "#model-a")
        await pilot.press("3")
        await wait_until(pilot, lambda: app.current_mode == "train")
        await pilot.press("c")
        await wait_until(pilot, lambda: app.current_mode == "chat")
        await wait_until(pilot, lambda: "identity@100" in text_of(app, "#model-a"))


async def test_the_device_is_chosen_and_the_model_loaded_there(make_app: MakeApp, world: FakeWorld) -> None:
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("escape", "D", "down", "down", "enter")
        await wait_until(pilot, lambda: bool(world.chat.asked("load")))
        assert (world.chat.asked("load")[0]["device"], world.chat.asked("load")[0]["dtype"]) == ("cpu", "int8")


# What the reply holds


async def test_thinking_is_folded_and_tool_calls_are_shown(make_app: MakeApp, world: FakeWorld) -> None:
    world.chat.thinking = "let me see"
    world.chat.tool_calls = [{"name": "add", "arguments": {"a": 1}}]
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("escape")
        await ask(pilot, app, "hi")
        assert "▸ thinking, 10 characters; x unfolds" in shown(app)
        assert "let me see" not in shown(app)
        assert '⚒ add {"a": 1}' in shown(app)
        await pilot.press("x")
        await pilot.pause()
        assert "let me see" in shown(app)


async def test_home_is_not_touched(make_app: MakeApp, tmp_path: Path) -> None:
    """Talking alone writes no file."""
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("escape")
        await ask(pilot, app, "hi")
    assert not list((tmp_path / "home").rglob("*.toml"))


async def test_a_question_without_a_model_asks_for_one_and_is_kept(make_app: MakeApp, world: FakeWorld) -> None:
    app = make_app("chat")
    async with app.run_test(size=WIDE) as pilot:
        chat = app.screen
        assert isinstance(chat, ChatScreen)
        chat.models.choose("a", "")
        await pilot.press("i")
        chat.query_one(PromptLine).fill("who")
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(app.screen, PickModel))
        assert (said(app), chat.query_one(PromptLine).text) == ([], "who")
        assert world.chat.calls == []


async def test_an_empty_chat_says_how_to_begin(make_app: MakeApp, run: RunLayout) -> None:
    prompts = ["How late is it?", "And where?"]
    text = "\n[sampling]\nprompts = " + repr(prompts).replace("'", '"') + "\n"
    run.config.write_text(run.config.read_text("utf-8").partition("[sampling]")[0] + text, "utf-8")
    run.checkpoint(400).mkdir(parents=True)
    app = make_app("chat", run)
    async with app.run_test(size=WIDE) as pilot:
        assert all(prompt in text_of(app, "#begin") for prompt in prompts)
        line = app.screen.query_one(PromptLine)
        taken = []
        for key in ("down", "down", "down", "up"):
            await pilot.press(key)
            taken.append(line.text)
        assert taken == [*prompts, "", prompts[1]]
        await pilot.press("enter")
        await wait_until(pilot, lambda: len(said(app)) == 2 and not transcript_of(app).is_waiting)
        assert said(app)[0] == ("user", prompts[1])
        assert not app.screen.query_one("#begin").display


def test_the_picker_marks_the_newest_and_the_best(run: RunLayout) -> None:
    for step in (400, 800):
        run.checkpoint(step).mkdir(parents=True)
    (run.checkpoints / "best.json").write_text('{"step": 400}', "utf-8")
    notes = {line: note for _, line, note in model_options(run.root.parent, None)}
    assert "the best" in notes["identity at step 400"]
    assert "the newest" in notes["identity at step 800"]
    assert "the best" not in notes["identity at step 800"]
