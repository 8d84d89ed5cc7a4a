"""Saving a conversation: which format, which file, add or replace. Begun by the Chat screen."""

from __future__ import annotations

from pathlib import Path

from tui_trainer.errors import WorkbenchError
from tui_trainer.paths import is_there, typed_path
from tui_trainer.tui.chat.saving import FORMATS, save
from tui_trainer.tui.chat.tree import Conversation
from tui_trainer.tui.screens.base import WorkbenchScreen
from tui_trainer.tui.widgets.ask import AskText, Confirm, Pick

_ADD, _REPLACE = "add", "replace"


class Saver:
    """Asks what is needed and saves.

    Args:
        screen: shows the dialogs and tells how it went.
    """

    def __init__(self, screen: WorkbenchScreen) -> None:
        self._screen = screen
        self._last: dict[str, str] = {}

    def start(self, conversation: Conversation, system: str | None) -> None:
        """Ask for the format, then for the file."""
        options = [(form.name, form.name, form.about) for form in FORMATS.values()]

        def picked(form: str | None) -> None:
            if form is not None:
                self._ask_file(conversation, system, form)

        self._screen.app.push_screen(Pick("Save the conversation as", options), picked)

    def _ask_file(self, conversation: Conversation, system: str | None, form: str) -> None:
        name = self._last.get(form) or f"chat{FORMATS[form].suffix}"

        def typed(text: str | None) -> None:
            if text and text.strip():
                self._last[form] = text.strip()
                self._ask_how(conversation, system, form, typed_path(text))

        self._screen.app.push_screen(
            AskText(f"Save as {form}", name, "A file; a path without a folder lies here."), typed
        )

    def _ask_how(self, conversation: Conversation, system: str | None, form: str, path: Path) -> None:
        def write(*, append: bool) -> None:
            try:
                self._screen.say(save(conversation, system, form, path, append=append))
            except WorkbenchError as error:
                self._screen.say(str(error), problem=True)

        if not is_there(path):
            write(append=False)
        elif FORMATS[form].is_rows:
            options = [(_ADD, "add a row to it", ""), (_REPLACE, "replace it", "all its rows are lost")]

            def chosen(how: str | None) -> None:
                if how is not None:
                    write(append=how == _ADD)

            self._screen.app.push_screen(Pick(f"{path} is there already", options), chosen)
        else:

            def sure(is_sure: bool | None) -> None:
                if is_sure:
                    write(append=False)

            self._screen.app.push_screen(
                Confirm(f"{path} is there already", ["It would be replaced."], "replaces it"), sure
            )
