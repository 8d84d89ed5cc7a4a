"""How the processes end."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import atexit
import sys
from tui_trainer.ending import end_with

class Module:
    def __del__(self):
        print("taken down", file=sys.__stderr__)

sys.modules["taken"] = Module()

def main():
    atexit.register(print, "told at the end")
    print("done")
    {body}

end_with(main)
"""


def _end(body: str) -> tuple[int, str, str]:
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(body=body)], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("code", [0, 3])
def test_what_was_registered_is_called_and_nothing_is_taken_down(code: int) -> None:
    assert _end(f"return {code}") == (code, "done\ntold at the end\n", "")


def test_an_error_is_told_as_ever() -> None:
    code, out, errors = _end("raise LookupError('nothing there')")
    assert (code, out) == (1, "done\ntold at the end\n")
    assert "LookupError: nothing there" in errors
    assert "taken down" in errors
