"""Choosing the chat template that questions are asked with, and its variables. Begun by the Chat screen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tui_trainer.config.catalogue import catalogue, parse_text, shown
from tui_trainer.errors import WorkbenchError
from tui_trainer.tui.chat.asking import NO_TEMPLATE, OWN_TEMPLATE
from tui_trainer.tui.feeds.chat import ChatFeed
from tui_trainer.tui.screens.base import WorkbenchScreen
from tui_trainer.tui.screens.pick_template import SOURCES
from tui_trainer.tui.widgets.ask import AskText
from tui_trainer.tui.widgets.search_pick import SearchPick

_USUAL, _VARIABLES = "", "variables …"
_KWARGS = "data.template_kwargs"
_SOURCES = {**SOURCES, "none": "the model goes on with the text"}
_ABOUT = (
    "Type to search, or the path of a .jinja file, which is read again with every question. "
    "The prompt, the raw view and parity follow."
)


class Templating:
    """The template and the variables that were chosen, and the dialogs that change them.

    Args:
        screen: shows the dialogs and tells of problems.
        models: the slots.
        changed: called when something else was chosen.

    Attributes:
        name: the template (`Manner.template`).
        kwargs: its variables.
    """

    def __init__(self, screen: WorkbenchScreen, models: ChatFeed, changed: Callable[[], None]) -> None:
        self._screen, self._models, self._changed = screen, models, changed
        self.name: str | None = None
        self.kwargs: dict[str, Any] = {}

    @property
    def words(self) -> str:
        """What is unusual about them; empty if nothing is."""
        named = {None: "", NO_TEMPLATE: "no chat template: plain completion", OWN_TEMPLATE: "the model's own template"}
        words = [named.get(self.name, f"template {self.name}")]
        words += [f"{name}={value}" for name, value in self.kwargs.items()]
        return ", ".join(filter(None, words))

    def start(self) -> None:
        """Offer the templates."""
        self._screen.run_worker(self._offer(), group="templates", exclusive=True, exit_on_error=False)

    async def _offer(self) -> None:
        try:
            with self._screen.session.type_ahead.held():
                await self._models.ensure_loaded()
                answer = await self._models.call("templates", {})
        except WorkbenchError as error:
            self._screen.say(str(error), problem=True)
            return
        usual = answer.get("template")
        options = [
            (_USUAL, "as it was trained", _described(usual)),
            *([(OWN_TEMPLATE, "the model's own", "whatever its run was trained with")] if usual else []),
            *((str(each["name"]), str(each["name"]), _SOURCES[each["source"]]) for each in answer["known"]),
            (_VARIABLES, _VARIABLES, shown(self.kwargs) if self.kwargs else "none are set here"),
        ]
        title, line = "Ask with the chat template", "search, or type the path of a file"
        self._screen.app.push_screen(SearchPick(title, options, self.name or _USUAL, line, _ABOUT), self._picked)

    def _picked(self, value: str | None) -> None:
        if value == _VARIABLES:
            self._ask_variables()
        elif value is not None:
            self._take(value)

    def _take(self, name: str) -> None:
        self._screen.run_worker(self._check_and_take(name or None), group="templates", exit_on_error=False)

    async def _check_and_take(self, name: str | None) -> None:
        """Take a template, unless one of the models cannot be asked with it."""
        slots = [slot for slot in ("a", "b") if self._models.slot(slot).is_loaded]
        try:
            if name not in (None, NO_TEMPLATE):
                for slot in slots:
                    await self._models.call("templates", {"template": name, "slot": slot})
        except WorkbenchError as error:
            self._screen.say(str(error), problem=True)
            return
        self.name = name
        self._changed()

    def _ask_variables(self) -> None:
        knob = catalogue()[_KWARGS]
        ask = AskText(
            "Variables of the chat template",
            shown(self.kwargs) if self.kwargs else "{}",
            f"{knob.help} What the run was trained with counts where nothing is set here.",
            lambda typed: parse_text(knob, typed or "{}"),
        )
        self._screen.app.push_screen(ask, self._variables_typed)

    def _variables_typed(self, text: str | None) -> None:
        if text is not None:
            self.kwargs = parse_text(catalogue()[_KWARGS], text or "{}")
            self._changed()


def _described(template: Any) -> str:
    if not isinstance(template, Mapping):
        return "it has no chat template"
    if template.get("source") == "model":
        return "the model's own"
    return f"{template.get('name')} ({template.get('source')}), of its run"
