"""Frames cross the pipe unchanged, and what is no frame is none."""

from __future__ import annotations

import pytest

from tui_trainer.wire.frames import Cancel, Failure, Frame, Item, Ready, Request, Result, decode, encode

FRAMES: list[Frame] = [
    Request(1, "rows", {"start": 0, "text": "\ud800 é \u2028 \n \x1b"}),
    Cancel(3),
    Item(1, {"done": 1}),
    Item(1, None),
    Result(1, None),
    Result(1, [1.5, {"a": []}]),
    Failure(1, {"kind": "DataError", "what": "x"}),
    Ready("data"),
]


@pytest.mark.parametrize("frame", FRAMES, ids=repr)
def test_there_and_back(frame: Frame) -> None:
    line = encode(frame)
    assert line.count(b"\n") == 1
    assert line.isascii()
    assert decode(line) == frame


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"loading weights 10%\n",
        b"\xff\x00",
        b"[1]",
        b"7",
        b"null",
        b"{}",
        b'{"id": 1}',
        b'{"id": "1", "result": 2}',
        b'{"id": 1, "method": 3, "params": {}}',
        b'{"id": 1, "method": "rows", "params": []}',
        b'{"id": 1, "error": "text"}',
        b'{"cancel": "all"}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_frame(line: bytes) -> None:
    assert decode(line) is None
