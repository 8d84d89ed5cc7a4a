"""The worker's side of the pipe: requests from standard input, methods in threads, frames to standard output.

Used by `engine.servers`. A method is a generator: what it yields goes out as items, what it returns as the result. It
gets a `Cancellation` to look at. What libraries print goes to standard error, so that nothing but frames reaches the
pipe, and whoever of them asks a question on standard input gets no answer. The worker ends when its input closes, which
is how it dies with the front end.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Mapping
from typing import Any, BinaryIO, NoReturn

from tui_trainer.ending import end_with
from tui_trainer.errors import CancelledError, WorkbenchError
from tui_trainer.wire.frames import (
    MAX_FRAME_BYTES,
    Cancel,
    Failure,
    Frame,
    Item,
    Ready,
    Request,
    Result,
    decode,
    encode,
)

_BUG = "This is a bug; the worker's log has the details."
_END_SECONDS = 5.0


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

    def wait(self, seconds: float) -> None:
        """Wait, unless the method should end.

        Raises:
            CancelledError: somebody cancelled.
        """
        self._event.wait(seconds)
        self.check()


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
        """Write a frame; a front end that is gone is no error.

        Raises:
            WorkbenchError: the frame cannot cross the pipe: it is no JSON, or too long.
        """
        try:
            line = encode(frame)
        except (TypeError, ValueError, RecursionError) as error:
            raise WorkbenchError(f"an answer cannot be sent: {error}", remedy=_BUG) from None
        if len(line) > MAX_FRAME_BYTES:
            raise WorkbenchError(
                f"an answer has {len(line) >> 20} MiB, more than the {MAX_FRAME_BYTES >> 20} MiB that can be sent",
                remedy="Ask for less at once.",
            )
        with self._write_lock:
            try:
                self._sink.write(line)
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
                    if (running := self._running.get(identifier)) is not None:
                        running.cancel()
                case _:
                    pass
        for cancellation in list(self._running.values()):
            cancellation.cancel()

    def _run(self, request: Request, cancellation: Cancellation) -> None:
        try:
            self.send(Result(request.id, self._call(request, cancellation)))
        except WorkbenchError as error:
            self.send(Failure(request.id, error.to_dict()))
        except (Exception, SystemExit) as error:
            # a bug of ours or of a library must reach the user as a sentence, not end the worker
            traceback.print_exc()
            bug = WorkbenchError(f"{type(error).__name__}: {error}", remedy=_BUG)
            self.send(Failure(request.id, bug.to_dict()))
        finally:
            self._running.pop(request.id, None)

    def _call(self, request: Request, cancellation: Cancellation) -> Any:
        method = self._methods.get(request.method)
        if method is None:
            raise WorkbenchError(f"the worker has no method {request.method!r}")
        generator = method(request.params, cancellation)
        try:
            while True:
                self.send(Item(request.id, next(generator)))
                cancellation.check()
        except StopIteration as stop:
            return stop.value
        finally:
            generator.close()


def serve_stdio(name: str, methods: Mapping[str, Method]) -> NoReturn:
    """Serve over standard input and output of this process, and end soon after the input has ended."""
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123 - a descriptor is wanted, not a path
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr

    def serve() -> int:
        Server(name, methods, source, sink).serve()
        # a thread of a library that never comes to its end must not keep the process after the front end has gone
        last_resort = threading.Timer(_END_SECONDS, os._exit, (0,))
        last_resort.daemon = True
        last_resort.start()
        return 0

    end_with(serve)
