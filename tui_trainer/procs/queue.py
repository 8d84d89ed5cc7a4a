"""The queue of this machine: which runs hold GPUs or cores, which wait for them, and whose turn it is.

There is no daemon. One small file in the user's state folder lists the runs of this machine, those at work first come
first, then those that wait; every supervisor keeps its own line of it, under a lock, and a waiting one looks now and
then whether it is the first that waits and has room. What is dead is left out by whoever looks. A waiting run is never
overtaken: the first waits for what it needs, the others for the first. Standard library only.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tui_trainer.errors import MachineError, RefusedError
from tui_trainer.paths import make_private, state_dir
from tui_trainer.procs.hardware import Gpu, detect_gpus, usable_cpus
from tui_trainer.procs.orders import LaunchOrder
from tui_trainer.runs.files import read_json, whole_number, write_json
from tui_trainer.runs.identity import ProcessIdentity
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.status import read_status

VERSION = 1
_BUSY_BYTES = 1 << 30
"""Memory in use from which a GPU counts as taken by somebody who is not in the queue."""


@dataclass(frozen=True)
class Entry:
    """One run of this machine.

    Attributes:
        run: its directory, links resolved.
        process: its supervisor.
        num_gpus, num_cpus: what it needs or holds.
        gpu_ids: the GPUs it wants or holds, as `nvidia-smi` counts; empty for any.
        is_waiting: whether it waits for its turn.
    """

    run: str
    process: ProcessIdentity
    num_gpus: int = 0
    num_cpus: int = 0
    gpu_ids: tuple[int, ...] = ()
    is_waiting: bool = False

    @classmethod
    def of(cls, layout: RunLayout, order: LaunchOrder, *, is_waiting: bool) -> Entry:
        """The entry of a run whose supervisor is this process."""
        needs = (order.num_gpus, order.num_cpus, order.gpu_ids)
        return cls(os.path.realpath(layout.root), ProcessIdentity.current(), *needs, is_waiting)

    @property
    def layout(self) -> RunLayout:
        """The run."""
        return RunLayout(Path(self.run))

    @property
    def is_alive(self) -> bool:
        """Whether the run still waits, or still is at work, be it without its supervisor."""
        return self.process.is_alive or (not self.is_waiting and read_status(self.layout).state.is_live)

    def to_dict(self) -> dict[str, Any]:
        """The entry as it stands in the file."""
        needs = {"num_gpus": self.num_gpus, "num_cpus": self.num_cpus, "gpu_ids": list(self.gpu_ids)}
        return {"run": self.run, "waiting": self.is_waiting} | needs | self.process.to_dict()

    @classmethod
    def from_dict(cls, data: Any) -> Entry | None:
        """The entry in the file; None if it is none."""
        process = ProcessIdentity.from_dict(data) if isinstance(data, dict) else None
        if process is None or not isinstance(data.get("run"), str):
            return None
        ids = data.get("gpu_ids")
        return cls(
            data["run"],
            process,
            whole_number(data.get("num_gpus")) or 0,
            whole_number(data.get("num_cpus")) or 0,
            tuple(number for number in ids if isinstance(number, int)) if isinstance(ids, list) else (),
            data.get("waiting") is True,
        )


@dataclass(frozen=True)
class Turn:
    """What a waiting run was told.

    Attributes:
        is_mine: whether it may start; it holds what it needs then.
        gpu_ids: the GPUs it got.
        place: its place among those that wait, from 1.
        message: what it waits for, a sentence.
    """

    is_mine: bool
    gpu_ids: tuple[int, ...] = ()
    place: int = 0
    message: str = ""


class Queue:
    """The queue of this user on this machine.

    Args:
        folder: where its files are, if not in the user's state folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or state_dir() / "queue"
        host = re.sub(r"[^A-Za-z0-9._-]", "_", platform.node()) or "host"
        self._file = self._folder / f"{host}.json"
        self._lock = self._folder / f"{host}.lock"

    def entries(self) -> list[Entry]:
        """All live runs: those at work, then those that wait, in their order."""
        return _in_order([entry for entry in self._read() if entry.is_alive])

    def waiting(self) -> list[Entry]:
        """The live runs that wait, the next one first."""
        return [entry for entry in self.entries() if entry.is_waiting]

    def hold(self, layout: RunLayout, order: LaunchOrder) -> None:
        """Note what a run uses that starts without waiting.

        Raises:
            OSError: the state folder cannot be written.
        """
        entry = Entry.of(layout, order, is_waiting=False)
        with self._changing() as entries:
            entries[:] = [*_others(entries, entry.run), entry]

    def look(self, layout: RunLayout, order: LaunchOrder) -> Turn:
        """Ask whether it is the turn of a waiting run; it joins the queue if it is not in it.

        Raises:
            OSError: the state folder cannot be written.
        """
        mine = Entry.of(layout, order, is_waiting=True)
        place, ahead = self._join(mine)
        if place > 1:
            return Turn(False, place=place, message=f"waits for {ahead}, which is before it in the queue")
        gpus = detect_gpus() if order.num_gpus else []  # asked outside the lock: the driver may take its time
        with self._changing() as entries:
            waiting = [entry for entry in entries if entry.is_waiting]
            if not waiting or waiting[0].run != mine.run:
                return Turn(False, place=1, message="waits for its turn")
            held = [entry for entry in entries if not entry.is_waiting]
            chosen, lacking = _room(mine, held, gpus)
            if lacking:
                return Turn(False, place=1, message=lacking)
            claim = replace(mine, is_waiting=False, gpu_ids=chosen)
            entries[:] = [*held, claim, *waiting[1:]]
        return Turn(True, chosen)

    def join(self, layout: RunLayout, order: LaunchOrder) -> int:
        """Let a run wait in the queue, behind all others; returns its place.

        Raises:
            MachineError: the state folder cannot be written.
        """
        try:
            return self._join(Entry.of(layout, order, is_waiting=True))[0]
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> MachineError:
        return MachineError(f"the queue cannot be written: {error.strerror}", where=str(self._file))

    def _join(self, mine: Entry) -> tuple[int, str]:
        """Place of a run among those that wait, and the id of the one before it; it joins if it is not there."""
        with self._changing() as entries:
            known = [entry.run for entry in entries if entry.is_waiting]
            if mine.run not in known:
                entries[:] = [*_others(entries, mine.run), mine]
                known.append(mine.run)
        at = known.index(mine.run)
        return at + 1, Path(known[at - 1]).name if at else ""

    def leave(self, layout: RunLayout) -> None:
        """Take a run out of the file, and so free what it held."""
        with contextlib.suppress(OSError), self._changing() as entries:
            entries[:] = _others(entries, os.path.realpath(layout.root))

    def move(self, layout: RunLayout, place: int) -> int:
        """Put a waiting run at another place, from 1.

        Returns:
            The place it got.

        Raises:
            RefusedError: it does not wait.
            MachineError: the state folder cannot be written.
        """
        run = os.path.realpath(layout.root)
        try:
            with self._changing() as entries:
                waiting = [entry for entry in entries if entry.is_waiting]
                mine = next((entry for entry in waiting if entry.run == run), None)
                if mine is None:
                    raise RefusedError("the run does not wait in the queue", where=layout.id)
                rest = _others(waiting, run)
                at = min(max(place - 1, 0), len(rest))
                entries[:] = [entry for entry in entries if not entry.is_waiting] + [*rest[:at], mine, *rest[at:]]
        except OSError as error:
            raise self._unwritable(error) from None
        return at + 1

    def _read(self) -> list[Entry]:
        found = (read_json(self._file) or {}).get("entries")
        entries = map(Entry.from_dict, found if isinstance(found, list) else ())
        return [entry for entry in entries if entry is not None]

    @contextlib.contextmanager
    def _changing(self) -> Iterator[list[Entry]]:
        """The live entries, to be changed in place; written back if they were."""
        make_private(self._folder)
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            with contextlib.suppress(OSError):  # a file system without locks: two that look at once may both start
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            before = self._read()
            entries = _in_order([entry for entry in before if entry.is_alive])
            yield entries
            entries[:] = _in_order(entries)
            if entries != before:
                write_json(self._file, {"version": VERSION, "entries": [entry.to_dict() for entry in entries]})
        finally:
            os.close(descriptor)


