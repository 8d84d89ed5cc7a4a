"""Files that are not what their name says, through the trainer itself: each ends with its sentence and exit code.

All runs are trained by one process, one after another, so that the libraries are loaded once.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_hostile_files import LINES, MODEL
from tui_trainer.config.resolve import Layer, Values, resolve
from tui_trainer.config.toml import parse_document
from tui_trainer.errors import ExitCode
from tui_trainer.procs.start import create_run
from tui_trainer.runs.events import RunFailed, decode
from tui_trainer.runs.journal import read_lines
from tui_trainer.runs.layout import RunLayout

pytestmark = pytest.mark.e2e

CHAT = '{"messages": [{"role": "%s", "content": "q"}, {"role": "%s", "content": "a"}]}\n'
KINDS: dict[str, tuple[str, bytes, str, str]] = {
    "empty": ("a.jsonl", b"", "", "is empty"),
    "lfs pointer": ("a.jsonl", b"version https://git-lfs.github.com/spec/v1\n", "", "is a Git LFS pointer"),
    "pickle": ("a.pkl", b"cos\nsystem\n", "", "is a Python pickle, which is never opened"),
    "utf-16": ("a.txt", "hello\n".encode("utf-16"), "", "is UTF-16 text"),
    "broken lines": ("a.jsonl", LINES[:200] + b"{broken\n" * 5, "", "are of no use"),
    "unknown roles": ("a.jsonl", (CHAT % ("wizard", "frog")).encode(), "", "role"),
    "no assistant": ("a.jsonl", (CHAT % ("user", "user")).encode(), "", "the assistant says nothing in it"),
    "raising template": (
        "a.jsonl",
        (CHAT % ("user", "assistant")).encode(),
        "{{ raise_exception('not for you') }}{{ messages[0]['content'] }}",
        "not for you",
    ),
}
DRIVER = """
import json, sys
from tui_trainer.engine.train import main
print(json.dumps([int(main([folder])) for folder in sys.argv[1:]]))
"""


def _run(folder: Path, store: Path, name: str, content: bytes, template: str) -> RunLayout:
    """A run on a file with this content."""
    folder.mkdir()
    (folder / name).write_bytes(content)
    lines = [f"path = {json.dumps(str(folder / name))}"]
    if template:
        (folder / "template.jinja").write_text(template)
        lines.append(f"template = {json.dumps(str(folder / 'template.jinja'))}")
    text = 'name = "trial"\n[data]\n' + "\n".join(lines) + MODEL
    resolved = resolve([Values(Layer.FILE, parse_document(text, "trial.toml"))])
    return create_run(resolved, argv=["a test"], root=store)


def _last_word(layout: RunLayout) -> Mapping[str, Any]:
    events = [decode(line) for line in read_lines(layout.events)]
    (failed,) = [event for event in events if isinstance(event, RunFailed)]
    return {"reason": failed.reason, "message": failed.message}


def test_each_ends_with_its_sentence_and_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUI_TRAINER_HOME", str(tmp_path / "home"))
    layouts = {
        kind: _run(tmp_path / kind.replace(" ", "-"), tmp_path / "runs", name, content, template)
        for kind, (name, content, template, _) in KINDS.items()
    }
    command = [sys.executable, "-c", DRIVER, *(str(layout.root) for layout in layouts.values())]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=200)
    codes = dict(zip(KINDS, json.loads(done.stdout.splitlines()[-1]), strict=True))
    assert codes == dict.fromkeys(KINDS, ExitCode.USAGE)
    for kind, layout in layouts.items():
        word = _last_word(layout)
        assert KINDS[kind][3] in word["message"], kind
        assert KINDS[kind][0] in word["message"], f"{kind}: names no file"
        assert word["reason"] == "data", kind
    assert "Traceback" not in done.stderr
