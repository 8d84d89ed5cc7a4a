"""The models one talks to, as the chat worker has them: chosen, loaded, swapped while their run goes on."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tui_trainer.errors import CancelledError, MachineError, WorkbenchError
from tui_trainer.tui.feeds.dataset import progress_text
from tui_trainer.tui.services import WorkerClient

SLOTS = ("a", "b")
ADAPTER_SIGN = " + "
"""Between a base and the adapter that is put on it, in what the user types."""

OnItem = Callable[[Any], None]


@dataclass(frozen=True)
class Slot:
    """One of the two models.

    Attributes:
        reference: what the user calls it; empty for none.
        about: the worker's description of it once it is loaded.
        task: what is being done about it.
        error: why it cannot be had.
        run: the run it follows; empty if it follows none.
        follow_note: what the following did last.
        saved_at: when the checkpoint it follows was saved, Unix seconds; 0 if that is not known.
    """

    reference: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)
    task: str = ""
    error: str = ""
    run: str = ""
    follow_note: str = ""
    saved_at: float = 0.0

    @property
    def is_loaded(self) -> bool:
        """Whether it can be asked."""
        return bool(self.about)

    @property
    def has_template(self) -> bool:
        """Whether it takes messages; else it goes on with a text."""
        return bool(self.about.get("has_template", True))


class ChatFeed:
    """Chooses, loads and follows models; everything else goes to the worker as it is asked.

    Args:
        worker: the chat worker.
        tell: called with the slot whenever something about it changed.
    """

    def __init__(self, worker: WorkerClient, tell: Callable[[str], None]) -> None:
        self._worker = worker
        self._tell = tell
        self._loading = asyncio.Lock()
        self._loaded_in: int | None = None
        self._slots = {name: Slot() for name in SLOTS}
        self.device, self.dtype = "auto", "auto"

    def slot(self, name: str) -> Slot:
        """What is known of a slot."""
        return self._slots[name]

    @property
    def has_other(self) -> bool:
        """Whether a second model was chosen."""
        return bool(self._slots["b"].reference)

    def choose(self, name: str, reference: str) -> None:
        """Take another model into a slot; it is loaded when it is needed."""
        self._set(name, Slot(reference.strip()))

    def forget(self) -> None:
        """Nothing is loaded any more, as after the worker died or the device was changed."""
        for name in SLOTS:
            self._set(name, Slot(self._slots[name].reference))

    async def ensure_loaded(self) -> None:
        """Load whatever was chosen and is not there yet.

        Raises:
            WorkbenchError: a model cannot be had.
        """
        if self._worker.pid != self._loaded_in and any(slot.is_loaded for slot in self._slots.values()):
            self.forget()  # it died while nobody asked it anything
        for name in SLOTS:
            if self._slots[name].reference:
                await self._ensure(name)

    async def _ensure(self, name: str) -> None:
        async with self._loading:
            slot = self._slots[name]
            if slot.is_loaded:
                return
            reference = slot.reference
            self._set(name, replace(slot, task="loading …", error=""))
            try:
                about = await self.call("load", self._load_request(name, reference), lambda item: self._at(name, item))
            except (WorkbenchError, asyncio.CancelledError) as error:
                if self._slots[name].reference == reference:
                    self._set(name, Slot(reference, error=str(error) or "loading was stopped"))
                raise
            self._loaded_in = self._worker.pid
            if self._slots[name].reference == reference:
                self._set(name, replace(self._slots[name], about=about, task="", error=""))

    def _load_request(self, name: str, reference: str) -> dict[str, Any]:
        model, _, adapter = reference.partition(ADAPTER_SIGN)
        request = {"model": model.strip(), "slot": name, "device": self.device, "dtype": self.dtype}
        return request | ({"adapter": adapter.strip()} if adapter.strip() else {})

    def _at(self, name: str, item: Any) -> None:
        if isinstance(item, Mapping):
            self._set(name, replace(self._slots[name], task=f"{progress_text(dict(item))} …"))

    async def drop_other(self) -> None:
        """Give the second model and its memory back."""
        was_loaded = self._slots["b"].is_loaded
        self._set("b", Slot())
        if was_loaded:
            with contextlib.suppress(WorkbenchError):
                await self.call("unload", {"slot": "b"})

    async def follow(self, name: str, run: str) -> None:
        """Take each new checkpoint of a run as it appears, until this is cancelled or the run ends.

        Raises:
            WorkbenchError: the run cannot be followed.
        """
        self._set(name, replace(self._slots[name], run=run, follow_note="waiting for a checkpoint", error=""))
        try:
            end = await self.call("follow", {"run": run, "slot": name}, lambda item: self._followed(name, item))
            reason = end.get("reason") if isinstance(end, Mapping) else ""
            self._stop_following(name, f"the run has ended{f': {reason}' if reason else ''}")
        except CancelledError:
            self._stop_following(name, "")
        except asyncio.CancelledError:
            self._stop_following(name, "")
            raise
        except WorkbenchError:
            self._stop_following(name, "")
            raise

    def _stop_following(self, name: str, note: str) -> None:
        self._set(name, replace(self._slots[name], run="", follow_note=note))

    def _followed(self, name: str, item: Any) -> None:
        """Take in what following tells: a new checkpoint was swapped in, or why not."""
        if not isinstance(item, Mapping):
            return
        slot, event = self._slots[name], item.get("event")
        note = str(item.get("note") or "")
        if event == "swapped":
            stamp = {"step": item.get("step"), "path": item.get("path")}
            about = {**slot.about, "step": item.get("step"), "stamp": stamp}
            if item.get("device"):
                about["device"] = item["device"]
            how = str(item.get("how") or "")
            note = " · ".join(filter(None, (how, note)))
            age = item.get("age_seconds")
            saved = time.time() - age if isinstance(age, (int, float)) else 0.0
            slot = replace(slot, about=about, reference=f"{slot.run}@{item.get('step')}", saved_at=saved)
        elif event == "waiting":
            note = note or "waiting for a checkpoint"
        self._set(name, replace(slot, follow_note=note))

    async def call(self, method: str, params: Mapping[str, Any], on_item: OnItem | None = None) -> Any:
        """Ask the worker; after its death nothing counts as loaded.

        Raises:
            WorkbenchError: what the worker says, or that it died.
        """
        try:
            return await self._worker.call(method, dict(params), on_item)
        except MachineError as error:
            if "worker ended" in error.what:
                self.forget()
            raise

    def _set(self, name: str, slot: Slot) -> None:
        self._slots[name] = slot
        self._tell(name)