def visible_devices(gpu_ids: Sequence[int]) -> dict[str, str]:
    """The environment variables that give a run its GPUs, and no others.

    A part of a divided GPU has no number; the environment that names it stays as it is.
    """
    if "MIG-" in os.environ.get("CUDA_VISIBLE_DEVICES", ""):
        return {}
    ids = ",".join(map(str, gpu_ids))
    return {"CUDA_VISIBLE_DEVICES": ids, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if ids else {}


def _in_order(entries: Sequence[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: entry.is_waiting)


def _others(entries: Sequence[Entry], run: str) -> list[Entry]:
    return [entry for entry in entries if entry.run != run]


def _room(mine: Entry, held: Sequence[Entry], gpus: Sequence[Gpu]) -> tuple[tuple[int, ...], str]:
    """The GPUs that a run gets, and what it lacks; empty if it lacks nothing."""
    if not mine.num_gpus:
        total = usable_cpus()
        free = total - sum(entry.num_cpus for entry in held if not entry.num_gpus)
        needed = min(mine.num_cpus, total)
        if free >= needed:
            return (), ""
        return (), f"waits for {needed} of {total} cores; {_names(held)} at work"
    taken = {number for entry in held for number in entry.gpu_ids}
    foreign = {gpu.index for gpu in gpus if (gpu.memory_used or 0) > _BUSY_BYTES} - taken
    free_ids = [gpu.index for gpu in gpus if gpu.index not in taken | foreign]
    if mine.gpu_ids:
        missing = [number for number in mine.gpu_ids if number not in free_ids]
        if not missing:
            return mine.gpu_ids, ""
        return (), f"waits for GPU {', '.join(map(str, missing))}; {_names(held)} at work"
    if len(free_ids) >= mine.num_gpus:
        return tuple(free_ids[: mine.num_gpus]), ""
    others = f"; others use GPU {', '.join(map(str, sorted(foreign)))}" if foreign else ""
    return (
        (),
        f"waits for {mine.num_gpus} GPUs, {len(free_ids)} of {len(gpus)} are free; {_names(held)} at work{others}",
    )


def _names(held: Sequence[Entry]) -> str:
    names = [Path(entry.run).name for entry in held]
    if not names:
        return "no run of ours is"
    return f"{', '.join(names[:3])}{' and others' if len(names) > 3 else ''} {'is' if len(names) == 1 else 'are'}"
