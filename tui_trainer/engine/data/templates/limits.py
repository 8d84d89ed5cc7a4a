"""A limit on the time and memory that rendering a template may take; templates come from strangers.

The sandbox of Jinja keeps a template from reading or calling what it should not, but not from looping or doubling a
text for ever. Time is limited by a watchdog that raises an exception in the rendering thread, memory by the limit the
system puts on the data of this process, and the few operations that run long without either are refused by their size.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import resource
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

RENDER_SECONDS = 5.0
"""Time one rendering may take."""

RENDER_BYTES = 2 << 30
"""Memory one rendering may take, beyond what the process has."""

_POLL_SECONDS = 0.1
_HAS_THREAD_CLOCKS = hasattr(time, "pthread_getcpuclockid")
_STATM = Path("/proc/self/statm")
_FIELD_DATA = 5


class TemplateTimeoutError(Exception):
    """Rendering took longer than `RENDER_SECONDS`."""


@dataclass
class _Slot:
    """A thread that renders.

    Attributes:
        thread: its identifier.
        clock: the clock of the CPU time it uses, so that a busy machine does not end what is in order.
        deadline: when its present rendering has to be done, by that clock; infinite while it does something else.
        is_fired: it was interrupted for the present rendering.
    """

    thread: int
    clock: int
    deadline: float = math.inf
    is_fired: bool = False

    @property
    def now(self) -> float:
        """Seconds on its clock."""
        return time.clock_gettime(self.clock)


class _Watchdog:
    """One thread that ends renderings which are over their time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._slots: dict[int, _Slot] = {}
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self) -> _Slot:
        """Watch the calling thread."""
        thread = threading.get_ident()
        slot = _Slot(thread, time.pthread_getcpuclockid(thread) if _HAS_THREAD_CLOCKS else time.CLOCK_MONOTONIC)
        with self._lock:
            self._slots[id(slot)] = slot
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._watch, name="template-watchdog", daemon=True)
                self._thread.start()
        self._wake.set()
        return slot

    def remove(self, slot: _Slot) -> None:
        """Watch it no longer."""
        with self._lock:
            self._slots.pop(id(slot), None)

    def disarm(self, slot: _Slot) -> None:
        """The rendering is over; it is not to be blamed for what comes after it."""
        with self._lock:
            slot.deadline = math.inf
            if slot.is_fired:
                # sent, but perhaps not raised yet
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(slot.thread), None)
                slot.is_fired = False

    def _watch(self) -> None:
        while True:
            self._wake.wait()
            time.sleep(_POLL_SECONDS)
            with self._lock:
                for slot in self._slots.values():
                    if slot.deadline < math.inf and slot.now > slot.deadline and not slot.is_fired:
                        slot.is_fired = True
                        exception = ctypes.py_object(TemplateTimeoutError)
                        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(slot.thread), exception)
                if not self._slots:
                    self._wake.clear()


_watchdog = _Watchdog()
_current = threading.local()


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Make the `limited` bodies inside cheap: the thread is watched from here on."""
    if getattr(_current, "slot", None) is not None:
        yield
        return
    _current.slot = _watchdog.add()
    try:
        yield
    finally:
        slot, _current.slot = _current.slot, None
        _watchdog.remove(slot)


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Run the body for at most `RENDER_SECONDS`.

    Raises:
        TemplateTimeoutError: the time is over; raised inside the body.
    """
    with watched():
        slot: _Slot = _current.slot
        slot.deadline = slot.now + RENDER_SECONDS
        try:
            yield
        finally:
            _watchdog.disarm(slot)


class _MemoryLimit:
    """Lets this process take `RENDER_BYTES` more than it has, while entered; beyond that `MemoryError` is raised.

    Cheap enough to be entered for each batch of rows. Several threads may be inside: the limit is set anew by each that
    comes, and lifted by the last that goes. Does nothing where the system has no such limit.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)

    def __enter__(self) -> None:
        data = _data_bytes()
        if data is None:
            return
        with self._lock:
            if self._inside == 0:
                self._before = resource.getrlimit(resource.RLIMIT_DATA)
            self._inside += 1
            limits = (data + RENDER_BYTES, *self._before)
            soft = min(limit for limit in limits if limit != resource.RLIM_INFINITY)
            resource.setrlimit(resource.RLIMIT_DATA, (soft, self._before[1]))

    def __exit__(self, *exc: object) -> None:
        with self._lock:
            if self._inside:
                self._inside -= 1
                if self._inside == 0:
                    resource.setrlimit(resource.RLIMIT_DATA, self._before)


memory_limit = _MemoryLimit()
"""The limit of this process."""


def _data_bytes() -> int | None:
    """The private memory of this process, as Linux counts it against the limit; None elsewhere."""
    if sys.platform != "linux":
        return None
    try:
        pages = int(_STATM.read_text("ascii").split()[_FIELD_DATA])
    except (OSError, ValueError, IndexError):
        return None
    return pages * resource.getpagesize()
