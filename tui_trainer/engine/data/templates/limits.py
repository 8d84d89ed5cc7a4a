"""A limit on the time and memory that rendering a template may take; templates come from strangers.

The sandbox of Jinja keeps a template from reading or calling what it should not, but not from looping or doubling a
text for ever. Time is limited by a watchdog that raises an exception in the rendering thread, memory by the limit the
system puts on the data of this process, and the few operations that run long without either are refused by their size.
"""

from __future__ import annotations

import contextlib
import ctypes
import resource
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

RENDER_SECONDS = 5.0
"""Time one rendering may take."""

RENDER_BYTES = 1 << 30
"""Memory one rendering may take, beyond what the process has."""

_POLL_SECONDS = 0.1
_STATM = Path("/proc/self/statm")
_FIELD_DATA = 5


class TemplateTimeoutError(Exception):
    """Rendering took longer than `RENDER_SECONDS`."""


@dataclass
class _Guarded:
    thread: int
    deadline: float
    is_fired: bool = False


class _Watchdog:
    """One thread that ends renderings which are over their time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._guarded: set[int] = set()
        self._slots: dict[int, _Guarded] = {}
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def enter(self, seconds: float) -> _Guarded:
        slot = _Guarded(threading.get_ident(), time.monotonic() + seconds)
        with self._lock:
            self._slots[id(slot)] = slot
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._watch, name="template-watchdog", daemon=True)
                self._thread.start()
        self._wake.set()
        return slot

    def leave(self, slot: _Guarded) -> None:
        with self._lock:
            self._slots.pop(id(slot), None)
            if slot.is_fired:
                # it may have been fired but not raised yet; a rendering that has ended is not to be blamed later
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(slot.thread), None)

    def _watch(self) -> None:
        while True:
            self._wake.wait()
            time.sleep(_POLL_SECONDS)
            now = time.monotonic()
            with self._lock:
                for slot in self._slots.values():
                    if now > slot.deadline and not slot.is_fired:
                        slot.is_fired = True
                        exception = ctypes.py_object(TemplateTimeoutError)
                        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(slot.thread), exception)
                if not self._slots:
                    self._wake.clear()


_watchdog = _Watchdog()
_current = threading.local()


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Run the body for at most `RENDER_SECONDS`; inside another such body, that one's time begins anew.

    Raises:
        TemplateTimeoutError: the time is over; raised inside the body.
    """
    outer: _Guarded | None = getattr(_current, "slot", None)
    if outer is not None:
        outer.deadline = time.monotonic() + RENDER_SECONDS
        yield
        return
    slot = _watchdog.enter(RENDER_SECONDS)
    _current.slot = slot
    try:
        yield
    finally:
        _current.slot = None
        _watchdog.leave(slot)


class MemoryLimit:
    """Lets this process take `RENDER_BYTES` more than it has, while entered; beyond that `MemoryError` is raised.

    Cheap enough to be entered for each batch of rows. Does nothing where the system has no such limit.
    """

    def __enter__(self) -> None:
        self._before = resource.getrlimit(resource.RLIMIT_DATA)
        data = _data_bytes()
        self._is_set = data is not None and sys.platform == "linux"
        if data is not None and self._is_set:
            soft, hard = self._before
            wanted = data + RENDER_BYTES
            unlimited = resource.RLIM_INFINITY
            ceiling = min(limit for limit in (wanted, soft, hard) if limit != unlimited)
            resource.setrlimit(resource.RLIMIT_DATA, (ceiling, hard))

    def __exit__(self, *exc: object) -> None:
        if self._is_set:
            resource.setrlimit(resource.RLIMIT_DATA, self._before)


def _data_bytes() -> int | None:
    """The private memory of this process, as the system counts it against the limit."""
    try:
        pages = int(_STATM.read_text("ascii").split()[_FIELD_DATA])
    except (OSError, ValueError, IndexError):
        return None
    return pages * resource.getpagesize()
