"""The command line: one module a command, each importing what it needs only when it is called."""

from __future__ import annotations


def main() -> int:
    """Run the command line; returns the exit code."""
    from tui_trainer.cli.app import run

    return run()
