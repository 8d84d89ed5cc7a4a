"""What is done with the files of a run in the list: clone, rename, delete, show its configuration, move in the queue.

The Runs screen builds on it. Every file is touched in a thread, so that a slow disk holds up no key.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from textual import work

from tui_trainer.errors import WorkbenchError
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.store import list_checkpoints, rename_run, run_size
from tui_trainer.tui import format as fmt
from tui_trainer.tui.run_summary import RunSummary
from tui_trainer.tui.screens.base import WorkbenchScreen
from tui_trainer.tui.widgets.ask import AskText, Confirm

Result = TypeVar("Result")


class KeepingScreen(WorkbenchScreen):
    """A list of runs that can be cloned, renamed, moved in the queue and deleted."""

    @abstractmethod
    def current(self) -> RunSummary | None:
        """The run under the cursor."""

    @abstractmethod
    def refresh_list(self) -> None:
        """Read the store, if anybody looks."""

    def current_layout(self) -> RunLayout | None:
        """Where the run under the cursor is; says so if there is none."""
        summary = self.current()
        if summary is None:
            self.say("no run under the cursor")
        return summary.record.layout if summary else None

    async def _in_thread(self, do: Callable[[], Result]) -> Result | None:
        """What comes of some work with files; None if it failed, which is said."""
        try:
            return await asyncio.to_thread(do)
        except WorkbenchError as error:
            self.say(str(error), problem=True)
        except OSError as error:
            self.say(f"{error.filename}: {error.strerror}", problem=True)
        return None

    @work(group="clone", exclusive=True)
    async def action_clone(self) -> None:
        """Take the run's configuration into Args."""
        from tui_trainer.config.cloning import clone
        from tui_trainer.procs.orders import started_in

        if (layout := self.current_layout()) is None:
            return
        draft = await self._in_thread(lambda: clone(layout.config, started_in=started_in(layout), here=Path.cwd()))
        if draft is not None:
            draft.origin = layout.id
            self.session.set_draft(draft)
            await self.run_action("app.go('args')")

    @work(group="config", exclusive=True)
    async def action_config(self) -> None:
        """Show the run's configuration."""
        from tui_trainer.tui.screens.text import TextScreen

        if (layout := self.current_layout()) is not None:
            text = await self._in_thread(lambda: layout.config.read_text("utf-8", "replace"))
            if text is not None:
                self.app.push_screen(TextScreen(layout.id, text))

    @work(group="place")
    async def action_change_place(self, direction: int) -> None:
        """Move a waiting run in the queue."""
        from tui_trainer.procs.queue import Queue

        if (summary := self.current()) is None or not summary.record.status.queue_place:
            self.say("the run under the cursor does not wait in the queue")
            return
        wanted = summary.record.status.queue_place + direction
        place = await self._in_thread(lambda: Queue().move(summary.record.layout, wanted))
        if place is not None:
            self.say(f"place {place} in the queue")
            self.refresh_list()

    @work(group="rename")
    async def action_rename(self) -> None:
        """Ask for another name and give it to the run."""
        if (summary := self.current()) is None:
            return
        layout, text = summary.record.layout, "Letters, digits, dots and dashes. The id stays."
        name = await self.app.push_screen_wait(AskText("Rename", summary.record.name, text))
        if name:
            await self._in_thread(lambda: rename_run(layout, name))
            self.refresh_list()

    @work(group="delete")
    async def action_delete(self) -> None:
        """Ask whether to delete the run, and do it."""
        from tui_trainer.procs.removal import remove_run

        if (layout := self.current_layout()) is None:
            return
        dialog = Confirm("Delete the run?", [layout.id, "reading what it holds …"], "deletes it")
        self._measure(layout, dialog)
        if await self.app.push_screen_wait(dialog):
            self.say(f"deleting {layout.id} …")
            freed = await self._in_thread(lambda: remove_run(layout))
            if freed is not None:
                self.say(f"deleted, {fmt.size(freed)} free again")
                self.refresh_list()

    @work(group="measure", exclusive=True)
    async def _measure(self, layout: RunLayout, dialog: Confirm) -> None:
        """Tell in the dialog what deleting a run would delete."""
        found = await self._in_thread(lambda: (run_size(layout), len(list_checkpoints(layout))))
        if found is not None:
            size, num_checkpoints = found
            dialog.describe(
                [layout.id, f"{num_checkpoints} checkpoints, {fmt.size(size)} in all. This cannot be undone."]
            )
