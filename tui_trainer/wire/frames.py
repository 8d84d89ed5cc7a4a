r"""The frames that cross the pipe between the front end and a worker, one JSON object a line.

To the worker:   {"id": 7, "method": "rows", "params": {…}}   {"cancel": 7}
From the worker: {"id": 7, "item": …}*   then one of   {"id": 7, "result": …}   {"id": 7, "error": {…}}
On its own:      {"ready": "…"} once, when the worker can take requests.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

MAX_FRAME_BYTES = 64 << 20
"""Longest line either side accepts."""


@dataclass(frozen=True)
class Request:
    """A call of a method of the worker."""

    id: int
    method: str
    params: dict[str, Any]


@dataclass(frozen=True)
class Cancel:
    """Ends the request of that id as soon as the method looks."""

    id: int


@dataclass(frozen=True)
class Item:
    """One of any number of values that a request yields before its result."""

    id: int
    value: Any


@dataclass(frozen=True)
class Result:
    """The value a request returned."""

    id: int
    value: Any


@dataclass(frozen=True)
class Failure:
    """The error a request ended with, as `WorkbenchError.to_dict()`."""

    id: int
    error: dict[str, Any]


@dataclass(frozen=True)
class Ready:
    """The worker takes requests."""

    name: str


Frame = Request | Cancel | Item | Result | Failure | Ready


def encode(frame: Frame) -> bytes:
    """The line of a frame, line break included."""
    match frame:
        case Request(identifier, method, params):
            data: dict[str, Any] = {"id": identifier, "method": method, "params": params}
        case Cancel(identifier):
            data = {"cancel": identifier}
        case Item(identifier, value):
            data = {"id": identifier, "item": value}
        case Result(identifier, value):
            data = {"id": identifier, "result": value}
        case Failure(identifier, error):
            data = {"id": identifier, "error": error}
        case Ready(name):
            data = {"ready": name}
    return json.dumps(data, ensure_ascii=True, separators=(",", ":")).encode("ascii") + b"\n"


def decode(line: bytes) -> Frame | None:
    """The frame on a line; None if it is none (a library printed to the pipe)."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return None
    match data:
        case {"id": int(identifier), "method": str(method), "params": dict(params)}:
            return Request(identifier, method, params)
        case {"cancel": int(identifier)}:
            return Cancel(identifier)
        case {"id": int(identifier), "item": value}:
            return Item(identifier, value)
        case {"id": int(identifier), "result": value}:
            return Result(identifier, value)
        case {"id": int(identifier), "error": dict(error)}:
            return Failure(identifier, error)
        case {"ready": str(name)}:
            return Ready(name)
    return None
