"""What a key costs on the Data screen, end to end: the app in a terminal, its data worker beside it.

Run it with `python tests/bench/bench_browsing.py [--keys 60] [--megabytes 200]`. A figure is the time from a key to the
bytes of the screen that answers it, and the CPU time that app and worker use for it, which is what the time comes to on
an idle machine: for the next row's mask, the next token of a row of a million tokens, any row of a large file. Then a
search through that file, whose result is compared with counting lines.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.bench.bench_data import TEMPLATE, conversations, trained_tokenizer, write
from tests.bench.bench_front_end import WORKBENCH, Terminal

_LIMIT_SECONDS = 60.0


class Screen(Terminal):
    """The workbench on one configuration, on its Data screen."""

    def __init__(self, config: Path, home: Path) -> None:
        code = WORKBENCH.replace("['tui-trainer']", f"['tui-trainer', {str(config)!r}]")
        super().__init__(code, home)
        self.read_until(b"Runs")
        self.press(b"1")

    def press(self, keys: bytes) -> None:
        """Type something."""
        os.write(self.terminal, keys)

    def wait_for(self, marker: bytes) -> float:
        """Wait for a text on the screen; returns the seconds until it came."""
        began, text = time.perf_counter(), b""
        while time.perf_counter() - began < _LIMIT_SECONDS:
            if select.select([self.terminal], [], [], 0.5)[0]:
                text += os.read(self.terminal, 1 << 16)
                if marker in text:
                    return time.perf_counter() - began
        raise TimeoutError(f"{marker!r} never came; got {text[-2000:]!r}")

    def answer(self, keys: bytes, marker: bytes) -> tuple[float, float]:
        """Seconds and CPU seconds from some keys to a text on the screen."""
        before = self.cpu_of_all
        self.press(keys)
        seconds = self.wait_for(marker)
        return seconds, self.cpu_of_all - before

    @property
    def cpu_of_all(self) -> float:
        """CPU seconds of the app and its worker so far."""
        return sum(_cpu(pid) for pid in (self.pid, *_children(self.pid)))

    def quiet(self, seconds: float = 0.3) -> None:
        """Read until nothing more is written for some time."""
        while select.select([self.terminal], [], [], seconds)[0]:
            os.read(self.terminal, 1 << 16)


def configuration(folder: Path, name: str, data: dict[str, object], model: Path, template: Path) -> Path:
    """A configuration file on a dataset."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in {**data, "template": str(template)}.items()]
    path = folder / f"{name}.toml"
    path.write_text("[data]\n" + "\n".join(lines) + f"\n[model]\ntokenizer_name_or_path = {json.dumps(str(model))}\n")
    return path


def _cpu(pid: int) -> float:
    # the clock of a process counts the threads that have ended, too; its number is that of clock_getcpuclockid(3)
    return time.clock_gettime(~pid << 3 | 2)


def _children(pid: int) -> list[int]:
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in files for child in file.read_text().split()]


def report(what: str, answers: list[tuple[float, float]], goal: float) -> None:
    """Print the distribution of some times."""
    times = sorted(seconds * 1e3 for seconds, _ in answers)
    cpu = statistics.median(seconds * 1e3 for _, seconds in answers)
    print(
        f"{what}: median {statistics.median(times):.1f} ms, 90 % {times[int(len(times) * 0.9)]:.1f} ms, "
        f"longest {times[-1]:.1f} ms; CPU {cpu:.1f} ms (n = {len(times)}, goal {goal:.0f} ms)"
    )


def bench_rows(screen: Screen, keys: int) -> None:
    """The next row's mask."""
    screen.wait_for(b" Row 0 ")
    screen.wait_for(b"fingerprint")
    screen.quiet()
    times = []
    for row in range(1, keys + 1):
        times.append(screen.answer(b"j", f" Row {row} ".encode()))
        screen.quiet(0.05)
    report("key to the next row's mask", times, 50)


def bench_long_row(screen: Screen, keys: int) -> None:
    """The next token of a row of a million tokens, and its far end."""
    screen.wait_for(b"label ")
    screen.quiet(3.0)
    screen.press(b"\r")
    screen.quiet()
    screen.press(b"g")
    screen.wait_for(b"token 0 ")
    screen.quiet()
    times = []
    for token in range(1, keys + 1):
        times.append(screen.answer(b"l", f"token {token} ".encode()))
        screen.quiet(0.05)
    report("key to the next token of a row of a million tokens", times, 50)
    jumps = []
    for key, marker in ((b"G", b"id 1 "), (b"g", b"token 0 ")) * 3:
        jumps.append(screen.answer(key, marker))
        screen.quiet()
    report("from its first to its last token and back", jumps, 50)


def bench_large_file(screen: Screen, path: Path, keys: int) -> None:
    """Pages of a large file anywhere in it, and a search through all of it."""
    first = screen.wait_for(b" Row 0 ")
    screen.wait_for(b"judging")
    screen.press(b"x")
    screen.wait_for(b"was stopped")
    screen.quiet()
    num_rows = path.read_bytes().count(b"\n")
    times = []
    for key in range(keys):
        row = key * 7919 * 13 % num_rows
        screen.press(b"#")
        screen.wait_for(b"To row")
        screen.press(str(row).encode())
        screen.quiet(0.1)
        shown = f"{row:,}".replace(",", "\u202f")
        times.append(screen.answer(b"\r", f" Row {shown} ".encode()))
        screen.quiet(0.05)
    print(f"first row of {path.stat().st_size / 1e6:.0f} MB and its mask: {first * 1e3:.0f} ms after the key")
    report("from the number of a row to its mask", times, 50)
    needle = b"toba est"
    expected = sum(needle in line for line in path.open("rb"))
    screen.press(b"/")
    screen.wait_for(b"Search the rows")
    screen.press(needle)
    screen.quiet(0.2)
    screen.press(b"\r")
    shown = f"{expected:,}".replace(",", "\u202f")
    seconds = screen.wait_for(f"{shown} of ".encode())
    print(f"search through {num_rows:,} rows: {seconds:.2f} s, {expected:,} rows, as counted by lines")


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=60)
    parser.add_argument("--megabytes", type=int, default=200, help="size of the large file")
    parser.add_argument("--only", choices=("rows", "long", "large"), help="one of the measurements")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder_name:
        folder = Path(folder_name)
        template = folder / "template.jinja"
        template.write_text(TEMPLATE)
        model = trained_tokenizer(folder / "tokenizer")
        small, long, large = (folder / f"{name}.jsonl" for name in ("small", "long", "large"))
        small.write_text("".join(json.dumps(row) + "\n" for row, _ in zip(conversations(2), range(2000), strict=False)))
        said = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "ka to " * 500_000}]
        long.write_text(json.dumps({"messages": said}) + "\n" + json.dumps({"messages": said[:1]}) + "\n")
        write(large, arguments.megabytes * 1_000_000)
        settings: dict[str, dict[str, object]] = {
            "rows": {"path": str(small)},
            "long": {"path": str(long), "max_length": 4_000_000},
            "large": {"path": str(large)},
        }
        for name, data in settings.items():
            if arguments.only not in (None, name):
                continue
            screen = Screen(configuration(folder, name, data, model, template), folder / "home")
            try:
                if name == "rows":
                    bench_rows(screen, arguments.keys)
                elif name == "long":
                    bench_long_row(screen, arguments.keys)
                else:
                    bench_large_file(screen, large, min(arguments.keys, 20))
            finally:
                screen.close()


if __name__ == "__main__":
    main()
