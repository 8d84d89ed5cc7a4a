"""Texts that attack a terminal or a markup parser, a world full of them, and a terminal that keeps what it is sent."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.drivers.headless_driver import HeadlessDriver

from tui_trainer.runs.events import (
    Alert,
    CheckpointSaved,
    ControlApplied,
    EvalMetrics,
    Event,
    Progress,
    RunFailed,
    RunStarted,
    Sample,
    StepMetrics,
)
from tui_trainer.runs.files import read_json, write_json
from tui_trainer.runs.journal import JournalWriter
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.status import RunStatus, State, write_status
from tui_trainer.runs.store import create

from .fakes import FakeDataWorker

PAYLOADS: dict[str, str] = {
    "clipboard": "A\x1b]52;c;UFdORUQ=\x1b\\Z",
    "clipboard, bell": "A\x1b]52;c;UFdORUQ=\x07Z",
    "title": "A\x1b]0;PWNTITLE\x07Z",
    "colour, erase": "A\x1b[31mPWNRED\x1b[2J\x1b[HZ",
    "report": "A\x1b[6nZ",
    "device attributes": "A\x1b[cZ",
    "reset": "A\x1bcZ",
    "device control": "A\x1bPPWNDCS\x1b\\Z",
    "program command": "A\x1b_PWNAPC\x1b\\Z",
    "privacy message": "A\x1b^PWNPM\x1b\\Z",
    "link": "A\x1b]8;;http://evil.example\x1b\\PWNLINK\x1b]8;;\x1b\\Z",
    "8-bit colour": "A\x9b31mPWNC1Z",
    "8-bit title": "A\x9d0;PWNC1T\x9cZ",
    "8-bit everything": "".join(map(chr, range(0x80, 0xA0))),
    "7-bit everything": "".join(map(chr, range(0x20))),
    "bell": "A\x07Z",
    "backspace": "AAAA\x08\x08\x08PWNBS",
    "carriage return": "AAAA\rPWNCR",
    "nul": "A\x00Z",
    "delete": "A\x7fZ",
    "vertical tab": "A\x0b\x0cZ",
    "shift out": "A\x0eqqq\x0fZ",
    "right to left": "A\u202ePWNBIDI\u202cZ\u2066x\u2069\u200f",
    "invisible": "A\u200b\u2060\ufeffZ\u00ad",
    "line separators": "A\x85PWNNEL\u2028Z\u2029",
    "lone surrogate": "A\ud800Z",
    "tags": "A\U000e0041\U000e0042Z",
    "closing markup": "PWN [/] x",
    "false closing markup": "PWN [/foo] x [/bold]",
    "action": "PWN [@click=app.bell()]x[/]",
    "markup link": "PWN [link=http://e]x[/link]",
    "instruction": "PWN [INST] hi [/INST] x = [1, 2][0]",
    "escaped markup": "PWN \\[ok] \\\\[/] trailing \\",
    "zalgo and wide": "Z" + "\u0301" * 40 + "\U0001f469\u200d\U0001f4bb" * 5 + "\u4e00" * 90,
    "endless line": "x" * 20_000,
}
ALL = list(PAYLOADS.values())

_OWN_SEQUENCES = re.compile(
    r"\x1b\[[0-9;:?<>=]*[ $'\"]?[A-Za-z@`]"  # styles, moves, modes
    r"|\x1b\]8;[^\x1b\x07]*\x1b\\"  # links, only with an address of our own
    r"|\x1b\]52;c;[A-Za-z0-9+/=]*\x07"  # a copy that a key asked for
    r"|\x1b\][0-9]+;[^\x1b\x07]*(?:\x07|\x1b\\)"
)
_RAW = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060\u2066-\u2069\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_TELLTALES = (
    "\x1b]52;c;UFdORUQ=",
    "\x1b]0;PWNTITLE",
    "\x1b[31mPWNRED",
    "\x1b[2J\x1b[HZ",
    "A\x1b[6n",
    "A\x1b[c",
    "\x1b]8;;http://evil.example",
)


class Terminal:
    """What an app sends to its terminal."""

    def __init__(self, written: Sequence[str] = ()) -> None:
        self.written = list(written)

    def raw(self) -> set[str]:
        """What came through of the payloads."""
        text = "".join(self.written)
        found = {telltale for telltale in _TELLTALES if telltale in text}
        return found | set(_RAW.findall(_OWN_SEQUENCES.sub("", text)))


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """Apps under test draw onto this, as they would onto a real terminal."""
    made = Terminal()
    monkeypatch.setattr(HeadlessDriver, "is_headless", False)
    monkeypatch.setattr(HeadlessDriver, "write", lambda _, data: made.written.append(data))
    yield made
    assert any("\x1b[" in data for data in made.written), "nothing was drawn"


def poisoned(value: Any, payload: str, *, keep: frozenset[str]) -> Any:
    """`value` with the payload behind every text in it, names of columns among them."""
    if isinstance(value, dict):
        return {
            (name if name not in ("input", "output") else name + payload): item
            if name in keep
            else poisoned(item, payload, keep=keep)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [poisoned(item, payload, keep=keep) for item in value]
    return value + payload if isinstance(value, str) else value


class HostileDataWorker(FakeDataWorker):
    """A data worker whose every answer carries payloads; the row or the call decides which."""

    _KEEP = frozenset({"format", "severity", "code", "model_type", "splits"})

    async def call(self, method: str, params: dict[str, Any], on_item: Any = None) -> Any:
        answer = await super().call(method, params, on_item)
        if method == "describe_model":
            return answer
        if method == "rows":
            rows = [poisoned(row, ALL[row["row"] % len(ALL)], keep=frozenset()) for row in answer["rows"]]
            return {**answer, "rows": rows}
        return poisoned(answer, ALL[len(self.calls) % len(ALL)], keep=self._KEEP)


def hostile_run(root: Path, at: int) -> RunLayout:
    """A run in whose every file stands the payload of that number, and in its lists all of them."""
    payload = ALL[at]
    config = f'name = "x"\n[model]\nname_or_path = {_toml(payload)}\n[data]\npath = {_toml(payload)}\n'
    layout = create(f"run{at}", config, {}, root=root)
    write_json(layout.run, {**(read_json(layout.run) or {}), "name": payload, "parent": payload, "git_commit": payload})
    with JournalWriter(layout.events) as journal:
        for event in _events(payload):
            journal.write(event)
    layout.train_log.write_bytes(
        b"\n".join(text.encode("utf-8", "surrogatepass") for text in ALL) + b"\n\xff\xfe\x9b\n"
    )
    failed = RunStatus(layout.id, State.FAILED, reason=payload, message=payload, remedy=payload, step=3)
    write_status(layout, failed)
    return layout


def _toml(text: str) -> str:
    quoted = text.encode("utf-8", "replace").decode().replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08X}" for c in quoted) + '"'


def _events(payload: str) -> Iterator[Event]:
    yield RunStarted(
        max_steps=9,
        num_epochs=1,
        num_rows=1,
        num_trainable_parameters=1,
        num_parameters=1,
        world_size=1,
        device=payload,
        fingerprint=payload,
    )
    for text in (payload, *ALL):
        yield StepMetrics(step=3, loss=1.0)
        yield Sample(step=3, prompt=text, text=text, knobs={text: text}, finish_reason=text)
        yield Alert(step=3, kind=text, message=text, remedy=text)
        yield ControlApplied(step=3, command=text, old={text: text}, new={text: text}, by=text)
        yield ControlApplied(step=3, command="set", error=text, by=text)
        yield CheckpointSaved(step=3, path=text, bytes=1, seconds=1.0)
        yield EvalMetrics(step=3, extra={"eval_loss": 1.0, f"eval_{text}": 1.0})
    yield Progress(task=payload)
    yield RunFailed(step=3, reason=payload, message=payload, remedy=payload)
