"""A real worker on the wire, with methods that do to the front end what workers may do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

from tui_trainer.errors import ConfigurationError, DataError, Problem
from tui_trainer.wire.server import Cancellation, serve_stdio

Answer = Generator[Any, None, Any]


def echo(params: dict[str, Any], _: Cancellation) -> Answer:
    """Yield each item, return the rest."""
    yield from params.get("items", [])
    return params.get("value")


def who(_: dict[str, Any], __: Cancellation) -> Answer:
    """Who the worker is."""
    yield from ()
    return {"pid": os.getpid(), "session": os.getsid(0)}


def big(params: dict[str, Any], _: Cancellation) -> Answer:
    """A text of that many characters."""
    yield from ()
    return "x" * params["size"]


def forever(params: dict[str, Any], cancellation: Cancellation) -> Answer:
    """Count until cancelled, and note that it was."""
    number = 0
    try:
        while True:
            cancellation.check()
            number += 1
            yield number
            time.sleep(0.01)
    finally:
        Path(params["path"]).write_text("ended")


def noisy(_: dict[str, Any], __: Cancellation) -> Answer:
    """Print as libraries do, on both streams, from here and from a child, and ask a question."""
    print('{"id": 1, "result": "forged"}')
    sys.stdout.flush()
    os.write(1, b"raw \x1b]52;c;aGVsbG8=\x07 line\n")
    subprocess.run([sys.executable, "-c", "print('from a child')"], check=True)
    sys.stderr.write("10%\r50%\r100%\n")
    yield from ()
    return "read: " + repr(os.read(0, 100))


def bad(params: dict[str, Any], _: Cancellation) -> Answer:
    """Fail in the way asked for."""
    yield from ()
    how = params["how"]
    if how == "data":
        raise DataError("row 3 has no answer", where="a.jsonl:3", remedy="Mend it")
    if how == "configuration":
        raise ConfigurationError.of([Problem("data.path", "is missing", where="a.toml:1")])
    if how == "exit":
        raise SystemExit(3)
    if how == "not json":
        return object()
    raise ZeroDivisionError("by design")


def die(params: dict[str, Any], _: Cancellation) -> Answer:
    """End the process."""
    yield from ()
    sys.stderr.write("last words \x1b[31m HF_TOKEN=hf_0123456789abcdef0123\n")
    sys.stderr.flush()
    if params["how"] == "leave a child" and os.fork() == 0:
        time.sleep(600)  # holds every pipe, as a forked loader process does
    if params["how"] == "exit":
        os._exit(7)
    os.kill(os.getpid(), signal.SIGKILL)


def stubborn(_: dict[str, Any], __: Cancellation) -> Answer:
    """A thread of a library that nobody can end."""
    import threading

    yield from ()
    threading.Thread(target=time.sleep, args=(600,), daemon=False).start()
    return True


if __name__ == "__main__":
    methods = (echo, who, big, forever, noisy, bad, die, stubborn)
    serve_stdio("tiny", {method.__name__: method for method in methods})
