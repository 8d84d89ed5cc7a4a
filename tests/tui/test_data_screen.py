"""The Data screen: rows page in, a row shows its mask, fields change what is trained on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Static

from tui_trainer.errors import DataError
from tui_trainer.tui.app import WorkbenchApp
from tui_trainer.tui.screens.mapping import MappingScreen
from tui_trainer.tui.screens.mixing import MixingScreen
from tui_trainer.tui.screens.open_dataset import OpenDatasetScreen, SuggestionList
from tui_trainer.tui.screens.pick_template import PickTemplate
from tui_trainer.tui.screens.verdict import VerdictScreen
from tui_trainer.tui.widgets.ask import Pick
from tui_trainer.tui.widgets.batch_grid import FIELDS, BatchGrid
from tui_trainer.tui.widgets.length_chart import LengthChart
from tui_trainer.tui.widgets.row_table import RowTable
from tui_trainer.tui.widgets.sample_view import VIEWS, SampleView
from tui_trainer.tui.widgets.token_flow import TokenFlow

from .fakes import NUM_ROWS, PROBLEM_ROWS, FakeWorld, tokens_of
from .waiting import wait_until

MakeApp = Callable[..., WorkbenchApp]
SIZE = (120, 36)


async def _row_shown(app: WorkbenchApp, pilot: Pilot[Any]) -> SampleView:
    """The view of the first row, once it shows it."""
    await wait_until(pilot, lambda: bool(app.screen.query(SampleView)))
    view = app.screen.query_one(SampleView)
    await wait_until(pilot, lambda: view.sample is not None)
    return view


async def test_rows_and_mask_of_the_first_row_show(make_app: MakeApp) -> None:
    app = make_app("data")
    async with app.run_test(size=SIZE) as pilot:
        view = await _row_shown(app, pilot)
        assert app.screen.query_one(RowTable).num_lines == NUM_ROWS
        assert view.sample is not None
        trained = [view.sample.is_trained(at) for at in range(view.sample.num_tokens)]
        assert trained == [is_trained for _, _, is_trained in tokens_of(0)]
        assert view.sample.is_trained(app.screen.query_one(TokenFlow).cursor)


async def test_neighbours_are_fetched_ahead_and_shown_from_memory(make_app: MakeApp, world: FakeWorld) -> None:
    app = make_app("data")
    async with app.run_test(size=SIZE) as pilot:
        view = await _row_shown(app, pilot)
        for row in range(1, 12):
            await wait_until(pilot, lambda row=row: app.session.dataset.known_sample(row) is not None)  # type: ignore[misc]
            await pilot.press("j")
            await wait_until(pilot, lambda row=row: view.sample is not None and view.sample.row == row)  # type: ignore[misc]
        asked = [params["row"] for method, params in world.data.calls if method == "sample"]
        assert all(asked.count(row) == 1 for row in range(1, 12))
        # what is far away is forgotten
        assert app.session.dataset.known_sample(0) is None


async def test_only_pages_that_are_looked_at_are_asked_for(make_app: MakeApp, world: FakeWorld) -> None:
    app = make_app("data")
    async with app.run_test(size=SIZE) as pilot:
        await _row_shown(app, pilot)
        table = app.screen.query_one(RowTable)
        await pilot.press("G")
        await wait_until(pilot, lambda: table.row is not None and table.row.row == NUM_ROWS - 1)
        asked = [params["start"] for method, params in world.data.calls if method == "rows"]
        # the first page comes once more when the verdict is there
        assert len(asked) <= 4
        assert len(set(asked)) <= 3


async def test_stepping_through_mask_changes(make_app: MakeApp) -> None:
    app = make_app("data")
    async with app.run_test(size=SIZE) as pilot:
        await _row_shown(app, pilot)
        flow = app.screen.query_one(TokenFlow)
        first = flow.cursor
        await pilot.press("n")
        assert flow.cursor == first
        flow.move_cursor(0)
        await pilot.press("n")
        assert flow.cursor == first


async def test_a_field_that_changes_opens_the_dataset_anew(make_app: MakeApp, world: FakeWorld) -> None:
    app = make_app("data")
    async with app.run_test(size=SIZE) as pilot:
        await wait_until(pilot, lambda: app.session.dataset.state.verdict is not None)
        app.screen.query_one("#source").focus()
        await pilot.press("t", *"chatml", "enter")
        await wait_until(pilot, lambda: sum(method == "open" for method, _ in world.data.calls) == 2)
        assert app.session.draft.config.data.template == "chatml"


async def test_a_wrong_value_is_refused_on_the_spot(make_app: MakeApp) -> None:
    app = make_app("data")
    async with app.run_test(size=SIZE) as pilot:
        await wait_until(pilot, lambda: app.session.dataset.state.is_open)
        app.screen.run_worker(app.screen.run_action("edit('data.max_length')"))
        await pilot.pause()
        await pilot.press(*"3", "enter")
        await pilot.pause()
        error = app.screen.query_one(".ask--error", Static)
        assert "at least 8" in str(error.render())
        await pilot.press("escape")
        assert app.session.draft.config.data.max_length == 512


async def test_next_problem_goes_to_the_rows_the_verdict_names(make_app: MakeApp) -> None:
    app = make_app("data")
    async with app.run_test(size=SIZE) as pilot:
        await wait_until(pilot, lambda: app.session.dataset.state.verdict is not None)
        table = app.screen.query_one(RowTable)
        await pilot.press("e")
        assert table.cursor == 17
        await pilot.press("e")
        assert table.cursor == 801
        await pilot.press("e")
        assert table.cursor == 17


async def test_all_views_of_a_row(make_app: MakeApp) -> None:
    app = make_app("data")
    async with app.run_test(size=SIZE) as pilot:
        view = await _row_shown(app, pilot)
        seen = []
        for _ in range(6):
            await pilot.press("v")
            await pilot.pause()
            seen.append(view.view)
        assert seen == ["grid", "batch", "record", "stats", "messages", "tokens"]


async def test_the_cutoff_moves_while_the_rows_have_the_focus(make_app: MakeApp) -> None:
    app = make_app("data")
    async with app.run_test(size=SIZE) as pilot:
        view = await _row_shown(app, pilot)
        chart = app.screen.query_one(LengthChart)
        await pilot.press("[")
        assert view.view == "stats"
        await wait_until(pilot, lambda: "cutoff 512" in str(chart.render()))
        await pilot.press("[", "[", "]", "[")
        assert "cutoff 456" in str(chart.render())
        await pilot.press("enter", "enter")
        await wait_until(pilot, lambda: app.session.draft.config.data.max_length == 456)


async def test_an_error_of_the_dataset_is_a_sentence_on_the_screen(make_app: MakeApp, world: FakeWorld) -> None:
    world.data.error = DataError("is empty", where="medqa.jsonl", remedy="Choose another file.")
    app = make_app("data")
    async with app.run_test(size=SIZE) as pilot:
        await wait_until(pilot, lambda: app.session.dataset.state.error is not None)
        shown = str(app.screen.query_one("#welcome", Static).render())
        assert shown == "medqa.jsonl: is empty. Choose another file."


async def test_hostile_text_reaches_no_widget_raw(make_app: MakeApp, world: FakeWorld) -> None:
    world.data.error = DataError("bad \x1b]52;c;UFdORUQ=\x07 [/] [bold]", where="x\x9b31m.jsonl")
    app = make_app("data")
    async with app.run_test(size=SIZE) as pilot:
        await wait_until(pilot, lambda: app.session.dataset.state.error is not None)
        await pilot.pause()
        drawn = "".join(segment.text for strip in app.screen._compositor.render_strips() for segment in strip)
        assert "\x1b" not in drawn
        assert "\x9b" not in drawn
        assert "[bold]" in drawn


async def test_the_screen_may_be_visited_while_the_dataset_is_being_opened(make_app: MakeApp, world: FakeWorld) -> None:
    world.data.open_gate = asyncio.Event()
    app = make_app("args")
    async with app.run_test(size=SIZE) as pilot:
        await wait_until(pilot, lambda: "open" in [method for method, _ in world.data.calls])
        await pilot.press("1")
        world.data.open_gate.set()
        view = await _row_shown(app, pilot)
        assert view.sample is not None
        assert app.screen.query_one(RowTable).num_lines == NUM_ROWS


async def _judged(app: WorkbenchApp, pilot: Pilot[Any]) -> RowTable:
    """The table, once the whole set is judged."""
    await _row_shown(app, pilot)
    await wait_until(pilot, lambda: app.session.dataset.state.verdict is not None)
    return app.screen.query_one(RowTable)


def _title(app: WorkbenchApp) -> str:
    return str(app.screen.query_one("#rows-pane").border_title).replace("\u202f", " ")


def _drawn(app: WorkbenchApp) -> str:
    """All that is on the screen."""
    strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip) for strip in strips)


async def test_a_search_shows_only_the_rows_that_hold_the_text(make_app: MakeApp) -> None:
    app = make_app("data")
    async with app.run_test(size=SIZE) as pilot:
        table = await _judged(app, pilot)
        await pilot.press("slash", *"question 12", "enter")
        await wait_until(pilot, lambda: table.row is not None and table.row.row == 12)
        expected = [row for row in range(NUM_ROWS) if str(row).startswith("12")]
        assert table.num_lines == len(expected)
        assert _title(app) == f"▼ Rows  {len(expected)} of 1 273 · “question 12”"
        assert "question 12 of the set" in _drawn(app)
        await pilot.press("j")
        view = app.screen.query_one(SampleView)
        await wait_until(pilot, lambda: view.sample is not None and view.sample.row == 120)
        await pilot.press("a")
        assert table.num_lines == NUM_ROWS
        assert table.cursor == 120
        assert _title(app) == "Rows  train 1 273 · test 255"
        await pilot.press("greater_than_sign")
        await wait_until(pilot, lambda: table.cursor == 121)
        await pilot.press("less_than_sign")
        await wait_until(pilot, lambda: table.cursor == 120)


async def test_a_wrong_expression_is_refused_while_it_is_typed(make_app: MakeApp) -> None:
    app = make_app("data")
    async with app.run_test(size=SIZE) as pilot:
        await _judged(app, pilot)
        await pilot.press("slash", *"/(/", "enter")
        await pilot.pause()
        assert "no regular expression" in str(app.screen.query_one(".ask--error", Static).render())


async def test_the_verdict_leads_to_the_rows_of_a_problem(make_app: MakeApp, world: FakeWorld) -> None:
    app = make_app("data")
    async with app.run_test(size=SIZE) as pilot:
        table = await _judged(app, pilot)
        await pilot.press("i")
        await wait_until(pilot, lambda: isinstance(app.screen, VerdictScreen))
        assert "answer_cut" in _drawn(app)
        assert "Raise data.max_length." in _drawn(app)
        await pilot.press("enter")
        await wait_until(pilot, lambda: table.row is not None and table.row.row == PROBLEM_ROWS[0])
        assert table.num_lines == len(PROBLEM_ROWS)
        assert table.row is not None
        assert table.row.flags == "✂"
        assert "answer_cut" in _title(app)
        # esc on the rows shows all of them again
        await pilot.press("escape")
        assert table.num_lines == NUM_ROWS


async def test_judging_can_be_stopped_and_begun_anew(make_app: MakeApp, world: FakeWorld) -> None:
    world.data.verdict_gate = asyncio.Event()
    app = make_app("data")
    async with app.run_test(size=SIZE) as pilot:
        await _row_shown(app, pilot)
        await wait_until(pilot, lambda: app.session.dataset.state.verdict_progress is not None)
        await pilot.press("s")
        assert app.session.dataset.state.verdict is None
        await pilot.press("x")
        await wait_until(pilot, lambda: "it was stopped" in _drawn(app))
        world.data.verdict_gate.set()
        await pilot.press("i")
        await wait_until(pilot, lambda: app.session.dataset.state.verdict is not None)
        assert isinstance(app.screen, VerdictScreen)
        assert "45 825 tokens" in _drawn(app).replace("\u202f", " ")


async def test_rows_by_length_and_in_another_order(make_app: MakeApp, world: FakeWorld) -> None:
    app = make_app("data")
    async with app.run_test(size=SIZE) as pilot:
        table = await _judged(app, pilot)
        await pilot.press("b", *"38..", "enter")
        await wait_until(pilot, lambda: table.row is not None and table.row.row == 5)
        assert table.num_lines == len(world.data.rows_of({"min_tokens": 38}))
        await pilot.press("s", "j", "enter")
        await wait_until(pilot, lambda: table.row is not None and table.row.row == 6)
        assert "38.. tokens · longest first" in _title(app)


async def test_to_a_row_by_its_number(make_app: MakeApp) -> None:
    app = make_app("data")
    async with app.run_test(size=SIZE) as pilot:
        table = await _judged(app, pilot)
        await pilot.press("number_sign", *"1272")
        await wait_until(pilot, lambda: app.session.dataset.known_sample(1272) is not None)
        await pilot.press("enter")
        await wait_until(pilot, lambda: table.cursor == 1272)
        await pilot.press("slash", *"question 12", "enter")
        await wait_until(pilot, lambda: table.row is not None and table.num_lines < NUM_ROWS)
        await pilot.press("number_sign", *"120", "enter")
        await wait_until(pilot, lambda: table.row_number == 120 and table.num_lines < NUM_ROWS)
        await pilot.press("number_sign", *"7", "enter")
        await wait_until(pilot, lambda: table.row_number == 7 and table.num_lines == NUM_ROWS)


async def test_rows_are_there_while_they_are_counted(make_app: MakeApp, world: FakeWorld) -> None:
    world.data.count_gate = asyncio.Event()
    app = make_app("data")
    async with app.run_test(size=SIZE) as pilot:
        await _row_shown(app, pilot)
        table = app.screen.query_one(RowTable)
        await wait_until(pilot, lambda: table.num_lines == 500)
        assert _title(app) == "Rows  train at least 500 … · test 255"
        await pilot.press("G")
        await wait_until(pilot, lambda: table.row is not None and table.row.row == 499)
        world.data.count_gate.set()
        await wait_until(pilot, lambda: table.num_lines == NUM_ROWS)
        assert _title(app) == "Rows  train 1 273 · test 255"
        assert table.cursor == 499


@pytest.mark.parametrize(("view", "copied"), [("tokens", "<|im_start|>user"), ("record", '{"input"'), ("grid", "[1, ")])
async def test_what_is_seen_is_what_is_copied(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch, view: str, copied: str
) -> None:
    app = make_app("data")
    texts: list[str] = []
    async with app.run_test(size=SIZE) as pilot:
        shown = await _row_shown(app, pilot)
        monkeypatch.setattr(app, "copy_to_clipboard", texts.append)
        shown.set_view(view)
        await pilot.press("y")
        await wait_until(pilot, lambda: bool(texts))
        assert texts[0].startswith(copied)


async def test_the_batch_shows_padding_and_every_field(make_app: MakeApp) -> None:
    app = make_app("data")
    async with app.run_test(size=SIZE) as pilot:
        view = await _row_shown(app, pilot)
        view.set_view("batch")
        grid = view.query_one(BatchGrid)
        await wait_until(pilot, lambda: grid.num_lines > 0)
        assert "9% padding" in _drawn(app)
        view.focus_view()
        await pilot.press("G")
        assert "attention_mask 0 · label -100 (padding)" in _drawn(app)
        await pilot.press("right")
        assert " row 1 ·" in _drawn(app)
        seen = []
        for _ in FIELDS:
            await pilot.press("space")
            seen.append(grid.field)
        assert sorted(seen) == sorted(FIELDS)


async def test_a_row_that_differs_from_a_chat_says_where(make_app: MakeApp, world: FakeWorld) -> None:
    message = "before turn 1 at token 7 a chat has 'x', training has 'y'"
    world.data.sample_extras = {
        "problems": [{"code": "template_not_prefix", "message": message, "token": 7}],
        "added": [[3, 6]],
    }
    app = make_app("data")
    async with app.run_test(size=SIZE) as pilot:
        view = await _row_shown(app, pilot)
        await pilot.press("d")
        assert view.query_one(TokenFlow).cursor == 7
        await wait_until(pilot, lambda: f"≠ {message}" in _drawn(app))
        view.query_one(TokenFlow).move_cursor(4)
        await wait_until(pilot, lambda: "added by the template" in _drawn(app))
        view.set_view("messages")
        await wait_until(pilot, lambda: "text that the template adds by itself" in _drawn(app))


async def test_a_row_without_tokens_says_what_is_wrong_with_it(make_app: MakeApp, world: FakeWorld) -> None:
    app = make_app("data")
    async with app.run_test(size=(80, 24)) as pilot:
        await _row_shown(app, pilot)
        await pilot.press("enter")
        assert app.screen.query_one(TokenFlow).has_focus
        wrong = [{"code": "schema", "message": "messages.0 has the unknown role 'wizard'"}]
        world.data.sample_extras = {"num_tokens": 0, "input_ids": [], "tokens": [], "spans": [], "problems": wrong}
        await pilot.press("number_sign", *"40", "enter")
        await wait_until(pilot, lambda: "schema: messages.0 has the unknown role 'wizard'" in _drawn(app))
        assert app.screen.query_one("#view-messages").has_focus
        world.data.sample_extras = {}
        await pilot.press("number_sign", *"50", "enter")
        await wait_until(pilot, lambda: app.screen.query_one(TokenFlow).has_focus)
        assert app.screen.query_one(SampleView).view == "tokens"


async def test_weights_other_than_one_are_shown(make_app: MakeApp, world: FakeWorld) -> None:
    world.data.sample_extras = {
        "spans": [{"start": 0, "end": 5}, {"start": 5, "end": 9, "trained": True, "weight": 0.5}]
    }
    app = make_app("data")
    async with app.run_test(size=SIZE) as pilot:
        view = await _row_shown(app, pilot)
        await wait_until(pilot, lambda: "(trained, weight 0.5)" in _drawn(app))
        view.set_view("grid")
        await wait_until(pilot, lambda: "trained x0.5" in _drawn(app))


async def test_hostile_values_names_and_keys_are_shown_as_they_are(make_app: MakeApp, world: FakeWorld) -> None:
    evil = "\x1b]52;c;UFdORUQ=\x07[/bold][red]\x9b2J\u202e"
    world.data.evil = evil
    app = make_app("data")
    async with app.run_test(size=(160, 48)) as pilot:
        view = await _row_shown(app, pilot)
        for name in VIEWS:
            view.set_view(name)
            await pilot.pause()
            drawn = _drawn(app)
            assert not set("\x1b\x07\x9b\u202e") & set(drawn)
            assert "[/bold][red]" in drawn
        await pilot.press("slash", *"question", "enter")
        table = app.screen.query_one(RowTable)
        await wait_until(pilot, lambda: table.row is not None and "question" in _title(app))
        assert not set("\x1b\x07\x9b\u202e") & set(_drawn(app))


async def test_a_path_is_completed_as_it_is_typed(make_app: MakeApp) -> None:
    app = make_app("data")
    async with app.run_test(size=SIZE) as pilot:
        await _row_shown(app, pilot)
        await pilot.press("o")
        await wait_until(pilot, lambda: isinstance(app.screen, OpenDatasetScreen))
        listing = app.screen.query_one(SuggestionList)
        assert [shown.text for shown in listing.suggestions][:2] == ["medqa.jsonl", "demo:dates"]
        await wait_until(pilot, lambda: [shown.text for shown in listing.suggestions][-1:] == ["here.csv"])
        await pilot.press("h")
        assert [shown.text for shown in listing.suggestions][:1] == ["here.csv"]
        await pilot.press("backspace")
        await pilot.press(*"/data/m")
        await wait_until(pilot, lambda: [shown.text for shown in listing.suggestions][:1] == ["/data/medqa/"])
        assert [shown.text for shown in listing.suggestions] == ["/data/medqa/", "/data/more.jsonl", "/data/m"]
        await pilot.press("enter")
        await wait_until(pilot, lambda: [shown.text for shown in listing.suggestions][1:2] == ["/data/medqa/test.csv"])
        assert listing.suggestions[0].text == "/data/medqa/"
        await pilot.press("down", "enter")
        await wait_until(pilot, lambda: app.session.draft.config.data.path == "/data/medqa/test.csv")
        await wait_until(pilot, lambda: app.session.dataset.state.is_open)
        await pilot.press("o", *"openai/gsm8k")
        await wait_until(pilot, lambda: isinstance(app.screen, OpenDatasetScreen))
        hub = app.screen.query_one(SuggestionList).suggestions
        assert (hub[0].text, hub[0].note) == ("openai/gsm8k", "on the hub, or a file or folder")


async def test_columns_are_mapped_by_hand(make_app: MakeApp) -> None:
    app = make_app("data")
    async with app.run_test(size=SIZE) as pilot:
        await _row_shown(app, pilot)
        await pilot.press("c")
        await wait_until(pilot, lambda: isinstance(app.screen, MappingScreen))
        assert "what is in input" in _drawn(app)
        await pilot.press("j", "j", "enter")
        await wait_until(pilot, lambda: not isinstance(app.screen, MappingScreen))
        await pilot.press("j", "j", "enter")
        await wait_until(pilot, lambda: isinstance(app.screen, MappingScreen))
        await pilot.press("k", "backspace", "s")
        assert "needs a column for prompt" in _drawn(app)
        await pilot.press("enter", "enter", "s")
        await wait_until(pilot, lambda: bool(app.session.draft.config.data.columns))
        assert app.session.draft.config.data.columns == {"prompt": "input", "completion": "meta.answer"}
        assert app.session.draft.config.data.format == "prompt_completion"


async def test_a_split_is_picked_from_those_there_are(make_app: MakeApp) -> None:
    app = make_app("data")
    async with app.run_test(size=SIZE) as pilot:
        await _row_shown(app, pilot)
        app.screen.run_worker(app.screen.run_action("edit('data.split')"))
        await wait_until(pilot, lambda: isinstance(app.screen, Pick))
        assert "255" in _drawn(app)
        await pilot.press("j", "enter")
        await wait_until(pilot, lambda: app.session.draft.config.data.split == "test")


async def test_template_and_what_it_adds_stand_beside_the_rows(make_app: MakeApp, world: FakeWorld) -> None:
    world.data.sample_extras = {"added": [[3, 6]]}
    app = make_app("data")
    async with app.run_test(size=SIZE) as pilot:
        await _row_shown(app, pilot)
        await wait_until(pilot, lambda: "chatml (model)" in _drawn(app))
        assert "word0 word1 word2" in _drawn(app)


async def test_a_template_is_chosen_from_a_list_looking_at_the_row(make_app: MakeApp, world: FakeWorld) -> None:
    app = make_app("data")
    async with app.run_test(size=(80, 24)) as pilot:
        await _row_shown(app, pilot)
        await pilot.press("j", "t")
        await wait_until(pilot, lambda: isinstance(app.screen, PickTemplate))
        drawn = _drawn(app)
        assert all(name in drawn for name in ("the model's own", "chatml", "qwen3", "of the package trl"))
        await pilot.press("down")
        await wait_until(pilot, lambda: "<chatml>" in _drawn(app))
        assert "out in the row below the list." in _drawn(app)
        await pilot.press(*"qwen")
        await wait_until(pilot, lambda: "<qwen3>" in _drawn(app))
        assert [params["row"] for method, params in world.data.calls if method == "sample_as"][-1] == 1
        await pilot.press("enter")
        await wait_until(pilot, lambda: app.session.draft.config.data.template == "qwen3")
        await pilot.press("t")
        await wait_until(pilot, lambda: "<qwen3>" in _drawn(app))
        await pilot.press(*"my/own.jinja", "enter")
        await wait_until(pilot, lambda: app.session.draft.config.data.template == "my/own.jinja")
        await pilot.press("t")
        await wait_until(pilot, lambda: isinstance(app.screen, PickTemplate))
        await pilot.press("pageup", "enter")
        await wait_until(pilot, lambda: app.session.draft.config.data.template is None)


async def test_the_pieces_of_a_row_are_stepped_through(make_app: MakeApp, world: FakeWorld) -> None:
    world.data.sample_extras = {"num_pieces": 3}
    app = make_app("data")
    async with app.run_test(size=SIZE) as pilot:
        await _row_shown(app, pilot)
        assert "piece 1 of 3" in _drawn(app)
        await pilot.press("p")
        await wait_until(pilot, lambda: "piece 2 of 3" in _drawn(app))
        await pilot.press("p")
        await wait_until(pilot, lambda: "piece 3 of 3" in _drawn(app))
        await pilot.press("p", "P")
        await wait_until(pilot, lambda: "piece 2 of 3" in _drawn(app))
        await pilot.press("y")
        await wait_until(pilot, lambda: world.data.calls[-1][0] == "whole")
        assert world.data.calls[-1][1]["piece"] == 1


async def test_several_datasets_are_mixed_each_with_its_weight_and_columns(make_app: MakeApp, world: FakeWorld) -> None:
    app = make_app("data")
    async with app.run_test(size=SIZE) as pilot:
        await _row_shown(app, pilot)
        await pilot.press("M", "a", *"demo:chat", "enter")
        await wait_until(pilot, lambda: isinstance(app.screen, MixingScreen))
        await pilot.press("w", *"2.5", "enter")
        await pilot.press("c")
        await wait_until(pilot, lambda: isinstance(app.screen, MappingScreen))
        asked = next(params for name, params in reversed(world.data.calls) if name == "columns")["config"]["data"]
        assert (asked["path"], asked["sources"], asked["format"]) == ("demo:chat", [], "auto")
        await pilot.press("s")
        await wait_until(pilot, lambda: "completion ← output" in _drawn(app))
        await pilot.press("s")
        data = app.session.draft.config.data
        assert [source.format for source in data.sources] == ["auto", "prompt_completion"]
        assert [dict(source.columns) for source in data.sources] == [{}, {"prompt": "input", "completion": "output"}]
        assert [(source.path, source.weight) for source in data.sources] == [("medqa.jsonl", 1.0), ("demo:chat", 2.5)]
        assert data.path is None
        await wait_until(pilot, lambda: "2 sources" in _drawn(app))
        await pilot.press("M", "j", "delete", "s")
        assert app.session.draft.config.data.path == "medqa.jsonl"
        assert app.session.draft.config.data.sources == []
