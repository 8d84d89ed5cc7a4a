"""How each screen looks in three sizes of terminal. `pytest --snapshot-update` accepts a change; look at it first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Static

from tui_trainer.runs.layout import RunLayout
from tui_trainer.tui.app import WorkbenchApp
from tui_trainer.tui.screens.measure import PromptSet, ScoreSheet
from tui_trainer.tui.widgets.prompt_line import PromptLine
from tui_trainer.tui.widgets.run_table import RunTable
from tui_trainer.tui.widgets.sample_view import SampleView
from tui_trainer.tui.widgets.transcript import Transcript

from .fake_chat import text_shown
from .recorded import record_checkpoints
from .waiting import wait_until

MakeApp = Callable[..., WorkbenchApp]
Before = Callable[[Pilot[Any]], Awaitable[None]]
SIZES = [(80, 24), (120, 36), (160, 48)]

pytestmark = [
    pytest.mark.usefixtures("still_clock"),
    pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}"),
]


def _screen(pilot: Pilot[Any]) -> Any:
    return pilot.app.screen


async def _dataset_is_judged(pilot: Pilot[Any]) -> None:
    app = pilot.app
    assert isinstance(app, WorkbenchApp)
    await wait_until(pilot, lambda: app.session.dataset.state.verdict is not None)
    await wait_until(pilot, lambda: app.session.dataset.state.shape is not None)


async def _row_is_shown(pilot: Pilot[Any]) -> None:
    await _dataset_is_judged(pilot)
    await wait_until(pilot, lambda: bool(_screen(pilot).query(SampleView)))
    await wait_until(pilot, lambda: _screen(pilot).query_one(SampleView).sample is not None)


def test_data_tokens(snap_compare: Any, make_app: MakeApp, size: tuple[int, int]) -> None:
    assert snap_compare(make_app("data"), terminal_size=size, run_before=_row_is_shown)


def test_data_batch(snap_compare: Any, make_app: MakeApp, size: tuple[int, int]) -> None:
    async def before(pilot: Pilot[Any]) -> None:
        await _row_is_shown(pilot)
        await pilot.press("v", "v")
        await wait_until(pilot, lambda: _screen(pilot).query_one("#batch").num_lines > 0)

    assert snap_compare(make_app("data"), terminal_size=size, run_before=before)


def test_data_statistics(snap_compare: Any, make_app: MakeApp, size: tuple[int, int]) -> None:
    async def before(pilot: Pilot[Any]) -> None:
        await _row_is_shown(pilot)
        await pilot.press("v", "v", "v", "v")
        await pilot.pause()

    assert snap_compare(make_app("data"), terminal_size=size, run_before=before)


def test_data_without_a_dataset(snap_compare: Any, make_app: MakeApp, size: tuple[int, int]) -> None:
    async def before(pilot: Pilot[Any]) -> None:
        await wait_until(pilot, lambda: _screen(pilot).query_one("#source").num_lines > 0)

    assert snap_compare(make_app("data", with_draft=False), terminal_size=size, run_before=before)


def test_args(snap_compare: Any, make_app: MakeApp, size: tuple[int, int]) -> None:
    async def before(pilot: Pilot[Any]) -> None:
        await _dataset_is_judged(pilot)
        await pilot.press("j", "j", "j", "j", "enter", "j")
        await pilot.pause()

    assert snap_compare(make_app("args"), terminal_size=size, run_before=before)


async def _run_is_shown(pilot: Pilot[Any]) -> None:
    """The run's files are read by threads: wait for all that the screen shows of them."""
    view = pilot.app.session.run  # type: ignore[attr-defined]
    await wait_until(pilot, lambda: view.view is not None and view.view.last.step == 1204)
    await wait_until(pilot, lambda: "1\u202f204" in str(_screen(pilot).query_one("#numbers", Static).render()))
    await wait_until(pilot, lambda: _screen(pilot).query_one("#side-log").num_lines > 1)


def test_train(snap_compare: Any, make_app: MakeApp, run: RunLayout, size: tuple[int, int]) -> None:
    async def before(pilot: Pilot[Any]) -> None:
        await _run_is_shown(pilot)

    assert snap_compare(make_app("train", run), terminal_size=size, run_before=before)


def test_change_while_it_runs(snap_compare: Any, make_app: MakeApp, run: RunLayout, size: tuple[int, int]) -> None:
    async def before(pilot: Pilot[Any]) -> None:
        await _run_is_shown(pilot)
        await pilot.press("h", "enter", *"8000", "enter")
        await pilot.pause()

    assert snap_compare(make_app("train", run), terminal_size=size, run_before=before)


async def _ask(pilot: Pilot[Any], question: str) -> None:
    screen = _screen(pilot)
    screen.query_one(PromptLine).fill(question)
    await pilot.press("i", "enter")
    transcript = screen.query_one(Transcript)
    await wait_until(pilot, lambda: len(transcript.said) > 1 and not transcript.is_waiting)
    await pilot.press("escape")


