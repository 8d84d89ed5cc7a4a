"""Fault injection: front ends that die while their run goes on, and how soon a new one shows where it is.

`python tests/bench/survival.py [ROUNDS] [SEED]`. A round is one run for each way to lose a front end: the terminal
hangs up as when SSH closes, `tmux kill-server`, kill -9. `tui-trainer train` starts the run (fake ranks, real
supervisor), is lost at a random moment, and a new `tui-trainer RUN` on a terminal of its own has to show "running" and
a step that the run had after the loss. Then the run is stopped: nothing may be left. One round is in the suite
(tests/procs).
"""

from __future__ import annotations

import fcntl
import os
import pty
import random
import re
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tui_trainer.procs.proctree import descendants, marked
from tui_trainer.procs.stop import request_stop, wait_until_over
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.status import State, read_status
from tui_trainer.runs.store import list_runs

GOAL_SECONDS = 2.0
DRIVER = Path(__file__).parents[1] / "cli" / "train_driver.py"
CONFIG = """\
name = "survivor"
[model]
name_or_path = "somewhere"
[data]
path = "rows.jsonl"
[training]
max_steps = 100000
"""
_PATIENCE = 60.0
_SIZE = struct.pack("HHHH", 36, 120, 0, 0)


@dataclass(frozen=True)
class Survival:
    """What became of one run.

    Attributes:
        how: how its front end was lost.
        goes_on: whether all its ranks made further steps.
        seconds: from the start of the new front end until the right state was on the screen; None if it never was.
        num_left: processes that were there after the stop.
    """

    how: str
    goes_on: bool
    seconds: float | None
    num_left: int


def _wait(condition: Callable[[], object], seconds: float = _PATIENCE) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _spawn(command: list[str], env: Mapping[str, str], folder: Path) -> tuple[int, int]:
    """A program on a terminal of its own: its pid and the other end."""
    pid, descriptor = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execvpe(command[0], command, dict(env))
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, _SIZE)
    return pid, descriptor


def _end(pid: int, descriptor: int) -> None:
    for act in (lambda: os.close(descriptor), lambda: os.kill(pid, signal.SIGKILL), lambda: os.waitpid(pid, 0)):
        try:
            act()
        except OSError:
            continue


def _lose_by_hang_up(command: list[str], env: Mapping[str, str], folder: Path, pause: Callable[[], None]) -> None:
    pid, descriptor = _spawn(command, env, folder)
    pause()
    os.close(descriptor)
    os.waitpid(pid, 0)


def _lose_by_kill(command: list[str], env: Mapping[str, str], folder: Path, pause: Callable[[], None]) -> None:
    pid, descriptor = _spawn(command, env, folder)
    pause()
    _end(pid, descriptor)


def _lose_by_tmux(command: list[str], env: Mapping[str, str], folder: Path, pause: Callable[[], None]) -> None:
    tmux = ["tmux", "-f", "/dev/null", "-L", f"survival-{os.getpid()}"]
    subprocess.run([*tmux, "new-session", "-d", "-c", str(folder), *command], env=dict(env), check=True)
    pause()
    subprocess.run([*tmux, "kill-server"], env=dict(env), check=True)


WAYS = {"hang up": _lose_by_hang_up, "tmux kill-server": _lose_by_tmux, "kill -9": _lose_by_kill}


def _beats(layout: RunLayout) -> dict[str, int]:
    return {path.name: int(path.read_text() or 0) for path in layout.root.glob("beat.*")}


def _goes_on(layout: RunLayout) -> bool:
    before = _beats(layout)
    return len(before) == 2 and _wait(lambda: all(_beats(layout).get(name, 0) > at + 1 for name, at in before.items()))


def seconds_to_show(layout: RunLayout, env: Mapping[str, str], folder: Path) -> float | None:
    """How long a new front end takes until its screen says that the run is running, at a step of now."""
    least = read_status(layout).step
    start = time.monotonic()
    pid, descriptor = _spawn([sys.executable, "-m", "tui_trainer", layout.id], env, folder)
    text, found = "", None
    try:
        while found is None and time.monotonic() - start < _PATIENCE:
            if select.select([descriptor], [], [], 0.05)[0]:
                text += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", os.read(descriptor, 1 << 16).decode("utf-8", "replace"))
            steps = [int(re.sub(r"\D", "", step)) for step in re.findall(r"step\s+([\d\u202f]+)/", text)]
            if "running" in text and any(step >= least for step in steps):
                found = time.monotonic() - start
    except OSError:
        return None
    finally:
        _end(pid, descriptor)
    return found


def survive(how: str, chance: random.Random) -> Survival:
    """One run that loses its front end."""
    with tempfile.TemporaryDirectory(prefix="survival-") as name:
        folder = Path(name)
        (folder / "trial.toml").write_text(CONFIG)
        (folder / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
        own = {"TUI_TRAINER_RUNS": str(folder / "runs"), "TUI_TRAINER_HOME": str(folder / "home"), "TERM": "xterm"}
        env = {**os.environ, **own, "HF_HUB_OFFLINE": "1"}

        def pause() -> None:
            _wait(lambda: any(run.status.state is State.RUNNING for run in list_runs(folder / "runs")))
            time.sleep(chance.uniform(0.0, 0.5))

        WAYS[how]([sys.executable, str(DRIVER), "train", "trial.toml"], env, folder, pause)
        (record,) = list_runs(folder / "runs")
        goes_on = _goes_on(record.layout) and read_status(record.layout).state is State.RUNNING
        seconds = seconds_to_show(record.layout, env, folder)
        request_stop(record.layout, by="survival")
        wait_until_over(record.layout, _PATIENCE)
        keys = marked(record.layout.root)
        return Survival(how, goes_on, seconds, len(keys.union(*(descendants(key.pid) for key in keys))))


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 20261124
    chance = random.Random(seed)
    found = [survive(how, chance) for _ in range(rounds) for how in WAYS]
    print(f"seed {seed}, {rounds} rounds, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for how in WAYS:
        each = [one for one in found if one.how == how]
        times = sorted(one.seconds for one in each if one.seconds is not None)
        print(
            f"{how}: {sum(one.goes_on for one in each)} of {len(each)} runs went on, "
            f"{sum(one.num_left for one in each)} processes left; right state on screen in {len(times)}, "
            f"median {statistics.median(times):.2f} s, most {times[-1]:.2f} s, "
            f"{sum(seconds <= GOAL_SECONDS for seconds in times)} within {GOAL_SECONDS:.0f} s"
        )
    return 0 if all(one.goes_on and one.seconds is not None and not one.num_left for one in found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
