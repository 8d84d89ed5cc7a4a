"""Talking to a server over HTTP: one request at a time, answers whole or line by line, every failure a sentence."""

from __future__ import annotations

import contextlib
import http.client
import json
import queue
import socket
import ssl
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tui_trainer.engine.chat.server.address import KEY_VARIABLE, Address
from tui_trainer.errors import CancelledError, MachineError, RunFailedError, UsageError
from tui_trainer.redact import redact

CONNECT_SECONDS = 5.0
SILENCE_SECONDS = 120.0
"""How long a server may be silent; a long prompt on a slow machine takes its time."""
_POLL_SECONDS = 0.05
_LONGEST_LINE = 4 << 20
_LONGEST_ANSWER = 64 << 20
_LONGEST_WORDS = 300


@dataclass(frozen=True)
class _Exchange:
    """A request and its answer on the way.

    Attributes:
        connection: the connection.
        line: its socket, which the answer may have taken over.
        response: the answer.
    """

    connection: http.client.HTTPConnection
    line: socket.socket
    response: http.client.HTTPResponse

    def interrupt(self) -> None:
        """Wake whoever reads from it."""
        with contextlib.suppress(OSError):
            self.line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give it up."""
        self.response.close()
        self.connection.close()


class Http:
    """Sends requests to one server.

    Args:
        address: where it is.
        is_cancelled: asked while waiting; a request that nobody waits for is dropped.
    """

    def __init__(self, address: Address, is_cancelled: Callable[[], bool] = lambda: False) -> None:
        self._address = address
        self._is_cancelled = is_cancelled

    def get(self, path: str, *, from_root: bool = False, seconds: float = CONNECT_SECONDS) -> Any:
        """The JSON value at a path; None if there is nothing, or no JSON.

        Args:
            path: begins with a slash.
            from_root: of the server rather than of the interface.
            seconds: how long to wait.

        Raises:
            MachineError: the server does not answer.
        """
        whole = path if from_root else self._address.path + path
        exchange = self._sent("GET", whole, None, seconds)
        response = exchange.response
        try:
            body = response.read(_LONGEST_ANSWER)
        except (OSError, http.client.HTTPException):
            return None
        finally:
            exchange.close()
        if response.status in (401, 403):
            raise self._refusal(response.status, body)
        try:
            return json.loads(body) if response.status == 200 else None
        except (ValueError, RecursionError):
            return None

    def ask(self, path: str, body: Mapping[str, Any], *, is_stream: bool) -> Generator[dict[str, Any], None, None]:
        """The JSON objects that answer a request: one, or those of a stream as they come.

        They are read in a thread of its own, so that a silent server can be left at any time; closing the generator
        closes the connection.

        Raises:
            WorkbenchError: the server does not answer, refuses, breaks off, or speaks another language.
            CancelledError: nobody waits any more.
        """
        found: queue.Queue[Any] = queue.Queue(maxsize=256)
        opened: list[_Exchange] = []
        is_left = threading.Event()

        def give(value: Any) -> None:
            while not is_left.is_set():
                with contextlib.suppress(queue.Full):
                    found.put(value, timeout=_POLL_SECONDS)
                    return

        def read() -> None:
            try:
                exchange = self._sent("POST", self._address.path + path, body, SILENCE_SECONDS)
                opened.append(exchange)
                for value in self._read(exchange.response, is_stream):
                    give(value)
                give(None)
            except BaseException as error:
                give(error)
            finally:
                for exchange in opened:
                    exchange.close()

        threading.Thread(target=read, daemon=True).start()
        try:
            while (value := self._next(found)) is not None:
                if isinstance(value, BaseException):
                    raise value
                yield value
        finally:
            is_left.set()
            for exchange in opened:
                exchange.interrupt()

    def _next(self, found: queue.Queue[Any]) -> Any:
        while True:
            try:
                return found.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                if self._is_cancelled():
                    raise CancelledError("cancelled") from None

    def _sent(self, method: str, path: str, body: Mapping[str, Any] | None, seconds: float) -> _Exchange:
        address = self._address
        kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
        connection = kind(address.host, address.port, timeout=CONNECT_SECONDS)
        headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        if address.key:
            headers["Authorization"] = f"Bearer {address.key}"
        try:
            connection.connect()
            line = connection.sock
            assert line is not None
            line.settimeout(seconds)
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            return _Exchange(connection, line, connection.getresponse())
        except (OSError, http.client.HTTPException, ValueError) as error:
            connection.close()
            raise self._unreachable(error, seconds) from None

    def _read(self, response: http.client.HTTPResponse, is_stream: bool) -> Iterator[dict[str, Any]]:
        kind = response.headers.get_content_type()
        try:
            if response.status != 200:
                raise self._refusal(response.status, response.read(_LONGEST_LINE))
            if is_stream and kind == "text/event-stream":
                yield from self._events(response)
                return
            value = json.loads(response.read(_LONGEST_ANSWER))
        except (TimeoutError, OSError, http.client.HTTPException) as error:
            raise self._broken_off(error) from None
        except (ValueError, RecursionError):
            raise self._foreign(f"it answered with {kind or 'something'} that is not JSON") from None
        yield self._checked(value)

    def _events(self, response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
        while True:
            line = response.readline(_LONGEST_LINE)
            if not line:
                raise self._broken_off(None)
            if len(line) >= _LONGEST_LINE:
                raise self._foreign("it sends lines without end")
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            if data == b"[DONE]":
                return
            yield self._checked(json.loads(data))

    def _checked(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self._foreign("it answered with a JSON value that is no object")
        if value.get("error"):
            raise RunFailedError(f"the server says: {_words(value)}", where=self._address.url)
        return value

    def _unreachable(self, error: Exception, seconds: float) -> MachineError:
        if isinstance(error, TimeoutError):
            why = f"it did not answer within {seconds:g} s"
        elif isinstance(error, ssl.SSLError):
            why = f"no safe connection: {error.reason or error}"
        else:
            why = str(getattr(error, "strerror", None) or error or type(error).__name__)
        return MachineError(
            f"the server cannot be reached: {redact(why)}",
            where=self._address.url,
            remedy="Start it, or check host and port.",
        )

    def _broken_off(self, error: Exception | None) -> RunFailedError:
        is_silent = isinstance(error, TimeoutError)
        what = f"was silent for {SILENCE_SECONDS:g} s" if is_silent else "ended the answer before it was finished"
        return RunFailedError(f"the server {what}", where=self._address.url, remedy="Ask again; look at its log.")

    def _foreign(self, what: str) -> UsageError:
        return UsageError(
            f"the server does not speak OpenAI's language: {what}",
            where=self._address.url,
            remedy="The address has to end where its interface begins, as in http://localhost:8000/v1.",
        )

    def _refusal(self, status: int, body: bytes) -> UsageError | MachineError | RunFailedError:
        try:
            words = _words(json.loads(body))
        except (ValueError, RecursionError):
            words = ""
        where = self._address.url
        if status in (401, 403):
            lacks = "got none" if self._address.key is None else "refuses the key"
            remedy = f"Set {KEY_VARIABLE} in the environment before you start."
            if not self._address.is_private:
                remedy = "A key is sent over https or to this machine only; use such an address."
            return MachineError(f"the server wants a key and {lacks}", where=where, remedy=remedy)
        if status >= 500:
            return RunFailedError(f"the server failed ({status}): {words or 'it says no more'}", where=where)
        if status in (404, 405) and not words:
            return self._foreign(f"it has nothing there ({status})")
        return UsageError(f"the server refuses ({status}): {words or 'it does not say why'}", where=where)


def _words(value: Any) -> str:
    """What an error object says, whatever shape it has."""
    found = value
    for _ in range(4):
        if isinstance(found, Mapping):
            found = found.get("error") or found.get("message") or found.get("detail") or ""
        elif isinstance(found, list) and found:
            place = found[0].get("loc") if isinstance(found[0], Mapping) else None
            message = found[0].get("msg") if isinstance(found[0], Mapping) else found[0]
            found = f"{'.'.join(map(str, place))}: {message}" if place else message
    return redact(str(found))[:_LONGEST_WORDS]
