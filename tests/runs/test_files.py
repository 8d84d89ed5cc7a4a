"""Atomic writes, tolerant reads."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from tui_trainer.runs.files import dump_line, jsonable, number, read_json, whole_number, write_bytes, write_json


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"old": 1}, durable=True)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="space"):
        write_json(path, {"new": 2}, durable=True)
    assert read_json(path) == {"old": 1}
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("keep")
    (tmp_path / f".a.json.{os.getpid()}.tmp").symlink_to(target)
    with pytest.raises(OSError, match="symbolic"):
        write_bytes(tmp_path / "a.json", b"x")
    assert target.read_text() == "keep"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 50_000])
def test_what_cannot_be_read_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    assert read_json(tmp_path / "a.json") is None
    assert read_json(tmp_path / "missing.json") is None
    assert read_json(tmp_path) is None


def test_numbers() -> None:
    assert jsonable({"a": [math.nan, (math.inf, -math.inf)], 3: 1.5}) == {
        "a": ["NaN", ["Infinity", "-Infinity"]],
        "3": 1.5,
    }
    assert number("Infinity") == math.inf
    assert number(True) is None
    assert number("12") is None
    assert number([]) is None
    assert whole_number(7.0) == 7
    assert whole_number("NaN") is None
    assert whole_number(1e999) is None


def test_a_line_is_one_line() -> None:
    assert dump_line({"text": "a\nb\u2028c\r\x1b"}).count(b"\n") == 1
    assert dump_line({"text": "\ud800"}).endswith(b"\n")
