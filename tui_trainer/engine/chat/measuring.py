"""Running a prompt set in the chat worker: its models stand beside those of the slots, or on their weights."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

from tui_trainer.engine.chat.opening import Wanted, open_session
from tui_trainer.engine.chat.prompt_set import Baseline, PromptSet, ask_all, expanded, one_after_the_other
from tui_trainer.engine.chat.session import ChatSession
from tui_trainer.engine.chat.sharing import part
from tui_trainer.engine.chat.slots import Slots
from tui_trainer.engine.chat.swapping import swapped
from tui_trainer.engine.models.chat_model import locate_for_chat
from tui_trainer.errors import UsageError


def measure(
    slots: Slots, prompts: PromptSet, models: Sequence[str], baseline: str | None, check: Callable[[], None]
) -> Generator[dict[str, Any], None, dict[str, Any]]:
    """Ask all models all prompts; see `ask_all`.

    Args:
        slots: what the worker holds; it is left as it is.
        prompts: what is asked.
        models: whom.
        baseline: what they are held against.
        check: called on the way; what it raises ends the work.

    Raises:
        UsageError: there is no prompt or no model.
    """
    if not prompts.items:
        raise UsageError("there is no prompt to ask", remedy="Write some, or name a file with one a line.")
    names = expanded(models)
    mine = _Guests(slots, check)
    try:
        held_against = mine.kept(baseline) if baseline else None
        against = Baseline.of(held_against, prompts, check) if held_against else None
        sessions = one_after_the_other(names, mine.opened)
        return (yield from ask_all(prompts, sessions, against, check, len(names)))
    finally:
        mine.leave()


class _Guests:
    """Sessions that are opened for a while, beside those in the slots."""

    def __init__(self, slots: Slots, check: Callable[[], None]) -> None:
        self._hosts = slots.locals()
        self._check = check
        self._guests: list[ChatSession] = []
        self._current: ChatSession | None = None

    def kept(self, name: str) -> ChatSession:
        """A session that stays until all leave."""
        return self._host(name) or self._new(name)

    def opened(self, name: str) -> ChatSession:
        """A session with a model: one that is there already, the last one opened with other weights, or a new one."""
        self._check()
        host = self._host(name)
        if host is not None:
            return host
        if self._current is not None:
            found = swapped(self._current, name, locate_for_chat(name), is_shared=self._is_shared(self._current))
            if found is not None:
                self._guests[self._guests.index(self._current)] = self._current = found[0]
                return found[0]
            self._leave(self._current)
        self._current = self._new(name)
        return self._current

    def _host(self, name: str) -> ChatSession | None:
        return next((session for session in self._hosts if session.name == name), None)

    def _new(self, name: str) -> ChatSession:
        beside = next(iter([*self._hosts, *self._guests]), None)
        session = open_session(Wanted(name), beside, lambda *_: self._check())
        self._guests.append(session)
        return session

    def leave(self) -> None:
        """Close all that was opened."""
        for guest in list(self._guests):
            self._leave(guest)

    def _is_shared(self, session: ChatSession) -> bool:
        others = [other for other in (*self._hosts, *self._guests) if other is not session]
        return any(other.loaded.model is session.loaded.model for other in others)

    def _leave(self, guest: ChatSession) -> None:
        self._guests.remove(guest)
        if guest is self._current:
            self._current = None
        for other in (*self._hosts, *self._guests):
            part(other, guest)
