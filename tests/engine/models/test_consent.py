"""Consent to a repository's code: refused without, bound to one revision, remembered in a private file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tui_trainer import consent
from tui_trainer.engine.models.tokenizer import check_consent
from tui_trainer.errors import RefusedError
from tui_trainer.paths import state_dir

MODEL = "AutoModelForCausalLM"


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUI_TRAINER_HOME", str(tmp_path / "home"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model whose code is its own."""
    made = tmp_path / "model"
    made.mkdir()
    auto_map = {MODEL: "modeling_x.XForCausalLM"}
    (made / "config.json").write_text(json.dumps({"model_type": "x", "auto_map": auto_map}))
    (made / "modeling_x.py").write_text("raise SystemExit('it ran')")
    return made


def test_without_the_setting_it_is_refused(folder: Path) -> None:
    with pytest.raises(RefusedError, match="runs Python code of its repository") as caught:
        check_consent(folder, MODEL, trust_remote_code=False)
    assert "set model.trust_remote_code = true" in caught.value.remedy


def test_the_setting_alone_is_not_enough(folder: Path) -> None:
    with pytest.raises(RefusedError, match="nobody agreed") as caught:
        check_consent(folder, MODEL, trust_remote_code=True)
    assert f"tui-trainer trust {folder}" in caught.value.remedy


def test_consent_is_asked_once_and_holds_for_one_revision(folder: Path) -> None:
    consent.allow(str(folder))
    for _ in range(2):
        check_consent(folder, MODEL, trust_remote_code=True)
    assert consent.is_allowed(str(folder))
    (folder / "modeling_x.py").write_text("something else")
    with pytest.raises(RefusedError, match="nobody agreed"):
        check_consent(folder, MODEL, trust_remote_code=True)
    consent.allow(str(folder))
    check_consent(folder, MODEL, trust_remote_code=True)
    assert consent.revoke(str(folder))
    assert not consent.revoke(str(folder))
    with pytest.raises(RefusedError):
        check_consent(folder, MODEL, trust_remote_code=True)


def test_a_model_without_code_needs_none(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    check_consent(tmp_path, MODEL, trust_remote_code=True)
    assert not (state_dir() / "consents.json").exists()


def test_a_known_model_that_would_use_its_own_code_needs_it(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "auto_map": {MODEL: "modeling_x.X"}}))
    check_consent(folder, MODEL, trust_remote_code=False)
    with pytest.raises(RefusedError):
        check_consent(folder, MODEL, trust_remote_code=True)


def test_identity_in_the_cache_of_the_hub(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--some-one--a-model" / "snapshots" / "0123abcd"
    snapshot.mkdir(parents=True)
    assert consent.identity_of(snapshot) == ("some-one/a-model", "0123abcd")
    consent.allow("some-one/a-model")
    assert consent.check(snapshot)
    other = snapshot.rename(snapshot.with_name("ffff"))
    assert not consent.check(other)


def test_the_memory_is_private_and_survives_garbage(folder: Path) -> None:
    consent.allow(str(folder))
    file = state_dir() / "consents.json"
    assert file.stat().st_mode & 0o077 == 0
    for garbage in ("", "{torn", "[]", '{"consents": 7}', '{"consents": [7, {}]}'):
        file.write_text(garbage)
        assert not consent.is_allowed(str(folder))
    consent.allow(str(folder))
    assert consent.is_allowed(str(folder))
