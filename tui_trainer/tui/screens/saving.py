"""Saving a conversation: which format, which file, add or replace. Begun by the Chat screen."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tui_trainer.errors import WorkbenchError
from tui_trainer.paths import is_there, typed_path
from tui_trainer.tui.chat.saving import FORMATS, content_of, write
from tui_trainer.tui.chat.tree import Conversation
from tui_trainer.tui.screens.base import WorkbenchScreen
from tui_trainer.tui.widgets.ask import AskText, Confirm, Pick

_ADD, _REPLACE = "add", "replace"


class Saver:
    """Asks what is needed and saves; the file is touched in a thread, for a disk may be slow.

    Args:
        screen: shows the dialogs and tells how it went.
    """

    def __init__(self, screen: WorkbenchScreen) -> None:
        self._screen = screen
        self._last: dict[str, str] = {}

    def start(self, conversation: Conversation, system: str | None) -> None:
        """Ask for the format, then for the file."""
        self._screen.run_worker(self._save(conversation, system), group="save")

    async def _save(self, conversation: Conversation, system: str | None) -> None:
        ask = self._screen.app.push_screen_wait
        options = [(form.name, form.name, form.about) for form in FORMATS.values()]
        form = await ask(Pick("Save the conversation as", options))
        if form is None:
            return
        name = self._last.get(form) or f"chat{FORMATS[form].suffix}"
        text = (await ask(AskText(f"Save as {form}", name, "A file; a path without a folder lies here.")) or "").strip()
        if not text:
            return
        self._last[form] = text
        path = typed_path(text)
        how = _REPLACE
        if await asyncio.to_thread(is_there, path):
            how = await self._ask_how(form, path)
        if not how:
            return
        try:
            content = content_of(conversation, system, form)
            self._screen.say(await asyncio.to_thread(write, content, path, append=how == _ADD))
        except WorkbenchError as error:
            self._screen.say(str(error), problem=True)

    async def _ask_how(self, form: str, path: Path) -> str:
        """Add or replace; empty for neither."""
        ask, title = self._screen.app.push_screen_wait, f"{path} is there already"
        if FORMATS[form].is_rows:
            options = [(_ADD, "add a row to it", ""), (_REPLACE, "replace it", "all its rows are lost")]
            return await ask(Pick(title, options)) or ""
        return _REPLACE if await ask(Confirm(title, ["It would be replaced."], "replaces it")) else ""
