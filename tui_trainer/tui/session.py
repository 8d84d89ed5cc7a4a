"""What the five screens share: the draft of the next run, its dataset, the run in view."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from textual.app import App
from textual.signal import Signal

from tui_trainer.paths import runs_dir
from tui_trainer.tui.feeds.dataset import DatasetFeed
from tui_trainer.tui.feeds.run import RunFeed
from tui_trainer.tui.services import Services
from tui_trainer.tui.type_ahead import TypeAhead

if TYPE_CHECKING:
    from tui_trainer.config.draft import Draft


class Session:
    """State above the screens; they listen to its signals and call its methods.

    Args:
        app: owns the signals and timers.
        services: the outside world.
        type_ahead: keeps keys back while the dialog that they are meant for is being opened.
        draft: the configuration to begin with; without it the defaults, made when first asked for.
        root: the run store.

    Attributes:
        draft_changed: published when a field of the draft changed or another draft came.
        talks_to_run: set by a screen that sends the user to the chat to talk to the run in view; the chat clears it.
    """

    def __init__(
        self,
        app: App[Any],
        services: Services,
        type_ahead: TypeAhead,
        draft: Draft | None = None,
        root: Path | None = None,
    ) -> None:
        self.services = services
        self.type_ahead = type_ahead
        self.root = root or runs_dir()
        self.run = RunFeed(app)
        self.dataset = DatasetFeed(app, services.data)
        self.draft_changed: Signal[Draft] = Signal(app, "draft-changed")
        self.talks_to_run = False
        self._draft = draft

    @property
    def draft(self) -> Draft:
        """The configuration that would be launched now."""
        if self._draft is None:
            from tui_trainer.config.draft import Draft

            self._draft = Draft()
        return self._draft

    def set_draft(self, draft: Draft) -> None:
        """Edit another configuration."""
        self._draft = draft
        self.draft_edited()

    def draft_edited(self) -> None:
        """Tell everybody that the draft is not what it was."""
        self.draft_changed.publish(self.draft)
        self.dataset.open(self.draft.config)
