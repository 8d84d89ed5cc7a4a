"""Keys that come faster than the screens follow: over a slow line they arrive in bursts. `tui.app` gives each to this.

The library hands a key to whatever has the focus when it arrives, also while the key before it is still opening a
dialog: what was typed for the dialog would be taken for commands of the screen beneath.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from textual.app import App
from textual.events import Event, Key, Paste
from textual.message_pump import MessagePump
from textual.widget import Widget

_PATIENCE_SECONDS = 1.0
"""How long a key waits for the one before it: what hangs must not take the keyboard with it."""


class TypeAhead:
    """Hands on one key at a time, each when the one before has done all it does.

    Args:
        app: whose keys they are.
        hand_on: gives an event to what has the focus.
    """

    def __init__(self, app: App[Any], hand_on: Callable[[Event], Awaitable[None]]) -> None:
        self._app = app
        self._hand_on = hand_on
        self._waiting: deque[Key | Paste] = deque()
        self._task: asyncio.Task[None] | None = None
        self._without_effect: tuple[str, Widget] | None = None
        self._num_holders = 0
        self._released = asyncio.Event()

    async def take(self, event: Key | Paste) -> None:
        """Hand on a key or a pasted text, at once unless the one before it is still at work."""
        if self._task is not None:
            self._waiting.append(event)
            return
        target = self._target
        await self._hand_on(event)
        if not _is_text(event, target):
            self._task = asyncio.create_task(self._hand_on_waiting(event, target))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep keys back while something is fetched for the dialog that they are meant for."""
        self._num_holders += 1
        self._released.clear()
        try:
            yield
        finally:
            self._num_holders -= 1
            if not self._num_holders:
                self._released.set()

    @property
    def _target(self) -> Widget:
        return self._app.focused or self._app.screen

    async def _hand_on_waiting(self, event: Key | Paste, target: Widget) -> None:
        """Go on when what `event` does is done; more come meanwhile."""
        try:
            await self._done(event, target)
            while self._waiting and self._app.is_running:
                event, target = self._waiting.popleft(), self._target
                await self._hand_on(event)
                if not (_is_text(event, target) or self._is_repeated(event, target)):
                    await self._done(event, target)
        finally:
            self._task = None

    def _is_repeated(self, event: Key | Paste, target: Widget) -> bool:
        """Whether the key is held down, which moves something: the screens follow as fast as they can."""
        is_same = bool(self._waiting) and _name(event) == _name(self._waiting[0])
        return is_same and self._without_effect == (_name(event), target)

    async def _done(self, event: Key | Paste, target: Widget) -> None:
        """Wait until a key that was given to `target` changes neither screen nor focus any more."""
        before = (self._app.screen, self._app.focused)
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await _climb(target)
                seen = None
                while seen != (seen := (self._app.screen, self._app.focused)):
                    await _climb(self._target)
                    if self._num_holders:
                        await self._released.wait()
        except TimeoutError:
            return
        self._without_effect = (_name(event), target) if seen == before else None


def _name(event: Key | Paste) -> str:
    return event.key if isinstance(event, Key) else ""


def _is_text(event: Key | Paste, target: Widget) -> bool:
    """Whether the event is a letter for a field, which is no command."""
    return isinstance(event, Key) and target.check_consume_key(event.key, event.character)


async def _climb(pump: MessagePump | None) -> None:
    """Go the way of a message that bubbles: return when all has been handled that lay in the queues on it."""
    while pump is not None:
        passed = asyncio.Event()
        if pump.call_later(passed.set):
            await passed.wait()
        pump = pump._parent
