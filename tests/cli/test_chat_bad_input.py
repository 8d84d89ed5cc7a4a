"""Wrong knobs and questions that cannot be answered, through `tui-trainer chat` with a real model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.bad_knobs import CONTRADICTIONS, IGNORED, OUT_OF_RANGE
from tests.engine.tiny import save_tiny
from tui_trainer.cli.app import run
from tui_trainer.config.catalogue import parse_text, sampling_knobs, shown

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def call(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Call:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def caller(*options: str) -> tuple[int, str, str]:
        code = run(["chat", str(tiny_folder), *options])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return caller


def options_of(knobs: Mapping[str, str]) -> list[str]:
    """Knobs as options of the command."""
    options: list[str] = []
    for name, text in knobs.items():
        option, value = f"--{name.replace('_', '-')}", parse_text(sampling_knobs()[name], text)
        if name == "use_beam_search":
            options.append(option if value else f"--no-{option[2:]}")
        elif isinstance(value, list):
            options += [word for one in value for word in (option, str(one))]
        else:
            options += [option, shown(value) if isinstance(value, dict) else text]
    return options


def test_every_value_out_of_range_is_refused_with_the_range(call: Call) -> None:
    for name, cases in OUT_OF_RANGE.items():
        for text, words in cases:
            code, out, err = call("--prompt", "x", f"--{name.replace('_', '-')}", text)
            assert (code, out, words in err, "Traceback" in err) == (2, "", True, False), (name, text, err)


def test_contradictions_are_told_before_anything_is_loaded(call: Call) -> None:
    for knobs, words in CONTRADICTIONS:
        code, out, err = call("--prompt", "x", *options_of(knobs))
        assert (code, out, words in err, "parameters" in err) == (2, "", True, False), (knobs, err)


def test_knobs_without_effect_say_why(call: Call) -> None:
    for knobs, name, words in IGNORED:
        code, out, err = call("--prompt", "x", "--json", *options_of({**knobs, "max_tokens": "2"}))
        assert code == 0, err
        assert words in json.loads(out)["ignored_reasons"][name]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--prompt", "x" * 5000], ["the prompt has", "context is 512", "Shorten the prompt"]),
        (["--prompt", "", "--no-template"], ["the prompt is empty"]),
        (["--prompt", "x", "--logit-bias", '{"99999" = 1.0}'], ["token 99999 does not exist", "259"]),
        (["--prompt", "x", "--allowed-token-ids", "99999"], ["token 99999 does not exist"]),
        (["--prompt", "x", "--template", "raises.jinja"], ["refuses this conversation", "only poems", "without a"]),
    ],
)
def test_what_cannot_be_answered_is_a_sentence(
    call: Call, tmp_path: Path, options: list[str], words: list[str]
) -> None:
    (tmp_path / "raises.jinja").write_text("{{ raise_exception('only poems') }}")
    code, out, err = call("--max-tokens", "2", *options)
    assert (code in (2, 3), out) == (True, ""), err
    for word in words:
        assert word in err
    assert "Traceback" not in err


def test_more_than_the_context_ends_at_the_context(call: Call) -> None:
    code, out, err = call("--prompt", "x" * 480, "--max-tokens", "400", "--ignore-eos", "--json", "--seed", "1")
    assert code == 0, err
    document = json.loads(out)
    assert document["usage"]["prompt_tokens"] + document["usage"]["completion_tokens"] == 512
    assert document["candidates"][0]["finish_reason"] == "length"
