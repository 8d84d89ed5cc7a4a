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
from textual.events import Event
from textual.message_pump import MessagePump

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
        self._waiting: deque[Event] = deque()
        self._task: asyncio.Task[None] | None = None
        self._num_holders = 0
        self._released = asyncio.Event()

    async def take(self, event: Event) -> None:
        """Hand on a key or a pasted text, at once unless the one before it is still at work."""
        if self._task is not None:
            self._waiting.append(event)
            return
        target = self._app.focused or self._app.screen
        await self._hand_on(event)
        self._task = asyncio.create_task(self._hand_on_waiting(target))

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

    async def _hand_on_waiting(self, target: MessagePump) -> None:
        try:
            await self._done(target)
            while self._waiting and self._app.is_running:
                target = self._app.focused or self._app.screen
                await self._hand_on(self._waiting.popleft())
                await self._done(target)
        finally:
            self._task = None

    async def _done(self, target: MessagePump) -> None:
        """Wait until a key that was given to `target` changes neither screen nor focus any more."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await _climb(target)
                seen = None
                while seen != (seen := (self._app.screen, self._app.focused)):
                    await _climb(self._app.focused or self._app.screen)
                    if self._num_holders:
                        await self._released.wait()
        except TimeoutError:
            return


async def _climb(pump: MessagePump | None) -> None:
    """Go the way of a message that bubbles: return when all has been handled that lay in the queues on it."""
    while pump is not None:
        passed = asyncio.Event()
        if pump.call_later(passed.set):
            await passed.wait()
        pump = pump._parent
