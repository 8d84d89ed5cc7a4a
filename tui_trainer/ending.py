"""How processes end: the command line, the workers and the ranks of a training call their main functions by this."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable
from typing import NoReturn


def end_with(main: Callable[[], int]) -> NoReturn:
    """Call `main` and end the process with the exit code it returns.

    What was registered for the end of the process is called, then it is gone. Python by itself would take the
    interpreter down module by module, which takes up to some seconds once torch is loaded, and nobody needs it.

    Raises:
        SystemExit: with the exit code.
    """
    code: int | None = None

    def leave() -> None:
        if code is not None:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    atexit.register(leave)  # the first to be registered is the last to be called
    code = main()
    raise SystemExit(code)
