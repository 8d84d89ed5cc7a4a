"""The models of the Chat screen: choosing A and B, following a run, a line for each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Static

from tui_trainer.errors import WorkbenchError
from tui_trainer.runs.store import split_checkpoint
from tui_trainer.text import safe_line
from tui_trainer.tui.chat.describe import short_name, slot_note
from tui_trainer.tui.chat.targets import ideas, model_options, newest_model
from tui_trainer.tui.feeds.chat import ChatFeed
from tui_trainer.tui.screens.base import WorkbenchScreen
from tui_trainer.tui.screens.pick_model import PickModel
from tui_trainer.tui.session import Session
from tui_trainer.tui.widgets.ask import Pick

_NONE = "-"
_AGE_SECONDS = 20.0
_PLACES = (
    ("auto auto", "choose for me", "a GPU if it has room, else the CPU; the type the model was saved in"),
    ("cpu float32", "CPU, float32", "exact"),
    ("cpu int8", "CPU, int8", "weights in 8 bits: faster, a little less exact"),
    ("cpu bfloat16", "CPU, bfloat16", "half the memory"),
    ("cuda bfloat16", "GPU, bfloat16", ""),
    ("cuda float16", "GPU, float16", ""),
    ("cuda float32", "GPU, float32", "exact"),
)


class ModelsScreen(WorkbenchScreen):
    """A screen that talks to one or two models.

    Attributes:
        models: the two slots.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("o", "model('a')", "Model", id="chat-model", tooltip="Choose the model to talk to (A)"),
        Binding("O", "model('b')", "Against", show=False, id="chat-against", tooltip="Choose a second model (B)"),
        Binding("f", "follow", "Follow", show=False, id="chat-follow", tooltip="Follow the run: on, off"),
        Binding("D", "device", "Device", show=False, id="chat-device", tooltip="Choose the device and the number type"),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.models = ChatFeed(session.services.chat, self._slot_changed)
        self._was_chosen = False
        self._asked_of: str | None = None

    def on_mount(self) -> None:
        """Choose a model to begin with; it is loaded when the first question is asked."""
        super().on_mount()
        self.models.choose("a", self._first_model())
        self.models.choose("b", "")
        self.set_interval(_AGE_SECONDS, self._show_ages)

    def on_screen_resume(self) -> None:
        """The newest checkpoint of the run in view is the one to talk to, unless another was chosen here."""
        if self.session.talks_to_run:
            self.session.talks_to_run = self._was_chosen = False
            self._stop_following("a")
        first, slot = self._first_model(), self.models.slot("a")
        if not self._was_chosen and not slot.run and first and first != slot.reference:
            self.models.choose("a", first)

    def _first_model(self) -> str:
        layout = self.session.run.layout
        newest = newest_model(layout) if layout is not None else None
        return newest or self.session.draft.config.model.name_or_path or ""

    def _slot_changed(self, name: str) -> None:
        """Show a slot's line; A's is always there."""
        slot, lines = self.models.slot(name), self.query(f"#model-{name}").results(Static)
        line = next(iter(lines), None)
        if line is None:
            return
        line.display = name == "a" or bool(slot.reference)
        sign = f" {name.upper()} " if self.models.has_other else " "
        reference = safe_line(short_name(slot.reference)) or "no model"
        note = (f" {safe_line(slot_note(slot))}", "$error" if slot.error else "$text-muted")
        line.update(Content.assemble((sign, "bold $accent"), (f"{reference} ", "bold $primary"), note))
        if name == "b":
            self._slot_changed("a")
        elif slot.reference != self._asked_of:
            self._asked_of = slot.reference
            self.show_ideas(ideas(slot.run or slot.reference, self.session.root))

    def show_ideas(self, prompts: Sequence[str]) -> None:
        """Called with what the model might be asked when another one was chosen."""

    def _show_ages(self) -> None:
        for name in ("a", "b"):
            if self.models.slot(name).saved_at:
                self._slot_changed(name)

    @work(group="models", exclusive=True, exit_on_error=False)
    async def action_model(self, name: str) -> None:
        """Pick a model."""
        own = self.session.draft.config.model.name_or_path
        with self.session.type_ahead.held():
            options = await asyncio.to_thread(model_options, self.session.root, own)
        if name == "b":
            options.insert(0, (_NONE, "none: talk to A alone", ""))

        def take(reference: str | None) -> None:
            if reference:
                self._take_model(name, reference)

        title = "Talk to" if name == "a" else "Compare with"
        picker = PickModel(title, options, self.models.slot(name).reference, self.session.services.chat)
        self.app.push_screen(picker, take)

    def _take_model(self, name: str, reference: str) -> None:
        self._stop_following(name)
        if reference == _NONE:
            self._drop_other()
            return
        self._was_chosen = True
        self.models.choose(name, _shortest(reference))
        self._load()

    @work(group="load", exclusive=True, exit_on_error=False)
    async def _load(self) -> None:
        """Load what was chosen; what goes wrong stands in the model's line."""
        try:
            await self.models.ensure_loaded()
        except WorkbenchError as error:
            self.say(str(error), problem=True)
        else:
            await self.models_loaded()

    @work(group="drop", exit_on_error=False)
    async def _drop_other(self) -> None:
        await self.models.drop_other()
        await self.models_loaded()

    async def models_loaded(self) -> None:
        """Called when other models are there than before."""

    def action_device(self) -> None:
        """Pick the device and the type of numbers."""
        current = f"{self.models.device} {self.models.dtype}"
        self.app.push_screen(Pick("Where the models are loaded", _PLACES, current), self._device_picked)

    def _device_picked(self, place: str | None) -> None:
        if place is None:
            return
        self.models.device, _, self.models.dtype = place.partition(" ")
        self.models.forget()
        self._load()

    # Following a run

    def action_follow(self) -> None:
        """Follow the run of model A, or stop it."""
        if self.models.slot("a").run:
            self._stop_following("a")
            self.say("follows the run no more")
            return
        run = self._run_to_follow()
        if run:
            self._follow(run)
        else:
            self.say("there is no run to follow: bring one into view, or choose a checkpoint with o", problem=True)

    def _run_to_follow(self) -> str:
        """The run that the model comes from, else the run in view."""
        slot = self.models.slot("a")
        if slot.about.get("run"):
            return str(slot.about["run"])
        layout = self.session.run.layout
        run, _ = split_checkpoint(slot.reference)
        if run != slot.reference:
            return run
        return layout.id if layout is not None else ""

    @work(group="follow-a", exclusive=True, exit_on_error=False)
    async def _follow(self, run: str) -> None:
        try:
            if self.models.slot("a").reference:
                await self.models.ensure_loaded()
                await self.models_loaded()
            await self.models.follow("a", run)
        except WorkbenchError as error:
            self.say(str(error), problem=True)

    def _stop_following(self, name: str) -> None:
        self.workers.cancel_group(self, f"follow-{name}")


def _shortest(reference: str) -> str:
    """A path below the working directory as it is usually written."""
    path = Path(reference)
    try:
        return str(path.relative_to(Path.cwd())) if path.is_absolute() else reference
    except ValueError:
        return reference
