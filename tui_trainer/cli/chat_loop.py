"""The lines typed in a conversation on the terminal, questions and slash commands, until the user leaves."""

from __future__ import annotations

import contextlib

from tui_trainer.cli.chat_answers import introduce
from tui_trainer.cli.chat_commands import COMMANDS, HELP
from tui_trainer.cli.chat_conversation import Talk
from tui_trainer.cli.output import talk
from tui_trainer.errors import ExitCode, WorkbenchError
from tui_trainer.text import safe


def converse(talking: Talk) -> int:
    """Talk until ctrl+d or /quit; returns the exit code."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - gives input() its line editing and history
    introduce(talking.models)
    talk().print("Say something; /help shows the commands, ctrl+d leaves.", style="dim")
    while True:
        try:
            line = input("> ").strip()
            if line in ("/quit", "/exit"):
                return int(ExitCode.DONE)
            if line:
                take_line(talking, line)
        except EOFError:
            with contextlib.suppress(OSError):  # the terminal itself may be what has ended
                talk().print()
            return int(ExitCode.DONE)
        except KeyboardInterrupt:
            talk().print()


def take_line(talking: Talk, line: str) -> None:
    """Do what a line says: carry out a command, or let the models answer; an error is told."""
    try:
        if not line.startswith("/"):
            talking.answer(talking.conversation.ask(line))
            return
        name, _, argument = line[1:].partition(" ")
        if name in COMMANDS:
            COMMANDS[name].run(talking, argument.strip())
        else:
            talk().print(HELP)
    except WorkbenchError as error:
        talk().print(safe(str(error)), style="red")