def test_chat(snap_compare: Any, make_app: MakeApp, size: tuple[int, int]) -> None:
    async def before(pilot: Pilot[Any]) -> None:
        await pilot.press("escape")
        await _ask(pilot, "hello")
        await pilot.press("r")
        transcript = _screen(pilot).query_one(Transcript)
        await wait_until(pilot, lambda: transcript.conversation.tip.place == (2, 2) and not transcript.is_waiting)

    assert snap_compare(make_app("chat"), terminal_size=size, run_before=before)


def test_chat_with_two_models(snap_compare: Any, make_app: MakeApp, size: tuple[int, int]) -> None:
    async def before(pilot: Pilot[Any]) -> None:
        await pilot.press("escape", "O", *"base", "enter")
        await wait_until(pilot, lambda: _screen(pilot).models.slot("b").is_loaded)
        await _ask(pilot, "what did training change")
        await pilot.press("v", "v", "v")
        await wait_until(pilot, lambda: "KL" in text_shown(_screen(pilot).query_one(Transcript)).plain)

    assert snap_compare(make_app("chat"), terminal_size=size, run_before=before)


def test_chat_tokens(snap_compare: Any, make_app: MakeApp, size: tuple[int, int]) -> None:
    async def before(pilot: Pilot[Any]) -> None:
        await pilot.press("escape")
        await _ask(pilot, "what else could stand here")
        await pilot.press("t")
        await wait_until(pilot, lambda: bool(_screen(pilot).query("#alternatives")))
        await wait_until(pilot, lambda: _screen(pilot).query_one("#alternatives").num_lines == 30)

    assert snap_compare(make_app("chat"), terminal_size=size, run_before=before)


async def _asked_two(pilot: Pilot[Any]) -> None:
    """Two models that were asked something; the dialog for sets of prompts is open."""
    app = pilot.app
    await pilot.press("escape", "O", *"base", "enter")
    await wait_until(pilot, lambda: app.screen_stack[0].models.slot("b").is_loaded)  # type: ignore[attr-defined]
    await pilot.press("i", *"hi", "enter")
    await wait_until(pilot, lambda: not app.screen_stack[0].query_one(Transcript).is_waiting)
    await pilot.press("escape", "m", "enter")
    await pilot.pause()


def test_chat_prompt_set(snap_compare: Any, make_app: MakeApp, size: tuple[int, int]) -> None:
    async def before(pilot: Pilot[Any]) -> None:
        await _asked_two(pilot)
        await pilot.press("enter")
        await wait_until(pilot, lambda: isinstance(_screen(pilot), PromptSet))
        await wait_until(
            pilot, lambda: "2 models, 1 prompt" in str(_screen(pilot).query_one("#measure-status", Static).render())
        )

    assert snap_compare(make_app("chat"), terminal_size=size, run_before=before)


def test_chat_perplexity(snap_compare: Any, make_app: MakeApp, size: tuple[int, int]) -> None:
    async def before(pilot: Pilot[Any]) -> None:
        await _asked_two(pilot)
        await pilot.press("end", "enter")
        await wait_until(pilot, lambda: isinstance(_screen(pilot), ScoreSheet))
        await wait_until(pilot, lambda: "KL of B" in str(_screen(pilot).query_one("#measure-status", Static).render()))

    assert snap_compare(make_app("chat"), terminal_size=size, run_before=before)


def test_runs(
    snap_compare: Any, make_app: MakeApp, run: RunLayout, finished_run: RunLayout, size: tuple[int, int]
) -> None:
    async def before(pilot: Pilot[Any]) -> None:
        await wait_until(pilot, lambda: _screen(pilot).query_one(RunTable).num_lines == 2)
        await wait_until(pilot, lambda: bool(_screen(pilot).query_one("#curve").plot.curves))

    assert snap_compare(make_app("runs"), terminal_size=size, run_before=before)


def test_resume(snap_compare: Any, make_app: MakeApp, finished_run: RunLayout, size: tuple[int, int]) -> None:
    record_checkpoints(finished_run, 200, 400, max_steps=498)

    async def before(pilot: Pilot[Any]) -> None:
        await wait_until(pilot, lambda: _screen(pilot).query_one(RunTable).num_lines == 1)
        await wait_until(pilot, lambda: bool(_screen(pilot).query_one("#curve").plot.curves))
        await pilot.press("r")
        await wait_until(pilot, lambda: bool(pilot.app.screen.query("#resume-curve")))
        await pilot.press("e", *"learning_rate=1e-5", "enter")
        await wait_until(pilot, lambda: "jumps" in str(_screen(pilot).query_one("#resume-plan", Static).render()))

    assert snap_compare(make_app("runs"), terminal_size=size, run_before=before)


def test_help(snap_compare: Any, make_app: MakeApp, size: tuple[int, int]) -> None:
    async def before(pilot: Pilot[Any]) -> None:
        await pilot.press("question_mark")
        await pilot.pause()

    assert snap_compare(make_app("train"), terminal_size=size, run_before=before)
