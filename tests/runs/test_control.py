"""The mailbox: in order, whole or not at all, and nothing that lies in it can hurt the reader."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import pytest

from tui_trainer.runs import control
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.store import create


@pytest.fixture
def layout(tmp_path: Path) -> RunLayout:
    return create("mail", "", {}, root=tmp_path)


def mail(command: str, **changes: object) -> dict[str, object]:
    return {"version": 1, "id": "7", "command": command, "arguments": {}, "by": "", "sent": 1.0} | changes


def test_commands_arrive_in_order_and_once(layout: RunLayout) -> None:
    sent = [control.send(layout, "set", {"learning_rate": number / 10}, by="me") for number in range(20)]
    assert control.pending(layout) == sent
    for command in sent[:5]:
        control.remove(layout, command)
    assert control.pending(layout) == sent[5:]
    assert sent[0].by == "me"
    assert [path for path in layout.control.iterdir() if path.name.startswith(".")] == []


def test_two_writers_at_once_lose_nothing(layout: RunLayout) -> None:
    def write() -> None:
        for _ in range(100):
            control.send(layout, "save")

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers) or control.pending(layout):
        for command in control.pending(layout):
            assert not command.error
            assert command.id not in seen
            seen.add(command.id)
            control.remove(layout, command)
    assert len(seen) == 200


def test_mail_is_private(layout: RunLayout) -> None:
    command = control.send(layout, "save")
    assert (layout.control / f"{command.id}.json").stat().st_mode & 0o777 == 0o600


def test_a_mailbox_that_is_missing_is_empty_and_is_made_for_a_command(layout: RunLayout) -> None:
    layout.control.rmdir()
    assert control.pending(layout) == []
    control.send(layout, "stop")
    assert [command.name for command in control.pending(layout)] == ["stop"]


def test_unfinished_mail_is_not_seen(layout: RunLayout) -> None:
    (layout.control / ".7.tmp").write_text("{")
    (layout.control / ".json").write_text("{}")
    assert control.pending(layout) == []


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("", "Expecting value"),
        ("{torn", "Expecting property name"),
        ('["list"]', "not a JSON object"),
        ("null", "not a JSON object"),
        ("[" * 50_000, "nested too deeply"),
        (json.dumps(mail("save", id="8")), "id that is not its name"),
        (json.dumps(mail("save", id=7)), "id that is not its name"),
        (json.dumps(mail("rm -rf")), "is not one of"),
        (json.dumps(mail("save") | {"command": None}), "is not one of"),
        (json.dumps(mail("save") | {"command": ["save"]}), ""),
        (json.dumps(mail("save", arguments=[1])), "with arguments"),
        (json.dumps(mail("save", sent={})), ""),
        (json.dumps(mail("save", sent=10**400)), ""),
        (json.dumps(mail("save", version=2)), "is of version 2"),
        (json.dumps(mail("save", by="x" * 70_000)), "larger than"),
        ("\ud800".encode("utf-8", "surrogatepass").decode("latin-1"), ""),
    ],
)
def test_hostile_mail_is_refused_with_a_reason_and_can_be_removed(layout: RunLayout, content: str, error: str) -> None:
    (layout.control / "7.json").write_text(content)
    good = control.send(layout, "save")
    refused, kept = sorted(control.pending(layout), key=lambda command: command.id != "7")
    assert refused.name == "refused"
    assert error in refused.error
    assert refused.error
    assert kept == good
    control.remove(layout, refused)
    assert control.pending(layout) == [good]


@pytest.mark.parametrize("kind", ["symlink", "fifo", "folder", "full folder"])
def test_what_is_no_plain_file_is_refused_and_does_not_come_again(layout: RunLayout, kind: str) -> None:
    path = layout.control / "7.json"
    if kind == "symlink":
        path.symlink_to("/etc/passwd")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
        if kind == "full folder":
            (path / "inside").write_text("x")
    (command,) = control.pending(layout)
    assert command.error == "the file control/7.json is not a plain file"
    control.remove(layout, command)
    assert control.pending(layout) == []


def test_mail_of_another_user_is_refused(layout: RunLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    control.send(layout, "stop")
    monkeypatch.setattr("os.getuid", lambda: os.geteuid() + 1)
    (command,) = control.pending(layout)
    assert command.error.endswith("belongs to another user")


def test_a_flood_of_commands_is_taken_in_portions_and_in_order(layout: RunLayout) -> None:
    for number in range(250):
        (layout.control / f"{number:04d}.json").write_text("garbage")
    portions = []
    while commands := control.pending(layout):
        portions.append([command.id for command in commands])
        for command in commands:
            control.remove(layout, command)
    assert [len(portion) for portion in portions] == [100, 100, 50]
    assert [name for portion in portions for name in portion] == [f"{number:04d}" for number in range(250)]


@pytest.mark.parametrize("day", [-86_400, 86_400])
def test_a_clock_that_is_set_changes_neither_order_nor_age(
    layout: RunLayout, day: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = control.send(layout, "save")
    now = time.time_ns() + day * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: now)
    monkeypatch.setattr(time, "time", lambda: now / 1e9)
    second, third = control.send(layout, "eval"), control.send(layout, "stop")
    assert control.pending(layout) == [first, second, third]
    assert [0.0 <= (command.age or -1.0) < 60.0 for command in control.pending(layout)] == [True] * 3


def test_a_name_of_garbage_does_not_spoil_the_order(layout: RunLayout) -> None:
    (layout.control / f"{'9' * 20}-00000000.json").write_text("garbage")
    sent = [control.send(layout, "save") for _ in range(3)]
    assert control.pending(layout)[:3] == sent
