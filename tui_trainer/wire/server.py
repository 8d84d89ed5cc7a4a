"""The worker's side of the pipe: requests from standard input, methods in threads, frames to standard output.

Used by `engine.servers`. A method is a generator: what it yields goes out as items, what it returns as the result. It
gets a `Cancellation` to look at. Standard output of the libraries is sent to standard error, so that nothing but frames
reaches the pipe. The worker ends when its standard input closes, which is how it dies with the front end.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Mapping
from typing import Any, BinaryIO

from tui_trainer.errors import CancelledError, WorkbenchError
from tui_trainer.wire.frames import Cancel, Failure, Frame, Item, Ready, Request, Result, decode, encode


class Cancellation:
    """Tells a running method that nobody waits for it any more."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Ask the method to end."""
        self._event.set()

    @property
    def is_cancelled(self) -> bool:
        """Whether the method should end."""
        return self._event.is_set()

    def check(self) -> None:
        """End the method if it should end.

        Raises:
            CancelledError: somebody cancelled.
        """
        if self._event.is_set():
            raise CancelledError("cancelled")


Method = Callable[[dict[str, Any], Cancellation], Generator[Any, None, Any]]


class Server:
    """Serves methods over two byte streams.

    Args:
        name: what the worker calls itself in its `Ready` frame.
        methods: method name to generator function.
    """

    def __init__(self, name: str, methods: Mapping[str, Method], source: BinaryIO, sink: BinaryIO) -> None:
        self._name = name
        self._methods = methods
        self._source = source
        self._sink = sink
        self._write_lock = threading.Lock()
        self._running: dict[int, Cancellation] = {}

    def send(self, frame: Frame) -> None:
        """Write a frame; a front end that is gone is no error."""
        with self._write_lock:
            try:
                self._sink.write(encode(frame))
                self._sink.flush()
            except (BrokenPipeError, ValueError):
                os._exit(0)

    def serve(self) -> None:
        """Take requests until the source ends."""
        self.send(Ready(self._name))
        for line in self._source:
            match decode(line):
                case Request() as request:
                    cancellation = self._running[request.id] = Cancellation()
                    threading.Thread(target=self._run, args=(request, cancellation), daemon=True).start()
                case Cancel(identifier):
                    if identifier in self._running:
                        self._running[identifier].cancel()
                case _:
                    pass
        for cancellation in list(self._running.values()):
            cancellation.cancel()

    def _run(self, request: Request, cancellation: Cancellation) -> None:
        try:
            self.send(self._call(request, cancellation))
        finally:
            self._running.pop(request.id, None)

    def _call(self, request: Request, cancellation: Cancellation) -> Result | Failure:
        method = self._methods.get(request.method)
        if method is None:
            return Failure(request.id, WorkbenchError(f"the worker has no method {request.method!r}").to_dict())
        generator = method(request.params, cancellation)
        try:
            while True:
                value = next(generator)
                self.send(Item(request.id, value))
                if cancellation.is_cancelled:
                    generator.close()
                    raise CancelledError("cancelled")
        except StopIteration as stop:
            return Result(request.id, stop.value)
        except WorkbenchError as error:
            return Failure(request.id, error.to_dict())
        except (
            Exception
        ) as error:  # a bug of ours or of a library must reach the user as a sentence, not end the worker
            traceback.print_exc()
            bug = WorkbenchError(
                f"{type(error).__name__}: {error}", remedy="This is a bug; the worker's log has the details."
            )
            return Failure(request.id, bug.to_dict())


def serve_stdio(name: str, methods: Mapping[str, Method]) -> None:
    """Serve over standard input and output of this process."""
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    Server(name, methods, sys.stdin.buffer, sink).serve()
