"""The names of the program and of its commands."""

from __future__ import annotations

COMMANDS: dict[str, str] = {
    "demo": "Train a small model on shipped data and compare its answers before and after.",
    "preview": "Show what a model would be trained on: tokens, mask, problems.",
    "check": "Check a configuration, its data, memory and disk, without training.",
    "train": "Train as a configuration or a preset says.",
    "runs": "List, watch, steer, compare and remove runs.",
    "chat": "Talk to a model, a checkpoint or an adapter.",
    "import": "Turn another tool's configuration into one of ours.",
    "export": "Write a checkpoint as a folder that any tool can load.",
    "presets": "List, show and copy the shipped configurations.",
    "trust": "Agree that the Python code of a model's repository runs on this machine.",
    "doctor": "Show what this machine has and what it lacks.",
}
"""The commands with their one-line help, in the order of `--help`; each lives in the module of its name
(with an underscore behind it where Python has the name for itself)."""

WORKBENCH = "workbench"
PROGRAM = "tui-trainer"
COMPLETION_VARIABLE = "_TUI_TRAINER_COMPLETE"
"""Set by a shell that asks for completions."""
SENDER = "command line"
"""Who gave an order, as the records of a run say it."""
