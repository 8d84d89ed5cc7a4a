"""The run in view: polls its files twice a second and tells whoever listens what it knows now."""

from __future__ import annotations

from typing import Any

from textual.app import App
from textual.signal import Signal
from textual.timer import Timer

from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.snapshot import RunReader, RunView

POLL_SECONDS = 0.5
_CATCH_UP_SECONDS = 0.03
_SLICE_SECONDS = 0.02


class RunFeed:
    """Follows one run at a time.

    Attributes:
        updated: published with the view of the run whenever something in it changed.
        opened: published with the layout when another run comes into view.
    """

    def __init__(self, app: App[Any]) -> None:
        self._app = app
        self._reader: RunReader | None = None
        self._timer: Timer | None = None
        self.updated: Signal[RunView] = Signal(app, "run-updated")
        self.opened: Signal[RunLayout] = Signal(app, "run-opened")

    @property
    def layout(self) -> RunLayout | None:
        """The run in view."""
        return self._reader.layout if self._reader else None

    @property
    def view(self) -> RunView | None:
        """What is known of it."""
        return self._reader.view if self._reader else None

    def open(self, layout: RunLayout) -> None:
        """Bring a run into view."""
        self._reader = RunReader(layout)
        self._reader.advance(_SLICE_SECONDS)
        self.opened.publish(layout)
        self.updated.publish(self._reader.view)
        self._schedule()

    def _schedule(self) -> None:
        """Poll again: soon while there is old text to catch up with, else at the usual pace."""
        if self._timer is not None:
            self._timer.stop()
        behind = self._reader is not None and self._reader.has_more
        self._timer = self._app.set_timer(_CATCH_UP_SECONDS if behind else POLL_SECONDS, self._poll)

    def _poll(self) -> None:
        if self._reader is not None and self._reader.advance(_SLICE_SECONDS):
            self.updated.publish(self._reader.view)
        self._schedule()
