"""The app as a whole: modes, help, leaving, small terminals, the user's keys."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Static

from tui_trainer.errors import ConfigurationError
from tui_trainer.runs.layout import RunLayout
from tui_trainer.tui.app import WorkbenchApp, resume_collection
from tui_trainer.tui.keymap import key_groups, read_keymap
from tui_trainer.tui.screens.help import HelpScreen

from .fakes import FakeWorld
from .waiting import wait_until

MakeApp = Callable[..., WorkbenchApp]


async def test_digits_change_the_mode_but_not_while_typing(make_app: MakeApp) -> None:
    app = make_app("data")
    async with app.run_test(size=(80, 24)) as pilot:
        for key, mode in (("3", "train"), ("5", "runs"), ("4", "chat")):
            await pilot.press(key)
            await wait_until(pilot, lambda mode=mode: app.current_mode == mode)  # type: ignore[misc]
        await pilot.press("5")
        await pilot.pause()
        assert app.current_mode == "chat"
        await pilot.press("escape", "5")
        await wait_until(pilot, lambda: app.current_mode == "runs")


async def test_help_lists_the_keys_of_the_screen(make_app: MakeApp) -> None:
    app = make_app("train")
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("question_mark")
        await wait_until(pilot, lambda: isinstance(app.screen, HelpScreen))
        text = "\n".join(str(static.render()) for static in app.screen.query(Static))
        assert "The stop ladder: save first, end, kill" in text
        assert "Page Left" not in text
        await pilot.press("escape")
        await wait_until(pilot, lambda: not isinstance(app.screen, HelpScreen))


async def test_leaving_closes_the_workers_and_says_that_the_run_goes_on(
    make_app: MakeApp, run: RunLayout, world: FakeWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    app = make_app("train", run)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("q")
        await pilot.pause()
    assert ("close", {}) in world.data.calls
    assert ("close", {}) in world.chat.calls
    assert f"{run.id} goes on" in capsys.readouterr().err


async def test_a_terminal_that_is_too_small_is_told_of(make_app: MakeApp) -> None:
    app = make_app("data")
    async with app.run_test(size=(40, 10)) as pilot:
        note = app.screen.query_one("#too-small", Static)
        await wait_until(pilot, lambda: note.display and note.size.height > 0)
        assert "40x10" in str(note.render())
        await pilot.resize_terminal(80, 24)
        await wait_until(pilot, lambda: not note.display)


def test_every_key_has_an_id_and_a_tooltip() -> None:
    bindings = [binding for _, own in key_groups() for binding in own]
    assert len(bindings) > 80
    assert [binding for binding in bindings if not binding.id or not binding.tooltip] == []


def test_ids_of_keys_are_unique() -> None:
    identifiers = [binding.id for _, own in key_groups() for binding in own]
    assert sorted(identifiers, key=str) == sorted(set(identifiers), key=str)


def _write_keymap(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "home" / "config"
    folder.mkdir(parents=True)
    (folder / "keys.toml").write_text(text, "utf-8")


async def test_the_user_can_take_another_key(make_app: MakeApp, tmp_path: Path) -> None:
    _write_keymap(tmp_path, 'mode-runs = "f5"\n')
    app = make_app("data")
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("5")
        await pilot.pause()
        assert app.current_mode == "data"
        await pilot.press("f5")
        await wait_until(pilot, lambda: app.current_mode == "runs")


def test_a_key_file_that_names_no_key_is_refused(tmp_path: Path) -> None:
    _write_keymap(tmp_path, 'mode-rnus = "f5"\n')
    with pytest.raises(ConfigurationError, match=r"keys.toml:1: mode-rnus: is no key"):
        read_keymap()


def test_garbage_is_looked_for_again_once_the_workbench_stands() -> None:
    gc.unfreeze()
    gc.disable()
    try:
        resume_collection()
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
    finally:
        gc.enable()


def test_an_unforeseen_error_ends_the_workbench_without_a_traceback(
    make_app: Callable[[str], WorkbenchApp], capfd: pytest.CaptureFixture[str]
) -> None:
    async def fail() -> None:
        secret = "hf_secret"
        raise RuntimeError(f"worker of {len(secret)} letters")

    async def drive(pilot: Pilot[object]) -> None:
        pilot.app.run_worker(fail())
        await pilot.app._exception_event.wait()

    app = make_app("runs")
    app.run(headless=True, size=(80, 24), auto_pilot=drive)
    with pytest.raises(RuntimeError, match="worker of 9 letters"):
        app.raise_unforeseen()
    assert app.return_code == 1
    said = "".join(capfd.readouterr())
    assert "Traceback" not in said
    assert "hf_secret" not in said


@pytest.mark.parametrize(("looks_for", "code"), [("#source", 0), ("a value that is missing", 1)])
def test_what_is_still_to_be_shown_while_the_widgets_are_taken_down_is_no_error(
    make_app: Callable[[str], WorkbenchApp], looks_for: str, code: int
) -> None:
    async def drive(pilot: Pilot[object]) -> None:
        screen, shown = pilot.app.screen, asyncio.Event()

        async def show_while_leaving() -> None:
            pilot.app.exit()
            await screen.query_one("#source").remove()
            shown.set()
            if looks_for != "#source":
                raise LookupError(looks_for)
            screen.query_one(looks_for)

        screen.call_later(show_while_leaving)
        await shown.wait()

    app = make_app("data")
    app.run(headless=True, size=(80, 24), auto_pilot=drive)
    assert app.return_code == code
