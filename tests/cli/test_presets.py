"""`tui-trainer presets`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Call
from tui_trainer.config.presets import list_presets
from tui_trainer.errors import ExitCode

PRESETS = [preset.name for preset in list_presets()]


def test_list(call: Call) -> None:
    printed = call("presets", "list")
    assert call("presets").out == printed.out
    for name in PRESETS:
        assert name in printed.out
    documents = call("presets", "list", "--json").json()["presets"]
    assert [document["name"] for document in documents] == PRESETS
    assert {"title", "description", "command", "expected_time", "expected_memory", "path"} <= set(documents[0])


@pytest.mark.parametrize("name", PRESETS)
def test_show_and_copy_keep_every_byte(call: Call, tmp_path: Path, name: str) -> None:
    shown = call("presets", "show", name).out
    target = tmp_path / "mine.toml"
    assert call("presets", "copy", name, str(target)).code == 0
    assert target.read_text().rstrip("\n") + "\n" == shown
    again = call("presets", "copy", name, str(target))
    assert again.code == ExitCode.REFUSED
    assert "exists already" in again.err
    assert f"{name}.toml" in call("presets", "copy", name, str(tmp_path)).err


def test_unknown_preset(call: Call) -> None:
    printed = call("presets", "show", "nothing-like-it")
    assert printed.code == ExitCode.USAGE
    assert PRESETS[0] in printed.err
