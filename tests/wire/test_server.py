"""The worker's side of the pipe, served over real pipes in this process."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Generator, Iterator
from typing import Any, BinaryIO

import pytest

from tui_trainer.errors import DataError
from tui_trainer.wire import server as server_module
from tui_trainer.wire.frames import Cancel, Failure, Frame, Item, Ready, Request, Result, decode, encode
from tui_trainer.wire.server import Cancellation, Server

Answer = Generator[Any, None, Any]
has_cleaned_up = threading.Event()


def count(params: dict[str, Any], _: Cancellation) -> Answer:
    yield from range(params["to"])
    return "done"


def fail(params: dict[str, Any], _: Cancellation) -> Answer:
    yield 1
    raise DataError("bad row", where="a:1", remedy="mend it")


def breaks(params: dict[str, Any], _: Cancellation) -> Answer:
    yield {"set": {1}}


def returns_no_json(_: dict[str, Any], __: Cancellation) -> Answer:
    yield from ()
    return {1, 2}


def no_generator(_: dict[str, Any], __: Cancellation) -> Any:
    raise KeyError("at once")


def long(params: dict[str, Any], _: Cancellation) -> Answer:
    yield from ()
    return "x" * params["size"]


def until_cancelled(_: dict[str, Any], cancellation: Cancellation) -> Answer:
    has_cleaned_up.clear()
    try:
        yield "begun"
        while not cancellation.is_cancelled:
            time.sleep(0.005)
        cancellation.check()
    finally:
        has_cleaned_up.set()


def never_looks(_: dict[str, Any], __: Cancellation) -> Answer:
    has_cleaned_up.clear()
    try:
        for number in range(10**9):
            yield number
            time.sleep(0.005)
    finally:
        has_cleaned_up.set()


METHODS = (count, fail, breaks, returns_no_json, no_generator, long, until_cancelled, never_looks)


class Client:
    """The other end of the pipes."""

    def __init__(self) -> None:
        theirs, self.input = (os.fdopen(end, mode) for end, mode in zip(os.pipe(), ("rb", "wb"), strict=True))
        self.output, sink = (os.fdopen(end, mode) for end, mode in zip(os.pipe(), ("rb", "wb"), strict=True))
        self.streams: list[BinaryIO] = [theirs, self.input, self.output, sink]  # type: ignore[list-item]
        server = Server("test", {method.__name__: method for method in METHODS}, theirs, sink)  # type: ignore[arg-type]
        self.thread = threading.Thread(target=server.serve)
        self.thread.start()
        assert self.read() == Ready("test")

    def send(self, frame: Frame) -> None:
        self.input.write(encode(frame))
        self.input.flush()

    def read(self) -> Frame | None:
        return decode(self.output.readline())

    def read_to_end(self) -> list[Frame | None]:
        """The frames up to a result or a failure."""
        frames: list[Frame | None] = []
        while not frames or not isinstance(frames[-1], Result | Failure):
            frames.append(self.read())
        return frames

    def close(self) -> None:
        self.input.close()
        self.thread.join(10)
        assert not self.thread.is_alive()
        for stream in self.streams:
            stream.close()


@pytest.fixture
def client() -> Iterator[Client]:
    made = Client()
    yield made
    made.close()


def error_of(frame: Frame | None) -> dict[str, Any]:
    assert isinstance(frame, Failure)
    return frame.error


def test_items_then_the_result(client: Client) -> None:
    client.send(Request(7, "count", {"to": 3}))
    assert client.read_to_end() == [Item(7, 0), Item(7, 1), Item(7, 2), Result(7, "done")]


def test_an_error_of_a_method_keeps_its_kind(client: Client) -> None:
    client.send(Request(1, "fail", {}))
    item, failure = client.read_to_end()
    assert item == Item(1, 1)
    assert error_of(failure) == {"kind": "DataError", "what": "bad row", "where": "a:1", "remedy": "mend it"}


@pytest.mark.parametrize(
    ("method", "text"),
    [
        ("nothing", "no method 'nothing'"),
        ("count", "KeyError: 'to'"),
        ("no_generator", "KeyError: 'at once'"),
        ("breaks", "cannot be sent"),
        ("returns_no_json", "cannot be sent"),
    ],
)
def test_every_request_gets_an_end_and_the_worker_goes_on(client: Client, method: str, text: str) -> None:
    client.send(Request(1, method, {}))
    assert text in error_of(client.read_to_end()[-1])["what"]
    client.send(Request(2, "count", {"to": 0}))
    assert client.read() == Result(2, "done")


def test_an_answer_that_is_too_long_is_an_error(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MAX_FRAME_BYTES", 1000)
    client.send(Request(1, "long", {"size": 2000}))
    assert "more than" in error_of(client.read())["what"]
    client.send(Request(2, "long", {"size": 500}))
    assert client.read() == Result(2, "x" * 500)


@pytest.mark.parametrize("method", ["until_cancelled", "never_looks"])
def test_cancelling_ends_a_method_and_lets_it_clean_up(client: Client, method: str) -> None:
    client.send(Request(1, method, {}))
    assert isinstance(client.read(), Item)
    client.send(Cancel(1))
    assert error_of(client.read_to_end()[-1])["kind"] == "CancelledError"
    assert has_cleaned_up.wait(10)


def test_cancelling_what_is_not_there_is_harmless(client: Client) -> None:
    client.send(Cancel(99))
    client.input.write(b"not a frame\n\xff\n[1]\n" + b"[" * 50_000 + b"\n")
    client.send(Request(1, "count", {"to": 0}))
    assert client.read() == Result(1, "done")


def test_a_slow_method_does_not_hold_up_the_others(client: Client) -> None:
    client.send(Request(1, "until_cancelled", {}))
    assert client.read() == Item(1, "begun")
    for number in range(2, 30):
        client.send(Request(number, "count", {"to": 0}))
    assert {frame.id for frame in (client.read() for _ in range(28)) if isinstance(frame, Result)} == set(range(2, 30))
    client.send(Cancel(1))
    assert isinstance(client.read(), Failure)


def test_the_end_of_the_input_ends_the_methods(client: Client) -> None:
    client.send(Request(1, "until_cancelled", {}))
    assert client.read() == Item(1, "begun")
    client.input.close()
    assert has_cleaned_up.wait(10)
