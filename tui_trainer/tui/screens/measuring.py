"""Choosing what is measured over a set of prompts: which file, which models. Begun by the Chat screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tui_trainer.errors import WorkbenchError
from tui_trainer.runs.choosing import chosen_checkpoints
from tui_trainer.runs.store import find_run, list_checkpoints, split_checkpoint
from tui_trainer.tui.chat.asking import Manner
from tui_trainer.tui.feeds.chat import ChatFeed
from tui_trainer.tui.screens.base import WorkbenchScreen
from tui_trainer.tui.screens.measure import MeasureSheet, PromptSet, ScoreSheet
from tui_trainer.tui.widgets.ask import AskText, Pick

_ABOUT = (
    "A text file with a prompt a line, or JSON lines with prompt or messages, and if wanted exact (the expected "
    "answer), regex, name and reply. Empty: the questions that were asked here."
)
_WHICH = "Parts with commas between: all, every 2, 100-500, a step, best, latest. There are "
_CHECKPOINTS, _SOME, _MODELS, _SCORE = "checkpoints", "some", "models", "score"


class Measuring:
    """Asks what is needed, reads the file, opens the sheet.

    Args:
        screen: shows the dialogs and tells of problems.
        models: the slots.
    """

    def __init__(self, screen: WorkbenchScreen, models: ChatFeed) -> None:
        self._screen, self._models = screen, models
        self._file = ""

    def start(self, questions: Sequence[str], manner: Manner) -> None:
        """Ask for the file.

        Args:
            questions: those of the conversation, taken where no file is given.
            manner: the knobs, the system message, the template.
        """

        def typed(path: str | None) -> None:
            if path is not None:
                self._file = path.strip()
                self._screen.run_worker(self._read(questions, manner), group="measuring", exit_on_error=False)

        self._screen.app.push_screen(AskText("A set of prompts", self._file, _ABOUT), typed)

    async def _read(self, questions: Sequence[str], manner: Manner) -> None:
        if not self._file:
            prompts: list[dict[str, Any]] = [{"prompt": question} for question in questions]
        else:
            try:
                prompts = (await self._models.call("read_prompts", {"path": self._file}))["prompts"]
            except WorkbenchError as error:
                self._screen.say(str(error), problem=True)
                return
        if not prompts:
            self._screen.say("no question was asked here yet: give a file", problem=True)
            return
        self._ask_what(prompts, manner)

    def _ask_what(self, prompts: Sequence[dict[str, Any]], manner: Manner) -> None:
        a, b = self._models.slot("a").reference, self._models.slot("b").reference
        run, _ = split_checkpoint(a)
        options = [(_MODELS, f"{a}{f' and {b}' if b else ''}", "lengths, stops, repetition, matches")]
        if run != a:
            options.insert(0, (_CHECKPOINTS, f"every checkpoint of {run}", "a table over steps"))
            options.insert(1, (_SOME, f"some checkpoints of {run} …", "every second, from one to another, by hand"))
        against = f"perplexity of {a} and {b}, KL of B against A" if b else f"perplexity of {a}"
        options.append((_SCORE, against, ""))

        def chosen(what: str | None, which: Sequence[str] = ()) -> None:
            if what is None:
                return
            if what == _SOME and not which:
                self._ask_which(run, lambda found: chosen(_SOME, found))
                return
            shared: dict[str, Any] = {"params": dict(manner.params), **manner.template_request}
            if manner.system:
                shared["system"] = manner.system
            sheet: MeasureSheet
            if what == _SCORE:
                sheet = ScoreSheet(f"{_many(prompts)} · {against}", prompts, shared, self._models)
            else:
                references = [f"{run}@{step}" for step in which] or list(filter(None, (a, b)))
                if what == _CHECKPOINTS:
                    references = [run]
                shared["models"] = references
                if b and what in (_CHECKPOINTS, _SOME):
                    shared["baseline"] = b
                title = (
                    f"{_many(prompts)} at {f'{len(which)} checkpoints of {run}' if which else ' and '.join(references)}"
                )
                sheet = PromptSet(title, prompts, shared, self._models)
            self._screen.app.push_screen(sheet)

        self._screen.app.push_screen(Pick(f"{_many(prompts)}: run them on", options), chosen)

    def _ask_which(self, run: str, take: Callable[[Sequence[str]], None]) -> None:
        try:
            steps = [checkpoint.step for checkpoint in list_checkpoints(find_run(run, self._screen.session.root))]
        except WorkbenchError as error:
            self._screen.say(str(error), problem=True)
            return

        def typed(text: str | None) -> None:
            if text is not None:
                take(chosen_checkpoints(text, steps))

        about = _WHICH + (", ".join(map(str, steps)) or "none yet") + "."
        ask = AskText("Which checkpoints", "every 2", about, lambda text: chosen_checkpoints(text, steps))
        self._screen.app.push_screen(ask, typed)


def _many(prompts: Sequence[object]) -> str:
    return "1 prompt" if len(prompts) == 1 else f"{len(prompts)} prompts"
