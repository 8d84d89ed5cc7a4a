"""A worker process of the front end, called with `await worker.call(…)`: the data worker and the chat worker.

The worker is started by the first call and again after it died. It has a session of its own, so that ctrl+c on the
terminal does not reach it, and ends when its standard input closes: with the front end, whatever happens to that.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tui_trainer.errors import CancelledError, MachineError, error_from_dict
from tui_trainer.procs.proctree import session_members
from tui_trainer.redact import redact
from tui_trainer.text import safe_line
from tui_trainer.wire.frames import MAX_FRAME_BYTES, Cancel, Failure, Item, Request, Result, decode, encode

Kind = Literal["data", "chat"]

_MODULES: dict[Kind, str] = {"data": "tui_trainer.engine.servers.data", "chat": "tui_trainer.engine.servers.chat"}
_CLOSE_SECONDS = 2.0
"""How long a worker may take to end after its input was closed."""
_MAX_LOG_LINES = 200
_MAX_LINE_CHARACTERS = 500
_NUM_LINES_IN_ERROR = 3

OnItem = Callable[[Any], None]


@dataclass
class _Call:
    answer: asyncio.Future[Any]
    on_item: OnItem | None


class Worker:
    """One worker process and the calls that wait for it.

    Args:
        kind: which worker.
        command: what to start instead, in tests.
    """

    def __init__(self, kind: Kind, command: Sequence[str] | None = None) -> None:
        self._kind = kind
        # -P: a file of the user's in the current folder must not stand in for a module of Python's
        self._command = tuple(command or (sys.executable, "-P", "-m", _MODULES[kind]))
        self._connection: _Connection | None = None
        self._starting = asyncio.Lock()

    @property
    def log(self) -> list[str]:
        """The last lines of the standard error of the worker, or of the one that died, safe to show."""
        return list(self._connection.log) if self._connection else []

    @property
    def pid(self) -> int | None:
        """The worker's process, None while there is none."""
        return self._connection.process.pid if self._connection and self._connection.is_open else None

    async def call(self, method: str, params: dict[str, Any], on_item: OnItem | None = None) -> Any:
        """Call a method of the worker and wait for its result.

        Cancelling the awaiting task tells the worker, and does not wait for it.

        Args:
            method: name of the method.
            params: its parameters, as JSON has them.
            on_item: is given each value that comes before the result.

        Raises:
            WorkbenchError: the error that the method ended with.
            MachineError: the worker cannot be started, or died; its last words are in the message.
        """
        connection = await self._connect()
        return await connection.call(method, params, on_item)

    async def _connect(self) -> _Connection:
        async with self._starting:
            if self._connection is None or not self._connection.is_open:
                if self._connection is not None:
                    await self._connection.close()
                self._connection = await _Connection.open(self._kind, self._command)
            return self._connection

    async def close(self) -> None:
        """End the process and all calls that wait for it; a later call starts a new one."""
        async with self._starting:
            connection, self._connection = self._connection, None
            if connection is not None:
                await connection.close()


