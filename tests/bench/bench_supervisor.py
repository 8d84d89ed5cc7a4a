"""What a supervisor costs: resident memory, and processor time while its run goes on and nothing happens.

`python tests/bench/bench_supervisor.py [SECONDS]`; the goal is 20 MiB. Processor time is compared with that of a Python
process that sleeps, measured in turns.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tui_trainer.procs.orders import LaunchOrder
from tui_trainer.procs.spawn import start_existing
from tui_trainer.procs.stop import request_stop, wait_until_over
from tui_trainer.runs.events import RunStarted, StepMetrics
from tui_trainer.runs.files import read_json
from tui_trainer.runs.journal import JournalWriter
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.store import create

GOAL_MIB = 20.0


def memory_mib(pid: int, field: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def started(root: Path) -> RunLayout:
    """A run whose command sleeps, with the events of a long training before it."""
    layout = create("bench", "", {}, root=root)
    LaunchOrder(("sleep", "3600"), cwd=str(root), grace_seconds=1.0).write(layout)
    start_existing(layout)
    with JournalWriter(layout.events) as journal:
        journal.write(
            RunStarted(
                max_steps=10**6,
                num_epochs=1.0,
                num_rows=1,
                num_trainable_parameters=1,
                num_parameters=1,
                world_size=1,
                device="cpu",
            )
        )
        for step in range(20_000):
            journal.write(StepMetrics(step=step, loss=1.0, learning_rate=1e-4, grad_norm=1.0, tokens_per_second=1e4))
    return layout


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    with tempfile.TemporaryDirectory() as folder:
        layout = started(Path(folder))
        time.sleep(3)
        pid = int((read_json(layout.status) or {})["pid"])
        sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
        time.sleep(0.5)
        before, before_sleeper = cpu_seconds(pid), cpu_seconds(sleeper.pid)
        time.sleep(seconds)
        idle = (cpu_seconds(pid) - before) / seconds
        idle_sleeper = (cpu_seconds(sleeper.pid) - before_sleeper) / seconds
        resident, peak = memory_mib(pid, "VmRSS"), memory_mib(pid, "VmHWM")
        baseline = memory_mib(sleeper.pid, "VmRSS")
        sleeper.kill()
        sleeper.wait()
        request_stop(layout, now=True)
        wait_until_over(layout)
    print(
        f"resident {resident:.1f} MiB, peak {peak:.1f} MiB (an idle python {baseline:.1f} MiB, goal {GOAL_MIB:.0f} MiB)"
    )
    print(f"processor {idle * 100:.3f} % of a core over {seconds:.0f} s (an idle python {idle_sleeper * 100:.3f} %)")
    return 0 if peak <= GOAL_MIB else 1


if __name__ == "__main__":
    raise SystemExit(main())
