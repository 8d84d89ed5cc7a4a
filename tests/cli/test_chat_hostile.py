"""No control character of a prompt, a model, a template or an error reaches the terminal through `tui-trainer chat`."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.engine.tiny import save_tiny
from tests.tui.hostile import ALL, Terminal, poisoned
from tui_trainer.cli.app import run
from tui_trainer.cli.chat_local import LocalModels, OnItem
from tui_trainer.errors import DataError, RunFailedError
from tui_trainer.wire.server import Cancellation

_SPINNER = re.compile(r"\r(?:\x1b\[[0-9]*[AK])+")
_KEPT = frozenset({"finish_reason", "kind", "key", "source", "slot"})
_TEXTS = [text.encode("utf-8", "replace").decode().replace("\0", "␀") for text in ALL]


class _Poison:
    """Answers of the models with a payload behind each text; the number of the call decides which."""

    def __init__(self) -> None:
        self.num_calls = 0
        self._call = LocalModels.call

    def __call__(
        self,
        models: LocalModels,
        method: str,
        params: Mapping[str, Any],
        on_item: OnItem | None = None,
        cancellation: Cancellation | None = None,
    ) -> Any:
        self.num_calls += 1
        payload = ALL[self.num_calls % len(ALL)][:200]

        def take(item: Mapping[str, Any]) -> None:
            if on_item is not None:
                on_item(poisoned(item, payload, keep=_KEPT))

        if on_item is not None:
            on_item({"task": payload, "done": 1, "total": 2})
        return poisoned(self._call(models, method, params, take, cancellation), payload, keep=_KEPT)


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> _Poison:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    made = _Poison()
    monkeypatch.setattr(LocalModels, "call", lambda *given: made(*given))
    return made


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: True)


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A model in a folder with a name that is markup and a control sequence."""
    return str(save_tiny(tmp_path / "tiny [/red] \x1b]0;PWNTITLE\x07"))


def test_questions_of_options_and_files(
    poison: _Poison,
    model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    on_a_terminal(monkeypatch)
    asked = [word for text in _TEXTS for word in ("--prompt", text[:300])]
    assert run(["chat", model, "--against", model, "--max-tokens", "2", *asked]) == 0
    assert run(["chat", model, "--max-tokens", "2", "--system", _TEXTS[0], "--prefill", _TEXTS[3], *asked]) == 0
    (tmp_path / "set.txt").write_text("\n".join(text.splitlines()[0] for text in _TEXTS[:9] if text.strip()))
    assert run(["chat", model, "--prompts", "set.txt", "--score"]) in (0, 3)
    assert poison.num_calls > 2 * len(ALL)
    printed = capsys.readouterr()
    assert "PWN" in printed.out
    assert "PWN" in printed.err
    assert Terminal([printed.out, _SPINNER.sub("", printed.err)]).raw() == set()


def test_a_conversation_with_every_command(
    poison: _Poison, model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on_a_terminal(monkeypatch)
    said: list[str] = []
    for at, text in enumerate(text[:200].replace("\n", " ") for text in _TEXTS):
        said += [
            "/new",
            f"x{text}",
            "/tree",
            f"/{text}",
            f"/set {text} 1",
            f"/preset {text}",
            f"/save json {text * 9}/x",
        ]
        asks = [
            "/left",
            "/raw",
            "/tokens",
            "/continue",
            f"/edit {text}",
            f"/system {text}",
            f"/prefill {text}",
            "/retry",
        ]
        said += [asks[at % len(asks)], asks[(at + 1) % len(asks)]]
    said += ["/knobs", "/help", f"/against {model}", "what?", "/tokens difference", "/follow", "/quit"]
    lines = iter(said)
    monkeypatch.setattr("builtins.input", lambda _: next(lines))
    assert run(["chat", model, "--max-tokens", "2"]) == 0
    printed = capsys.readouterr()
    assert next(lines, None) is None
    assert printed.err.count("PWN") > len(ALL)
    assert Terminal([printed.out, _SPINNER.sub("", printed.err)]).raw() == set()


def test_errors_of_models(poison: _Poison, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ALL:

        def fail(*_: Any, text: str = text) -> Any:
            raise RunFailedError(text, where=text, remedy=text)

        monkeypatch.setattr(LocalModels, "call", fail)
        monkeypatch.setattr(sys, "stderr", written := io.StringIO())
        assert run(["chat", model, "--prompt", "hi"]) == RunFailedError.exit_code
        assert Terminal([written.getvalue()]).raw() == set()
        assert written.getvalue()


def test_half_a_character_is_an_error_of_the_question(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert run(["chat", model, "--prompt", "\udcff"]) == DataError.exit_code
    assert run(["chat", model, "--prompt", "\udcff", "--no-template"]) == DataError.exit_code
    assert capsys.readouterr().err.count("half a character (U+DCFF)") == 2
