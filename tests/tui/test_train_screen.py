"""The Train screen: follows a run's files and steers it through its mailbox."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from textual.containers import Vertical
from textual.widgets import Footer, Input, Static

from tui_trainer.errors import DataError
from tui_trainer.runs.control import pending, send
from tui_trainer.runs.events import Alert, ControlApplied, RunContinued, RunPaused, StepMetrics
from tui_trainer.runs.journal import JournalWriter
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.status import State, read_status, write_status
from tui_trainer.tui.app import WorkbenchApp
from tui_trainer.tui.live_fields import parse_rate
from tui_trainer.tui.screens.live_settings import LiveSettings
from tui_trainer.tui.screens.step_rows import RowList, StepRows
from tui_trainer.tui.widgets.ask import Pick
from tui_trainer.tui.widgets.chart import Chart, Plot
from tui_trainer.tui.widgets.event_list import EventList
from tui_trainer.tui.widgets.log_pane import LogPane, clean_line

from .fakes import FakeWorld
from .waiting import wait_until

MakeApp = Callable[..., WorkbenchApp]


def _numbers(app: WorkbenchApp) -> str:
    return str(app.screen.query_one("#numbers", Static).render())


async def test_a_run_shows_where_it_is(make_app: MakeApp, run: RunLayout) -> None:
    app = make_app("train", run)
    async with app.run_test(size=(120, 36)) as pilot:
        await wait_until(pilot, lambda: "1\u202f204/5\u202f000" in _numbers(app))
        loss = app.screen.query_one("#plot-loss", Chart)
        assert loss.plot.curves[0].series.num_samples == 1204
        assert {mark.glyph for mark in loss.plot.marks} == {"◆", "▾"}


async def test_new_steps_show_and_an_idle_run_draws_nothing(make_app: MakeApp, run: RunLayout) -> None:
    app = make_app("train", run)
    async with app.run_test(size=(120, 36)) as pilot:
        await wait_until(pilot, lambda: "1\u202f204" in _numbers(app))
        with JournalWriter(run.events) as journal:
            journal.write(StepMetrics(step=1205, loss=0.5, learning_rate=1e-4))
            journal.write(Alert(step=1205, kind="nan", message="the loss is NaN"))
        await wait_until(pilot, lambda: "1\u202f205" in _numbers(app))
        events = app.screen.query_one(EventList)
        assert "the loss is NaN" in "".join(text for text, _ in events.line_parts(0))


async def test_enter_shows_the_rows_of_a_step(make_app: MakeApp, run: RunLayout, world: FakeWorld) -> None:
    app = make_app("train", run)
    async with app.run_test(size=(80, 24)) as pilot:
        await wait_until(pilot, lambda: "1\u202f204" in _numbers(app))
        await pilot.press("left", "enter")
        await wait_until(
            pilot, lambda: isinstance(app.screen, StepRows) and app.screen.query_one(RowList).num_lines == 8
        )
        method, asked = world.data.calls[-1]
        assert (method, asked["update"], asked["fingerprint"]) == ("step_rows", 1191, "9f3c12ab77")
        assert asked["config"]["data"]["path"] == "demo:identity"
        first = "".join(text for text, _ in app.screen.query_one(RowList).line_parts(0))
        assert first.strip() == "9\u202f528  medqa.jsonl:9529  question 9528"
        await pilot.press("left")
        await wait_until(pilot, lambda: world.data.calls[-1][1].get("update") == 1190)
        world.data.error = DataError("is not what the run trained on", where="medqa.jsonl")
        await pilot.press("left")
        about = app.screen.query_one("#step-about", Static)
        await wait_until(pilot, lambda: "not what the run trained on" in str(about.render()))
        assert app.screen.query_one(RowList).num_lines == 0
        await pilot.press("escape", "right", "right", "G", "enter")  # no reading cursor: the oldest event's step
        await wait_until(pilot, lambda: isinstance(app.screen, StepRows))
        assert "step 1 " in f"{app.screen.query_one(Vertical).border_title} "


@pytest.mark.parametrize(("key", "command"), [("s", "save"), ("v", "eval"), ("a", "sample"), ("space", "pause")])
async def test_keys_put_commands_into_the_mailbox(make_app: MakeApp, run: RunLayout, key: str, command: str) -> None:
    app = make_app("train", run)
    async with app.run_test(size=(120, 36)) as pilot:
        await wait_until(pilot, lambda: "1\u202f204" in _numbers(app))
        await pilot.press(key)
        assert [sent.name for sent in pending(run)] == [command]


async def test_a_new_learning_rate_is_typed_judged_and_sent(make_app: MakeApp, run: RunLayout) -> None:
    app = make_app("train", run)
    async with app.run_test(size=(80, 24)) as pilot:
        await wait_until(pilot, lambda: "1\u202f204" in _numbers(app))
        await pilot.press("l", *"abc", "enter")
        await pilot.pause()
        assert isinstance(app.screen, LiveSettings)
        assert "a number" in str(app.screen.query_one("#live-error", Static).render())
        await pilot.press("ctrl+a", "ctrl+k", *"1e-5", "enter")
        await pilot.pause()
        assert "instead of" in str(app.screen.query_one("#live-help", Static).render())
        assert len(app.screen.query_one(Chart).plot.curves) == 2
        await pilot.press("s")
        await pilot.pause()
        assert [sent.arguments for sent in pending(run)] == [{"learning_rate": 1e-5}]


async def test_several_fields_are_changed_with_one_command(make_app: MakeApp, run: RunLayout) -> None:
    app = make_app("train", run)
    async with app.run_test(size=(120, 36)) as pilot:
        await wait_until(pilot, lambda: "1\u202f204" in _numbers(app))
        await pilot.press("h", "enter", "ctrl+a", "ctrl+k", *"8000", "enter")
        await pilot.press("j", "j", "enter")
        await pilot.press("end", "enter", "ctrl+a", "ctrl+k", *"100", "enter")
        help_text = str(app.screen.query_one("#live-help", Static).render())
        assert "ends at step 8\u202f000 instead of 5\u202f000" in help_text
        assert "nothing is learned after step 5\u202f000" in help_text
        assert "next saved at step 1\u202f300" in help_text
        await pilot.press("s")
        await pilot.pause()
        assert [sent.arguments for sent in pending(run)] == [{"max_steps": 8000, "schedule": "keep", "save_steps": 100}]


async def test_the_form_can_be_left_without_a_change(make_app: MakeApp, run: RunLayout) -> None:
    app = make_app("train", run)
    async with app.run_test(size=(80, 24)) as pilot:
        await wait_until(pilot, lambda: "1\u202f204" in _numbers(app))
        await pilot.press("h", "enter", *"9", "escape", "escape")
        await pilot.pause()
        assert not isinstance(app.screen, LiveSettings)
        assert pending(run) == []


async def test_commands_are_not_sent_to_a_run_that_is_over(make_app: MakeApp, finished_run: RunLayout) -> None:
    app = make_app("train", finished_run)
    async with app.run_test(size=(120, 36)) as pilot:
        await wait_until(pilot, lambda: "finished" in _numbers(app))
        await pilot.press("s")
        assert pending(finished_run) == []


async def test_why_it_waits_is_said_beside_the_state(make_app: MakeApp, run: RunLayout) -> None:
    app = make_app("train", run)
    async with app.run_test(size=(80, 24)) as pilot:
        await wait_until(pilot, lambda: "1\u202f204" in _numbers(app))
        with JournalWriter(run.events) as journal:
            journal.write(RunPaused(step=1204, reason="disk_full", message="the disk is full", remedy="Free space."))
        await wait_until(pilot, lambda: "the disk is full" in _numbers(app))
        events = app.screen.query_one(EventList)
        assert "paused: the disk is full. Free space." in "".join(text for text, _ in events.line_parts(0))
        with JournalWriter(run.events) as journal:
            journal.write(RunContinued(step=1204, reason="disk_full", message="there is space again"))
            journal.write(ControlApplied(step=1205, command="pause", old=False, new=True, by="you"))
        await wait_until(pilot, lambda: "the disk is full" not in _numbers(app))
        assert "".join(text for text, _ in events.line_parts(0)).endswith("pause (you)")


async def test_the_cursor_reads_values(make_app: MakeApp, run: RunLayout) -> None:
    app = make_app("train", run)
    async with app.run_test(size=(120, 36)) as pilot:
        await wait_until(pilot, lambda: "1\u202f204" in _numbers(app))
        await pilot.press("left", "left", "left")
        chart = app.screen.query_one("#plot-loss", Chart)
        assert chart.plot.cursor is not None
        assert " at 1\u202f1" in chart.plot.note
        await pilot.press("right", "right", "right", "right")
        assert chart.plot.cursor is None


def _plot(app: WorkbenchApp, name: str) -> Plot:
    return app.screen.query_one(f"#plot-{name}", Chart).plot


async def test_the_curves_over_tokens_and_time(make_app: MakeApp, run: RunLayout) -> None:
    app = make_app("train", run)
    async with app.run_test(size=(120, 36)) as pilot:
        await wait_until(pilot, lambda: "1\u202f204" in _numbers(app))
        await pilot.press("left", "left", "t")
        loss = _plot(app, "loss")
        assert loss.title == "loss over tokens"
        assert loss.curves[0].series.last_x == pytest.approx(1204 * 8192)
        assert loss.x_max is None
        assert loss.cursor == pytest.approx(app.session.run.view.axes["tokens"].at(1204 - 2 * 1203 / 100))  # type: ignore[union-attr]
        assert max(mark.x for mark in loss.marks) > 5000
        await pilot.press("t")
        assert _plot(app, "grad_norm").title == "gradient norm over minutes"
        assert _plot(app, "loss").curves[0].series.last_x == pytest.approx(1204 * 0.9 / 60)
        await pilot.press("t")
        assert _plot(app, "loss").title == "loss"
        assert _plot(app, "loss").x_max == 5000


async def test_other_runs_are_laid_over_and_taken_away(
    make_app: MakeApp, run: RunLayout, finished_run: RunLayout
) -> None:
    app = make_app("train", run)
    async with app.run_test(size=(120, 36)) as pilot:
        await wait_until(pilot, lambda: "1\u202f204" in _numbers(app))
        await pilot.press("o")
        await wait_until(pilot, lambda: isinstance(app.screen, Pick))
        await pilot.press("enter")
        await wait_until(pilot, lambda: not isinstance(app.screen, Pick) and len(_plot(app, "loss").curves) == 3)
        other, own, _ = _plot(app, "loss").curves
        assert (other.label, other.style, other.series.num_samples, own.label) == ("A", "other", 498, "")
        assert _plot(app, "loss").title == "loss · A dates"
        await pilot.press("o")
        await wait_until(pilot, lambda: isinstance(app.screen, Pick))
        await pilot.press("enter")
        await wait_until(pilot, lambda: not isinstance(app.screen, Pick) and len(_plot(app, "loss").curves) == 2)


async def test_zoom_shows_each_plot_alone_and_then_all(make_app: MakeApp, run: RunLayout) -> None:
    app = make_app("train", run)
    async with app.run_test(size=(120, 36)) as pilot:
        await wait_until(pilot, lambda: "1\u202f204" in _numbers(app))
        counts = []
        for _ in range(5):
            await pilot.press("z")
            await pilot.pause()
            counts.append(sum(chart.display for chart in app.screen.query(Chart)))
        assert counts == [1, 1, 1, 1, 4]


async def test_the_log_is_followed(make_app: MakeApp, run: RunLayout) -> None:
    app = make_app("train", run)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("w")
        log = app.screen.query_one("#log", LogPane)
        await wait_until(pilot, lambda: log.num_lines == 50)
        with run.train_log.open("a") as file:
            file.write("\x1b[31mRuntimeError: bad\x1b[0m\n")
        await wait_until(pilot, lambda: log.num_lines == 51)
        assert log.line_parts(50) == ((" RuntimeError: bad", "list--bad"),)
        assert log.cursor == 50


def test_a_progress_bar_in_the_log_shows_its_last_state() -> None:
    assert clean_line(b" 10%|#\r 50%|#####\r100%|##########") == "100%|##########"
    assert clean_line(b"\x1b]0;title\x07plain \x9b text") == "plain \ufffd text"


@pytest.mark.parametrize(("text", "value"), [("1e-4", 1e-4), ("x0.5", "x0.5"), ("*2", "x2")])
def test_rates_and_factors(text: str, value: object) -> None:
    assert parse_rate(text) == value


@pytest.mark.parametrize("text", ["", "fast", "-1", "0", "11", "x0", "x1000"])
def test_rates_out_of_range(text: str) -> None:
    with pytest.raises(ValueError, match=r"number|above 0"):
        parse_rate(text)


def _key_line(app: WorkbenchApp) -> set[str]:
    keys = app.screen.query_one(Footer).query("FooterKey")
    return {str(getattr(key, "description", "")) for key in keys}


async def test_the_key_line_of_a_run_that_is_over_leads_on(make_app: MakeApp, run: RunLayout) -> None:
    app = make_app("train", run)
    async with app.run_test(size=(120, 36)) as pilot:
        await wait_until(pilot, lambda: {"Stop", "Rate", "Pause"} <= _key_line(app))
        assert "Resume" not in _key_line(app)
        write_status(run, replace(read_status(run), state=State.FINISHED))
        await wait_until(pilot, lambda: {"Resume", "Chat", "Runs"} <= _key_line(app))
        assert not {"Stop", "Rate", "Change", "Save", "Eval", "Pause"} & _key_line(app)


async def test_a_form_left_open_follows_the_run(make_app: MakeApp, run: RunLayout) -> None:
    app = make_app("train", run)
    async with app.run_test(size=(120, 36)) as pilot:
        await wait_until(pilot, lambda: "1\u202f204" in _numbers(app))
        await pilot.press("h", "end", "enter", "ctrl+a", "ctrl+k", *"100", "enter")
        assert "next saved at step 1\u202f300" in str(app.screen.query_one("#live-help", Static).render())
        await pilot.press("enter", *"99")
        with JournalWriter(run.events) as journal:
            journal.write(StepMetrics(step=1350, loss=1.0, learning_rate=1e-4, epoch=0.8))
        await wait_until(pilot, lambda: "step 1\u202f400" in str(app.screen.query_one("#live-help", Static).render()))
        assert [mark.x for mark in app.screen.query_one(Chart).plot.marks] == [1350]
        assert app.screen.query_one(Input).value == "99"


async def test_a_form_left_open_says_that_the_run_ended(make_app: MakeApp, run: RunLayout) -> None:
    app = make_app("train", run)
    async with app.run_test(size=(120, 36)) as pilot:
        await wait_until(pilot, lambda: "1\u202f204" in _numbers(app))
        await pilot.press("l", *"1e-5", "enter")
        await pilot.pause()
        assert "s sends 1 change " in str(app.screen.query_one(Vertical).border_subtitle)
        write_status(run, replace(read_status(run), state=State.FINISHED))
        await wait_until(pilot, lambda: "finished" in str(app.screen.query_one("#live-error", Static).render()))
        await pilot.press("s")
        assert isinstance(app.screen, LiveSettings)
        assert pending(run) == []


async def test_what_came_after_the_end_is_told(make_app: MakeApp, finished_run: RunLayout) -> None:
    send(finished_run, "set", {"learning_rate": 1e-5})
    app = make_app("train", finished_run)
    async with app.run_test(size=(120, 36)) as pilot:
        await wait_until(pilot, lambda: "changed nothing: set learning_rate" in _numbers(app))
