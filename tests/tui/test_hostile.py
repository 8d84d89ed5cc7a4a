"""No control character of foreign text reaches the terminal, and no text stops the app: every screen, every widget."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from textual.app import App, ComposeResult
from textual.content import Content
from textual.filter import LineFilter
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widget import Widget

import tui_trainer
from tui_trainer.cli import output
from tui_trainer.cli.app import run as run_command
from tui_trainer.errors import DataError, RunFailedError
from tui_trainer.tui.app import WorkbenchApp
from tui_trainer.tui.safety import with_safe_filter
from tui_trainer.tui.screens.step_rows import RowList
from tui_trainer.tui.screens.stopping import Stopping
from tui_trainer.tui.screens.text import TextScreen
from tui_trainer.tui.widgets.ask import AskText, Confirm, Pick
from tui_trainer.tui.widgets.chart import Chart, Plot
from tui_trainer.tui.widgets.field_list import Field, FieldList
from tui_trainer.tui.widgets.group_list import GroupList
from tui_trainer.tui.widgets.length_chart import LengthChart
from tui_trainer.tui.widgets.log_pane import LogPane
from tui_trainer.tui.widgets.pairs import Pairs
from tui_trainer.tui.widgets.run_table import RunTable
from tui_trainer.tui.widgets.sample_view import TabStrip
from tui_trainer.tui.widgets.topbar import TopBar

from .fakes import FakeWorld
from .hostile import ALL, PAYLOADS, HostileDataWorker, Terminal, hostile_run, terminal
from .waiting import wait_until

MakeApp = Callable[..., WorkbenchApp]
SIZE = (150, 70)


@pytest.fixture
def hostile_world(world: FakeWorld) -> FakeWorld:
    world.data = HostileDataWorker()
    return world


def test_there_are_thirty_and_more() -> None:
    assert len(PAYLOADS) >= 30


KEYS = {
    "data": ["j", "n", "e", "v", "v", "v", "v", "r", "escape", "question_mark", "escape"],
    "args": ["j", "enter", "escape", "p", "escape", "m", "question_mark", "escape", "slash", "x", "escape"],
    "train": ["w", "j", "w", "w", "r", "escape", "left", "z", "question_mark", "escape"],
    "chat": ["escape", "o", "escape", "w", "escape", "question_mark", "escape"],
    "runs": ["j", "j", "i", "escape", "R", "escape", "D", "n", "question_mark", "escape"],
}


@pytest.mark.parametrize("mode", KEYS)
async def test_every_screen(
    make_app: MakeApp, hostile_world: FakeWorld, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [hostile_run(hostile_world.root, at) for at in range(len(ALL))]
    hostile_world.chat.reply = "".join(ALL)
    with terminal(monkeypatch) as drawn:
        app = make_app(mode, runs[-1])
        async with app.run_test(size=SIZE) as pilot:
            await wait_until(pilot, lambda: app.current_mode == mode)
            if mode == "runs":
                table = app.screen.query_one(RunTable)
                await wait_until(pilot, lambda: table.num_lines == len(ALL))
            if mode == "chat":
                await pilot.press("h", "i", "enter")
            for key in KEYS[mode]:
                await pilot.press(key)
                await pilot.pause(0.02)
            assert app.is_running
    assert drawn.raw() == set()


async def test_errors_of_the_worker(make_app: MakeApp, world: FakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as drawn:
        app = make_app("data")
        async with app.run_test(size=SIZE) as pilot:
            await wait_until(pilot, lambda: bool(app.screen.query(LengthChart)))
            for text in ALL:
                world.data.error = DataError(text, where=text, remedy=text)
                app.session.draft_edited()
                await pilot.pause()
            assert app.is_running
    assert drawn.raw() == set()


async def test_toasts_titles_dialogs_and_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = hostile_run(tmp_path, 0)
    with terminal(monkeypatch) as drawn:
        app = _Wall([])
        async with app.run_test(size=(80, 24)) as pilot:
            for text in ALL:
                app.title = app.sub_title = text
                app.notify(text, title=text, markup=False)
                app.copy_to_clipboard(text.encode("utf-8", "replace").decode())
                await _shown(pilot, AskText(text, text, text, _always_wrong(text)))
                app.clear_notifications()
            dialogs: list[Screen[Any]] = [
                TextScreen(ALL[0], "\n".join(ALL)),
                Pick(ALL[1], [(text, text, text) for text in ALL], ALL[2], ALL[3]),
                Stopping(layout),
                *(Confirm(text, ALL, text) for text in ALL[::3]),
            ]
            for dialog in dialogs:
                await _shown(pilot, dialog)
            assert app.is_running
    assert drawn.raw() == set()


def test_no_note_is_read_as_markup() -> None:
    package = Path(tui_trainer.__file__).parent
    calls = [
        f"{path.name}:{node.lineno}"
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "notify"
        and not any(keyword.arg == "markup" for keyword in node.keywords)
    ]
    assert calls == []


async def _shown(pilot: Pilot[None], dialog: Screen[Any]) -> None:
    pilot.app.push_screen(dialog)
    await pilot.pause()
    pilot.app.pop_screen()


def _always_wrong(words: str) -> Callable[[str], object]:
    def check(_: str) -> object:
        raise ValueError(words)

    return check


class _Wall(App[None]):
    """Widgets side by side, behind the same net as in the workbench."""

    def __init__(self, widgets: Sequence[Widget]) -> None:
        super().__init__()
        self._widgets = widgets

    def get_line_filters(self) -> Sequence[LineFilter]:
        return with_safe_filter(super().get_line_filters())

    def compose(self) -> ComposeResult:
        yield from self._widgets


async def test_widgets_on_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fields, groups, pairs, log, rows = FieldList(), GroupList(), Pairs(), LogPane(), RowList()
    chart, bar, tabs = Chart(Plot("x")), TopBar("train"), TabStrip(("a", "b"))
    for widget, height in ((fields, len(ALL)), (groups, len(ALL)), (rows, len(ALL)), (log, 3), (chart, 6)):
        widget.styles.height = height
    with terminal(monkeypatch) as drawn:
        app = _Wall([fields, groups, rows, pairs, log, chart, bar, tabs])
        async with app.run_test(size=(100, 180)) as pilot:
            fields.show([Field(text, text, text, text, note=text, choices=(text,)) for text in ALL])
            groups.show([(text, 3) for text in ALL])
            rows.show([{"row": at, "where": text, "text": text} for at, text in enumerate(ALL)])
            pairs.show([(text, text) for text in ALL[:-1]])
            for at, text in enumerate(ALL):
                chart.show(Plot(text, note=text, placeholder=text))
                bar.run = (Content(text),)
                bar.machine = Content(text)
                tabs.note = text
                file = tmp_path / f"{at}.log"
                file.write_bytes(text.encode("utf-8", "surrogatepass") + b"\n")
                log.open(file)
                log.poll()
                await pilot.pause()
            assert app.is_running
    assert drawn.raw() == set()


@pytest.mark.parametrize("command", ["list", "show", "log", "diff", "queue"])
def test_commands_on_a_terminal(
    world: FakeWorld, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [hostile_run(world.root, at) for at in range(len(ALL))]
    monkeypatch.setenv("TUI_TRAINER_RUNS", str(world.root))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr(output, "paper", lambda: Console(markup=False, highlight=False, emoji=False, width=300))
    for layout in runs if command != "list" else runs[:1]:
        words = {"diff": [layout.id, runs[0].id], "list": [], "queue": []}.get(command, [layout.id])
        assert run_command(("runs", command, *words)) == 0
    printed = capsys.readouterr()
    assert Terminal([printed.out, printed.err]).raw() == set()


def test_error_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    for text in ALL:
        output.print_error(RunFailedError(text, where=text, remedy=text), as_json=False)
    assert Terminal([capsys.readouterr().err]).raw() == set()


def test_watching_a_run_on_a_terminal(
    world: FakeWorld, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = hostile_run(world.root, 0)
    monkeypatch.setenv("TUI_TRAINER_RUNS", str(world.root))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert run_command(("runs", "watch", layout.id)) == 1
    printed = capsys.readouterr()
    assert len(printed.out + printed.err) > 1000
    assert Terminal([printed.out, printed.err]).raw() == set()


@pytest.mark.parametrize("command", ["preview", "check"])
def test_data_on_a_terminal(
    tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = [text.encode("utf-8", "replace").decode() for text in ALL]
    rows = [{"prompt": text, "completion": text, f"other {text}"[:60]: text} for text in good]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + f"{good[0]}\n")
    model = '[model]\ntokenizer_name_or_path = "builtin:bytes"\nfrom_scratch = {model_type = "llama"}\n'
    (tmp_path / "x.toml").write_text(f'{model}[data]\npath = "rows.jsonl"\n[training]\nuse_cpu = true\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    words = ("rows.jsonl", "--rows", f"0:{len(rows)}") if command == "preview" else ("x.toml",)
    assert run_command((command, *words)) in (0, 2)
    printed = capsys.readouterr()
    assert len(printed.out + printed.err) > 300
    assert Terminal([printed.out, printed.err]).raw() == set()
