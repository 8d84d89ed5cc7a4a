"""A front end that starts the run in argv[1] and idles, on a terminal that the test takes away or with a kill."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tui_trainer.procs.spawn import start_existing
from tui_trainer.runs.layout import RunLayout

if __name__ == "__main__":
    start_existing(RunLayout(Path(sys.argv[1])))
    print("started", flush=True)
    while True:
        time.sleep(1)
