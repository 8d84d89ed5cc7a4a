"""`tui-trainer trust`, and `train` that asks for it."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import CONFIG, Call
from tui_trainer import consent
from tui_trainer.cli.trust import ask_for_code
from tui_trainer.errors import ExitCode
from tui_trainer.runs.store import list_runs


def test_trust_and_back(call: Call) -> None:
    assert "may run, at the revision that is loaded next" in call("trust", "some-one/a-model").err
    assert consent.is_allowed("some-one/a-model")
    assert "no longer agreed to" in call("trust", "some-one/a-model", "--revoke").err
    assert "was not agreed to" in call("trust", "some-one/a-model", "--revoke").err


def test_training_is_refused_where_nobody_can_be_asked(call: Call, tmp_path: Path, store: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    (tmp_path / "mine.toml").write_text(CONFIG)
    printed = call("train", "mine.toml", "--set", "model.trust_remote_code=true")
    assert printed.code == ExitCode.REFUSED
    assert "tui-trainer trust somewhere" in printed.err
    assert list_runs(store) == []
    consent.allow("somewhere")
    assert ask_for_code("somewhere")
