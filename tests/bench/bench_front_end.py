"""What the front end costs: CPU to first paint, resident memory, bytes written while nothing happens.

Run it with `python tests/bench/bench_front_end.py`. The workbench and a Textual hello-world app start in turns, each in
a terminal of its own; a figure is the median. CPU is what the process used until its first screen had come.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import select
import signal
import statistics
import struct
import sys
import tempfile
import termios
import time
from dataclasses import dataclass
from pathlib import Path

HELLO = """
from textual.app import App
from textual.widgets import Static
class Hello(App):
    def compose(self):
        yield Static("hello world")
Hello().run()
"""
WORKBENCH = "import sys; sys.argv = ['tui-trainer']; from tui_trainer.cli import main; main()"
MODULES = """
import sys, json
from tui_trainer.tui.app import WorkbenchApp, run
import tui_trainer.tui.screens.data
print(json.dumps(sorted(sys.modules)))
"""
HEAVY = {"torch", "transformers", "datasets", "accelerate", "numpy", "pyarrow", "pandas"}


@dataclass(frozen=True)
class Start:
    """One start of an app: CPU seconds and bytes resident at first paint, bytes written in a quiet time after."""

    cpu: float
    resident: int
    idle_bytes: int


class Terminal:
    """An app in a pseudo-terminal of 120x36."""

    def __init__(self, code: str, home: Path) -> None:
        environment = {
            **os.environ,
            "TERM": "xterm-256color",
            "TUI_TRAINER_HOME": str(home),
            "TUI_TRAINER_RUNS": str(home / "runs"),
        }
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execve(sys.executable, [sys.executable, "-c", code], environment)
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 36, 120, 0, 0))

    def read_for(self, seconds: float) -> bytes:
        """What the app writes in that time."""
        end, text = time.monotonic() + seconds, b""
        while (left := end - time.monotonic()) > 0:
            if select.select([self.terminal], [], [], left)[0]:
                try:
                    text += os.read(self.terminal, 1 << 16)
                except OSError:
                    break
        return text

    def read_until(self, marker: bytes, limit: float = 30.0) -> float:
        """Wait for a text on the screen; returns the CPU seconds the app had used when it came."""
        end, text = time.monotonic() + limit, b""
        while time.monotonic() < end:
            if select.select([self.terminal], [], [], 0.1)[0]:
                text += os.read(self.terminal, 1 << 16)
                if marker in text:
                    return self.cpu
        raise TimeoutError(f"{marker!r} never came; got {text[-400:]!r}")

    @property
    def cpu(self) -> float:
        """CPU seconds of all threads so far."""
        tasks = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9

    @property
    def resident(self) -> int:
        """Bytes resident."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def close(self) -> None:
        """End the app."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.terminal)


def start(code: str, marker: bytes, *, idle_seconds: float = 0.0) -> Start:
    """Start an app, wait for its first screen, then leave it alone for a while."""
    with tempfile.TemporaryDirectory() as home:
        terminal = Terminal(code, Path(home))
        try:
            cpu = terminal.read_until(marker)
            terminal.read_for(3.0 if idle_seconds else 0.0)
            idle = len(terminal.read_for(idle_seconds)) if idle_seconds else 0
            return Start(cpu, terminal.resident, idle)
        finally:
            terminal.close()


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    start(HELLO, b"hello world")
    start(WORKBENCH, b"Runs")
    ratios = []
    for _ in range(rounds):
        hello, bench = start(HELLO, b"hello world"), start(WORKBENCH, b"Runs")
        ratios.append(bench.cpu / hello.cpu)
        print(f"CPU to first paint: workbench {bench.cpu:.2f} s, hello world {hello.cpu:.2f} s, ratio {ratios[-1]:.2f}")
    quiet = start(WORKBENCH, b"Runs", idle_seconds=5.0)
    loaded = set(json.loads(os.popen(f"{sys.executable} -c '{MODULES}'").read().splitlines()[-1]))
    print(f"\nCPU to first paint: {statistics.median(ratios):.2f}x a hello-world app (goal 2.5)")
    print(f"heavy modules loaded by then: {sorted(loaded & HEAVY) or 'none'} (goal none)")
    print(f"resident: {quiet.resident / 2**20:.0f} MiB (goal 80)")
    print(f"bytes written in 5 s without new data: {quiet.idle_bytes} (goal 0)")


if __name__ == "__main__":
    main()
