"""The models a chat worker holds: up to two, so that they can be compared."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Any

from tui_trainer.errors import UsageError

if TYPE_CHECKING:
    from tui_trainer.engine.chat.server.session import ServerSession
    from tui_trainer.engine.chat.session import ChatSession

    Session = ChatSession | ServerSession

NAMES = ("a", "b")


class Slots:
    """Sessions by slot; the first is the one that is meant where nobody says."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}

    def name_of(self, slot: Any) -> str:
        """The slot's name.

        Raises:
            UsageError: there is no such slot.
        """
        name = slot or NAMES[0]
        if name not in NAMES:
            raise UsageError(f"there is no slot {name!r}", remedy=f"The slots are {' and '.join(NAMES)}.")
        return str(name)

    def get(self, slot: Any) -> Session | None:
        """The session in a slot, None if it is empty."""
        return self._sessions.get(self.name_of(slot))

    def loaded(self, slot: Any) -> Session:
        """The session in a slot.

        Raises:
            UsageError: it is empty.
        """
        session = self.get(slot)
        if session is None:
            what = "no model is loaded" if self.name_of(slot) == NAMES[0] else "no second model is loaded"
            raise UsageError(what, remedy="Choose one first.")
        return session

    def other(self, slot: str) -> ChatSession | None:
        """The session in the other slot, None if it is empty or a server's."""
        others = (session for name, session in self._sessions.items() if name != slot)
        return next((session for session in others if session.kind == "local"), None)

    def locals(self) -> list[ChatSession]:
        """All sessions whose model is in this process."""
        return [session for session in self._sessions.values() if session.kind == "local"]

    def local(self, slot: Any) -> ChatSession:
        """The session in a slot, whose model is in this process.

        Raises:
            UsageError: it is empty, or a server's.
        """
        session = self.loaded(slot)
        if session.kind != "local":
            raise UsageError(
                f"{session.name} is a server: what its model is shown and thinks cannot be looked into from here",
                remedy="Load the model itself, if its weights are on this machine.",
            )
        return session

    def pair(self) -> tuple[ChatSession, ChatSession | None]:
        """The first session, and the second if there is one.

        Raises:
            UsageError: the first slot is empty, or one of them is a server's.
        """
        second = NAMES[1] if NAMES[1] in self._sessions else None
        return self.local(NAMES[0]), self.local(second) if second else None

    def put(self, slot: str, session: Session) -> None:
        """Put a session into a slot."""
        self._sessions[slot] = session

    def drop(self, slot: str | None) -> None:
        """Empty a slot, or all, and give the memory back."""
        for name in NAMES if slot is None else (slot,):
            session, other = self._sessions.pop(name, None), self.other(name)
            if session is not None and session.kind == "local" and other is not None:
                from tui_trainer.engine.chat.sharing import part

                part(other, session)
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()

    def describe(self, slot: str) -> dict[str, Any]:
        """What is in a slot, as a JSON object."""
        session, other = self.loaded(slot), self.other(slot)
        shares = session.kind == "local" and other is not None and session.loaded.model is other.loaded.model
        return session.describe() | {"slot": slot, "shares_weights": shares}
