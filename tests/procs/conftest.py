"""Runs with a fake trainer, and front ends on terminals of their own, for the tests of processes."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tui_trainer.procs.orders import LaunchOrder
from tui_trainer.procs.proctree import ProcessKey, descendants, marked
from tui_trainer.procs.spawn import start_existing
from tui_trainer.runs.files import read_json
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.status import State, rank_processes, read_status
from tui_trainer.runs.store import create

HERE = Path(__file__).parent
PATIENCE = 60.0


def eventually(condition: Callable[[], object], what: str = "") -> None:
    """Wait until a condition holds; fail loudly if it never does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what or condition}"
        time.sleep(0.02)


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    # a shell that runs the tests in the background has SIGINT ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)


class FrontEnd:
    """A process that starts a run from a terminal of its own."""

    def __init__(self, layout: RunLayout) -> None:
        self.terminal, slave = os.openpty()
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "fake_front_end.py"), str(layout.root)],
            stdin=slave,
            stdout=subprocess.PIPE,
            stderr=slave,
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(slave)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"started\n"

    def hang_up(self) -> None:
        """Take the terminal away, as a lost SSH session does."""
        os.close(self.terminal)
        self.terminal = -1
        self.process.wait(PATIENCE)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)

    def type_interrupt(self) -> None:
        """Press ctrl+c on the terminal."""
        os.write(self.terminal, b"\x03")
        self.process.wait(PATIENCE)

    def close(self) -> None:
        self.kill()
        if self.terminal >= 0:
            os.close(self.terminal)
        assert self.process.stdout is not None
        self.process.stdout.close()


class Bench:
    """Makes runs of the fake trainer, looks at their processes, and leaves none behind."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.layouts: list[RunLayout] = []
        self.front_ends: list[FrontEnd] = []

    def run(
        self,
        behaviour: Mapping[str, str] | None = None,
        *,
        grace_seconds: float = 5.0,
        argv: tuple[str, ...] = (sys.executable, str(HERE / "fake_trainer.py")),
        max_restarts: int = 0,
        restart_delay: float = 0.0,
        num_cpus: int = 0,
    ) -> RunLayout:
        """A run that waits to be started."""
        layout = create("fake", "", {}, root=self.root)
        order = LaunchOrder(argv, behaviour or {}, str(self.root), grace_seconds, max_restarts, restart_delay)
        replace(order, num_cpus=num_cpus).write(layout)
        self.layouts.append(layout)
        return layout

    def started(self, behaviour: Mapping[str, str] | None = None, *, grace_seconds: float = 5.0) -> RunLayout:
        """A run whose ranks are at work."""
        layout = self.run(behaviour, grace_seconds=grace_seconds)
        start_existing(layout)
        self.await_work(layout)
        return layout

    def front_end(self, layout: RunLayout) -> FrontEnd:
        """A front end that has started the run, whose ranks are at work."""
        front_end = FrontEnd(layout)
        self.front_ends.append(front_end)
        self.await_work(layout)
        return front_end

    def await_work(self, layout: RunLayout, num_ranks: int = 2) -> None:
        eventually(lambda: len(self.beats(layout)) == num_ranks and len(rank_processes(layout)) == num_ranks)
        eventually(lambda: read_status(layout).state is State.RUNNING)

    def beats(self, layout: RunLayout) -> dict[str, int]:
        """How many steps each rank has made."""
        return {path.name: int(path.read_text() or 0) for path in layout.root.glob("beat.*")}

    def goes_on(self, layout: RunLayout) -> bool:
        """Whether every rank makes further steps."""
        before = self.beats(layout)
        assert before
        eventually(lambda: all(self.beats(layout)[name] > steps + 1 for name, steps in before.items()))
        return True

    def processes(self, layout: RunLayout) -> set[ProcessKey]:
        """All processes of a run, the supervisor left out."""
        keys = marked(layout.root)
        return keys.union(*(descendants(key.pid) for key in keys))

    def supervisor(self, layout: RunLayout) -> int:
        return int((read_json(layout.status) or {})["pid"])

    def close(self) -> None:
        for front_end in self.front_ends:
            front_end.close()
        for layout in self.layouts:
            holder = ProcessKey.of(int((read_json(layout.status) or {}).get("pid") or 0))
            if holder is not None and holder.start_time == (read_json(layout.status) or {}).get("start_time"):
                holder.send(signal.SIGKILL)
            for key in self.processes(layout):
                key.send(signal.SIGKILL)
            eventually(lambda layout=layout: not self.processes(layout), "processes of a test are gone")  # type: ignore[misc]


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes into the user's own folders, or waits in the user's queue."""
    monkeypatch.setenv("TUI_TRAINER_HOME", str(tmp_path / "home"))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """See `Bench`."""
    made = Bench(tmp_path / "runs")
    yield made
    made.close()
