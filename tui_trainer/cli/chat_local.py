"""The methods of the chat worker called in this process: the command needs no second one."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from tui_trainer.cli.output import show_task, talk
from tui_trainer.tui.feeds.chat import Slot
from tui_trainer.wire.server import Cancellation

OnItem = Callable[[Mapping[str, Any]], None]


class LocalModels:
    """Up to two models, in the slots "a" and "b"; what is loaded is told on stderr."""

    def __init__(self) -> None:
        from tui_trainer.engine.servers.chat import ChatServer
        from tui_trainer.engine.threads import wait_asleep

        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        warnings.filterwarnings("ignore", category=FutureWarning)
        wait_asleep()
        self._methods = ChatServer().methods
        self.slots: dict[str, Slot] = {}

    @property
    def has_other(self) -> bool:
        """Whether there is a second model."""
        return "b" in self.slots

    def load(self, slot: str, model: str, settings: Mapping[str, str]) -> None:
        """Load a model.

        Args:
            slot: "a" or "b".
            model: what the user calls it.
            settings: adapter, device, dtype where they are given.

        Raises:
            WorkbenchError: it cannot be had.
        """
        with talk().status("loading the libraries") as status:

            def report(item: Mapping[str, Any]) -> None:
                done, total = item.get("done"), item.get("total")
                share = f" {100 * done // total} %" if done is not None and total else ""
                show_task(status, str(item.get("task") or "") + share)

            about = self.call("load", {"model": model, "slot": slot, **settings}, report)
        self.slots[slot] = Slot(model, about)

    def swap(self, slot: str, model: str) -> str:
        """Put another model's weights into a slot; returns how that was done.

        Raises:
            WorkbenchError: it cannot be had.
        """
        about = self.call("swap", {"model": model, "slot": slot})
        self.slots[slot] = Slot(model, about)
        return str(about.get("how") or "loaded")

    def drop_other(self) -> None:
        """Give the second model back."""
        if self.slots.pop("b", None) is not None:
            self.call("unload", {"slot": "b"})

    def call(
        self,
        method: str,
        params: Mapping[str, Any],
        on_item: OnItem | None = None,
        cancellation: Cancellation | None = None,
    ) -> Any:
        """The result of a method; its items go to `on_item`.

        Raises:
            WorkbenchError: as the worker's method.
        """
        answer = self._methods[method](dict(params), cancellation or Cancellation())
        while True:
            try:
                item = next(answer)
            except StopIteration as end:
                return end.value
            if on_item is not None:
                on_item(item)


@contextmanager
def interruptible() -> Iterator[Cancellation]:
    """While inside, the first SIGINT only cancels; the second interrupts as usual."""
    cancellation = Cancellation()
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        cancellation.cancel()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield cancellation
    finally:
        signal.signal(signal.SIGINT, before)
