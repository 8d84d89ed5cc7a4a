"""`tui-trainer export`: what it prints, its exit codes, and how it ends when it is told to."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.cli.conftest import Call
from tests.engine.tiny import save_tiny
from tui_trainer.cli.export import _ended_by_signals
from tui_trainer.engine.trainer.manifest import write_manifest
from tui_trainer.errors import ExitCode
from tui_trainer.runs import store as runs
from tui_trainer.runs.layout import RunLayout


@pytest.fixture
def run(store: Path) -> RunLayout:
    layout = runs.create("trial", 'name = "trial"\n', {}, root=store)
    write_manifest(save_tiny(layout.checkpoint(3)), 3)
    return layout


def test_a_document_for_programs(call: Call, run: RunLayout, tmp_path: Path) -> None:
    document = call("export", "trial@3", "--out", "out", "--dtype", "float16", "--json").json()
    assert (document["version"], document["run"], document["step"]) == (1, run.id, 3)
    assert (document["path"], document["kind"], document["dtype"]) == (str(tmp_path / "out"), "model", "float16")
    files = {file["name"]: file["bytes"] for file in document["files"]}
    assert files == {path.name: path.stat().st_size for path in (tmp_path / "out").iterdir()}
    assert document["bytes"] == sum(files.values())
    assert {"model.safetensors", "config.json", "tokenizer.json", "chat_template.jinja", "README.md"} <= set(files)


def test_words_for_people(call: Call, run: RunLayout, tmp_path: Path) -> None:
    printed = call("export", "trial", "--out", "out", "--merge")
    assert (printed.code, printed.out) == (ExitCode.DONE, "out\n")
    assert "the whole model in float32" in printed.err
    assert "nothing to merge" in printed.err
    again = call("export", "trial", "--out", "out")
    assert again.code == ExitCode.REFUSED
    assert "not empty" in again.err
    assert call("export", "trial@9", "--out", "new").code == ExitCode.USAGE
    assert call("export", "trial", "--out", "new", "--dtype", "int8").code == ExitCode.USAGE
    assert call("export", "trial").code == ExitCode.USAGE
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_by_an_exception_that_cleans_up(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), _ended_by_signals():
        os.kill(os.getpid(), number)
    assert signal.getsignal(number) == before
