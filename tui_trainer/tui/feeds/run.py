"""The run in view: polls its files twice a second and tells whoever listens what it knows now.

A thread reads the files, so that a run on a slow network disk holds up no key.
"""

from __future__ import annotations

import asyncio
from typing import Any

from textual.app import App
from textual.signal import Signal

from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.snapshot import RunReader, RunView
from tui_trainer.runs.status import RunStatus, read_status

POLL_SECONDS = 0.5
_CATCH_UP_SECONDS = 0.01
_SLICE_SECONDS = 0.02


class RunFeed:
    """Follows one run at a time.

    Attributes:
        layout: the run in view.
        updated: published with the view of the run whenever something in it changed.
        opened: published with the layout when another run comes into view.
    """

    def __init__(self, app: App[Any]) -> None:
        self._app = app
        self._reader: RunReader | None = None
        self.layout: RunLayout | None = None
        self.updated: Signal[RunView] = Signal(app, "run-updated")
        self.opened: Signal[RunLayout] = Signal(app, "run-opened")

    @property
    def view(self) -> RunView | None:
        """What is known of it; None until its files were read for the first time."""
        return self._reader.view if self._reader else None

    async def status(self) -> RunStatus | None:
        """How the run in view stands, read now if it is unknown yet; None without one, or if the disk is too slow."""
        if self.view is not None or self.layout is None:
            return self.view.status if self.view is not None else None
        try:
            return await asyncio.wait_for(asyncio.to_thread(read_status, self.layout), POLL_SECONDS)
        except TimeoutError:
            return None

    def open(self, layout: RunLayout) -> None:
        """Bring a run into view."""
        self.layout, self._reader = layout, None
        self.opened.publish(layout)
        self._app.run_worker(self._follow(layout), group="run-feed", exclusive=True)

    async def _follow(self, layout: RunLayout) -> None:
        """Read and tell until another run comes into view, which cancels this."""
        reader = await asyncio.to_thread(RunReader, layout)
        is_news = True
        while layout is self.layout:
            await asyncio.to_thread(reader.fetch)
            is_news |= reader.apply(_SLICE_SECONDS)
            if is_news and layout is self.layout:
                self._reader = reader
                self.updated.publish(reader.view)
            is_news = False
            # soon again while there is old text to catch up with
            await asyncio.sleep(_CATCH_UP_SECONDS if reader.has_more else POLL_SECONDS)
