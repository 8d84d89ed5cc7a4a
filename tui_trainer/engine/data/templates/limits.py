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
from typing import Any

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
        rendering: number of its present rendering, 0 while it does something else.
        num_renderings: how many it has begun.
        seen: the rendering that the watchdog met last, and when by that clock; asking the clock at each rendering would
            cost a tenth of a short one.
        is_fired: it was interrupted for the present rendering.
    """

    thread: int
    clock: int
    rendering: int = 0
    num_renderings: int = 0
    seen: tuple[int, float] = (0, 0.0)
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
            slot.rendering = 0
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
                    if slot.rendering and self._is_over_its_time(slot):
                        slot.is_fired = True
                        exception = ctypes.py_object(TemplateTimeoutError)
                        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(slot.thread), exception)
                if not self._slots:
                    self._wake.clear()

    def _is_over_its_time(self, slot: _Slot) -> bool:
        if slot.seen[0] != slot.rendering:
            slot.seen = slot.rendering, slot.now
        return slot.now - slot.seen[1] > RENDER_SECONDS and not slot.is_fired


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


class _Limited:
    """What `limited` returns; written out because it is entered once a row."""

    __slots__ = ("_watching",)

    def __init__(self) -> None:
        self._watching: contextlib.AbstractContextManager[None] | None = None

    def __enter__(self) -> None:
        if getattr(_current, "slot", None) is None:
            self._watching = watched()
            self._watching.__enter__()
        slot: _Slot = _current.slot
        slot.num_renderings += 1
        slot.rendering = slot.num_renderings

    def __exit__(self, *exc: Any) -> None:
        _watchdog.disarm(_current.slot)
        if self._watching is not None:
            self._watching.__exit__(*exc)


def limited() -> _Limited:
    """Run the body for at most `RENDER_SECONDS`.

    Raises:
        TemplateTimeoutError: the time is over; raised inside the body.
    """
    return _Limited()


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
