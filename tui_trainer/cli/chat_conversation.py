"""A conversation on the terminal, line by line."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tui_trainer.cli.chat_answers import ask, interruptible, introduce
from tui_trainer.cli.output import talk
from tui_trainer.config.catalogue import knobs_of, parse_text, shown
from tui_trainer.config.sampling import SamplingParams
from tui_trainer.engine.chat.question import Question
from tui_trainer.errors import ExitCode, WorkbenchError
from tui_trainer.text import safe

if TYPE_CHECKING:
    from tui_trainer.engine.chat.session import ChatSession

_HELP = """\
/new              begin a new conversation
/retry            answer the last question again
/system TEXT      set the system message, without a text remove it
/set KNOB VALUE   set a knob, as /set temperature 0.7; without a value give it back to the model
/knobs            show the knobs and where their values come from
/quit             leave, as ctrl+d does
ctrl+c stops an answer."""


class Conversation:
    """Questions and answers in turn, until the user leaves.

    Args:
        session: the model.
        system: system message.
        knobs: the knobs the user set.
        is_templated: whether messages go through the chat template; else the model goes on with each text.
    """

    def __init__(
        self, session: ChatSession, system: str | None, knobs: Mapping[str, Any], *, is_templated: bool
    ) -> None:
        self._session = session
        self._system = system
        self._knobs = dict(knobs)
        self._is_templated = is_templated
        self._turns: list[dict[str, str]] = []

    def run(self) -> int:
        """Talk until ctrl+d or /quit; returns the exit code."""
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 - gives input() its line editing and history
        introduce(self._session)
        talk().print("Say something; /help shows the commands, ctrl+d leaves.", style="dim")
        while True:
            try:
                line = input("> ").strip()
                if line in ("/quit", "/exit"):
                    return int(ExitCode.DONE)
                if line:
                    self._take(line)
            except EOFError:
                with contextlib.suppress(OSError):  # the terminal itself may be what has ended
                    talk().print()
                return int(ExitCode.DONE)
            except KeyboardInterrupt:
                talk().print()

    def _take(self, line: str) -> None:
        try:
            if line.startswith("/"):
                self._command(*line[1:].partition(" ")[::2])
            else:
                self._answer(line)
        except WorkbenchError as error:
            talk().print(safe(str(error)), style="red")

    def _command(self, name: str, argument: str) -> None:
        match name:
            case "new":
                self._turns.clear()
            case "retry":
                self._retry()
            case "system":
                self._system = argument.strip() or None
            case "set":
                self._set(*argument.strip().partition(" ")[::2])
            case "knobs":
                self._show_knobs()
            case _:
                talk().print(_HELP)

    def _retry(self) -> None:
        questions = [place for place, turn in enumerate(self._turns) if turn["role"] == "user"]
        if questions:
            question = self._turns[questions[-1]]["content"]
            del self._turns[questions[-1] :]
            self._answer(question)

    def _set(self, name: str, text: str) -> None:
        knob = next((knob for knob in knobs_of(SamplingParams) if knob.name == name.replace("-", "_")), None)
        if knob is None:
            talk().print(f"there is no knob {safe(name)!r}; /knobs shows all", style="red")
            return
        changed = {key: value for key, value in self._knobs.items() if key != knob.name}
        if text.strip():
            try:
                changed[knob.name] = parse_text(knob, text)
            except ValueError as error:
                talk().print(safe(f"{knob.name} {error}"), style="red")
                return
        self._session.resolve(changed)
        self._knobs = changed

    def _show_knobs(self) -> None:
        for name, knob in self._session.resolve(self._knobs).to_dict().items():
            talk().print(f"{name:20} {safe(shown(knob['value'])):10} {knob['source']}")

    def _answer(self, text: str) -> None:
        turns = [*self._turns, {"role": "user", "content": text}]
        system = [{"role": "system", "content": self._system}] if self._system else []
        if self._is_templated:
            question = Question(messages=[*system, *turns], params=self._knobs)
        else:
            question = Question(prompt=text, params=self._knobs)
        with interruptible() as interrupted:
            document = ask(self._session, question, interrupted)
        self._turns = [*turns, {"role": "assistant", "content": document["candidates"][0]["text"]}]
