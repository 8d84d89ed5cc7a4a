"""Knobs under a name: kept as differences, read back strictly, mistakes named with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tui_trainer.config.catalogue import check_value, knobs_of
from tui_trainer.config.knob_presets import (
    SHAPING,
    SHIPPED,
    find_knob_preset,
    knob_presets_dir,
    list_knob_presets,
    save_knob_preset,
)
from tui_trainer.config.sampling import SamplingParams
from tui_trainer.errors import ConfigurationError, UsageError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUI_TRAINER_HOME", str(tmp_path))


def test_only_what_is_set_is_kept() -> None:
    path = save_knob_preset("mine", {"temperature": 0.5, "max_tokens": None, "stop": ["\n", 'a "b"']})
    assert "top_p" not in path.read_text()
    assert find_knob_preset("mine").values == {"temperature": 0.5, "max_tokens": None, "stop": ["\n", 'a "b"']}


def test_the_shipped_ones_are_valid_and_can_be_replaced() -> None:
    knobs = {knob.name: knob for knob in knobs_of(SamplingParams)}
    for preset in SHIPPED:
        for name, value in preset.values.items():
            check_value(knobs[name], value)
    save_knob_preset("greedy", {"temperature": 0.1})
    assert find_knob_preset("greedy").values == {"temperature": 0.1}
    assert len(list_knob_presets()) == len(SHIPPED)


def test_mistakes_are_named_with_their_line() -> None:
    knob_presets_dir().mkdir(parents=True)
    (knob_presets_dir() / "bad.toml").write_text('top_p = 3\ntemprature = 1.0\nmin_p = "x"\n')
    with pytest.raises(ConfigurationError) as caught:
        find_knob_preset("bad")
    assert [(problem.key, problem.where.rpartition(":")[2]) for problem in caught.value.problems] == [
        ("top_p", "1"),
        ("temprature", "2"),
        ("min_p", "3"),
    ]
    listed = next(preset for preset in list_knob_presets() if preset.name == "bad")
    assert "top_p" in listed.problem


def test_a_name_that_is_not_there_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean greedy"):
        find_knob_preset("gredy")


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x" * 65])
def test_names_that_are_no_file_names_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no name"):
        save_knob_preset(name, {"temperature": 1.0})


def test_what_neutralising_sets_is_in_the_catalogue() -> None:
    names = {knob.name for knob in knobs_of(SamplingParams)}
    assert SHAPING - names <= {"logit_bias", "bad_words", "allowed_token_ids"}
