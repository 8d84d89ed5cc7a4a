"""Who holds a run: a lock on a file that the kernel releases when its holder dies, however it dies.

Where the file system has no locks, the process in `status.json` decides. Used by `supervisor`, `start` and `stop`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time

from tui_trainer.runs.files import read_json
from tui_trainer.runs.identity import ProcessIdentity
from tui_trainer.runs.layout import RunLayout

_HELD = (errno.EWOULDBLOCK, errno.EACCES)
_RETRY_SECONDS = 0.5


def acquire(layout: RunLayout) -> int | None:
    """Become the holder of a run; the descriptor must stay open as long as this process is.

    Tries for a moment, because a look by `is_held` holds the lock for an instant.

    Returns:
        The descriptor; None if somebody else holds the run.
    """
    descriptor = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    deadline = time.monotonic() + _RETRY_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except OSError as error:
            if error.errno not in _HELD and not _recorded_holder_lives(layout):
                return descriptor
            if error.errno not in _HELD or time.monotonic() > deadline:
                os.close(descriptor)
                return None
        time.sleep(0.02)


def is_held(layout: RunLayout) -> bool:
    """Whether a supervisor on this machine holds the run."""
    try:
        descriptor = os.open(layout.lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in _HELD or _recorded_holder_lives(layout)
    else:
        return False
    finally:
        os.close(descriptor)


def _recorded_holder_lives(layout: RunLayout) -> bool:
    holder = ProcessIdentity.from_dict(read_json(layout.status) or {})
    return holder is not None and holder.pid != os.getpid() and holder.is_alive
