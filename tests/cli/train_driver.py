"""The command line with a fake trainer behind `train`: a process of its own, so that signals and terminals are real."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from tui_trainer.cli.app import run
from tui_trainer.config.launch import LaunchCommand
from tui_trainer.procs import start

FAKE_TRAINER = Path(__file__).parents[1] / "procs" / "fake_trainer.py"


def fake_command(*_: Any, **__: Any) -> LaunchCommand:
    knobs = {name: value for name, value in os.environ.items() if name.startswith("FAKE_")}
    return LaunchCommand((sys.executable, str(FAKE_TRAINER)), knobs)


if __name__ == "__main__":
    vars(start)["launch_command"] = fake_command
    sys.exit(run())