class _Connection:
    """One life of the process."""

    def __init__(self, kind: Kind, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self.process = process
        self.is_open = True
        self.log: deque[str] = deque(maxlen=_MAX_LOG_LINES)
        self._kind = kind
        self._is_closing = False
        self._input, self._output, self._errors = process.stdin, process.stdout, process.stderr
        self._calls: dict[int, _Call] = {}
        self._next_id = 1
        self._end = asyncio.create_task(self._await_end())
        self._log_reader = asyncio.create_task(self._read_errors())
        self._frame_reader = asyncio.create_task(self._read_frames())

    @classmethod
    async def open(cls, kind: Kind, command: Sequence[str]) -> _Connection:
        """Start the process.

        Raises:
            MachineError: it cannot be started.
        """
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=MAX_FRAME_BYTES,
                start_new_session=True,
            )
        except OSError as error:
            raise MachineError(f"the {kind} worker cannot be started: {error.strerror}", where=command[0]) from None
        return cls(kind, process)

    async def call(self, method: str, params: dict[str, Any], on_item: OnItem | None) -> Any:
        """See `Worker.call`."""
        identifier, self._next_id = self._next_id, self._next_id + 1
        call = self._calls[identifier] = _Call(asyncio.get_running_loop().create_future(), on_item)
        try:
            # who writes to a dead worker learns of its death from the reader, with the reason
            with contextlib.suppress(ConnectionError):
                self._input.write(encode(Request(identifier, method, params)))
                await self._input.drain()
            return await call.answer
        except asyncio.CancelledError:
            self._cancel(identifier)
            raise
        finally:
            del self._calls[identifier]

    def _cancel(self, identifier: int) -> None:
        if self.is_open:
            self._input.write(encode(Cancel(identifier)))

    async def _read_frames(self) -> None:
        """Hand every frame to the call it belongs to; when there are no more, end those that still wait."""
        reason = ""
        try:
            while line := await self._output.readline():
                self._take(line)
        except ValueError:
            reason = f"it sent a line of more than {MAX_FRAME_BYTES >> 20} MiB"
            self._kill()
        self.is_open = False
        await self._settle(self._end)
        await self._settle(self._log_reader)
        self._fail(reason or _how_it_ended(self.process.returncode))

    def _take(self, line: bytes) -> None:
        frame = decode(line)
        if not isinstance(frame, Item | Result | Failure):
            return
        call = self._calls.get(frame.id)
        if call is None or call.answer.done():
            return
        if isinstance(frame, Item):
            self._give(call, frame)
        elif isinstance(frame, Result):
            call.answer.set_result(frame.value)
        else:
            call.answer.set_exception(error_from_dict(frame.error))

    def _give(self, call: _Call, item: Item) -> None:
        if call.on_item is None:
            return
        try:
            call.on_item(item.value)
        except Exception as error:
            # a bug of the caller belongs to the caller; the other calls go on
            call.answer.set_exception(error)
            self._cancel(item.id)

    def _fail(self, how: str) -> None:
        """End all waiting calls, with the last words of the process unless it was closed by us."""
        for call in self._calls.values():
            if call.answer.done():
                continue
            if self._is_closing:
                call.answer.set_exception(CancelledError(f"the {self._kind} worker was closed"))
                continue
            words = " / ".join(list(self.log)[-_NUM_LINES_IN_ERROR:])
            what = f"the {self._kind} worker ended: {how}" + (f" ({words})" if words else "")
            call.answer.set_exception(MachineError(what, remedy="Try again; that starts it anew."))

    async def _read_errors(self) -> None:
        """Keep the last lines of standard error; a progress bar's carriage returns end lines as well."""
        rest = ""
        while chunk := await self._errors.read(1 << 16):
            *lines, rest = (rest + chunk.decode("utf-8", "replace")).replace("\r", "\n").split("\n")
            rest = rest[-_MAX_LINE_CHARACTERS:]
            self._keep(lines)
        self._keep([rest])

    def _keep(self, lines: Sequence[str]) -> None:
        shown = (redact(safe_line(line.rstrip()[:_MAX_LINE_CHARACTERS])) for line in lines[-_MAX_LOG_LINES:])
        self.log.extend(line for line in shown if line)

    async def close(self) -> None:
        """Close the input, which ends the worker; kill it if it takes too long."""
        self.is_open, self._is_closing = False, True
        self._input.close()
        await self._settle(self._frame_reader)
        self._fail("")

    async def _await_end(self) -> None:
        """Wait for the death of the process and end what it left behind.

        A child that was forked from it holds its pipes, and asyncio tells of a death only when the pipes are closed.
        """
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(self.process.pid)
            loop, death = asyncio.get_running_loop(), asyncio.Event()
            loop.add_reader(descriptor, death.set)
            try:
                await death.wait()
            finally:
                loop.remove_reader(descriptor)
                os.close(descriptor)
        self._kill()
        await self.process.wait()

    async def _settle(self, task: asyncio.Task[None]) -> None:
        """Wait for a task that ends with the process; kill the process when it takes too long."""
        done, _ = await asyncio.wait([task], timeout=_CLOSE_SECONDS)
        if not done:
            self._kill()
            done, _ = await asyncio.wait([task], timeout=_CLOSE_SECONDS)
        if not done:
            # a process that left the session holds the pipe; nothing more is to be learnt from it
            task.cancel()

    def _kill(self) -> None:
        for key in session_members(self.process.pid):
            key.send(signal.SIGKILL)


def _how_it_ended(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"
