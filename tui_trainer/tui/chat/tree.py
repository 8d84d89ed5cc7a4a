"""The conversation as a tree: a retry or an edit grows a branch, arrows go between them, nothing said is ever lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tui_trainer.tui.chat.reply import Opening, Reply, Token

Role = Literal["root", "user", "assistant"]


@dataclass(eq=False)
class Turn:
    """Something said, and what was said after it.

    Attributes:
        role: who said it; "root" only for the beginning, which nobody said.
        said: the text of a user's turn.
        reply: an assistant's turn.
        request: replies to one request have the same number; those are shown together.
        parent: the turn before it.
        children: the turns that were said after it, oldest first.
        following: which of them the conversation goes on with; None if it ends here.
    """

    role: Role
    said: str = ""
    reply: Reply | None = None
    request: int = 0
    parent: Turn | None = None
    children: list[Turn] = field(default_factory=list)
    following: Turn | None = None

    @property
    def text(self) -> str:
        """What was said."""
        return self.reply.text if self.reply is not None else self.said

    @property
    def siblings(self) -> Sequence[Turn]:
        """The turns that could stand in its place, itself included."""
        return self.parent.children if self.parent is not None else [self]

    @property
    def together(self) -> Sequence[Turn]:
        """The replies to the same request, itself included."""
        return [turn for turn in self.siblings if turn.request == self.request] if self.reply else [self]

    @property
    def place(self) -> tuple[int, int]:
        """Its number among its siblings, from 1, and how many there are."""
        return list(self.siblings).index(self) + 1, len(self.siblings)


class Conversation:
    """A tree of turns and the path through it that is talked on."""

    def __init__(self) -> None:
        self.root = Turn("root")
        self._num_requests = 0

    @property
    def path(self) -> list[Turn]:
        """The turns of the conversation as it stands, oldest first."""
        found, turn = [], self.root.following
        while turn is not None:
            found.append(turn)
            turn = turn.following
        return found

    @property
    def tip(self) -> Turn:
        """The last turn of the path, or the root."""
        path = self.path
        return path[-1] if path else self.root

    def ask(self, text: str) -> Turn:
        """Add a question at the end. One that was not answered is left aside as a branch."""
        tip = self.tip
        while tip.role == "user" or (tip.reply is not None and tip.reply.is_failed):
            assert tip.parent is not None
            tip = tip.parent
        return self._grow(tip, Turn("user", said=text))

    def edit(self, question: Turn, text: str) -> Turn:
        """Ask something else in place of a question."""
        assert question.parent is not None
        return self._grow(question.parent, Turn("user", said=text))

    def answer(self, question: Turn, replies: Sequence[Reply]) -> list[Turn]:
        """Add the replies to one request after a question, and go on with the first."""
        self._num_requests += 1
        turns = [self._grow(question, Turn("assistant", reply=reply, request=self._num_requests)) for reply in replies]
        question.following = turns[0]
        return turns

    def add_reply(self, beside: Turn, reply: Reply) -> Turn:
        """Add one more reply to the request of another; the path stays."""
        assert beside.parent is not None
        followed = beside.parent.following
        turn = self._grow(beside.parent, Turn("assistant", reply=reply, request=beside.request))
        beside.parent.following = followed
        return turn

    def _grow(self, parent: Turn, turn: Turn) -> Turn:
        turn.parent = parent
        parent.children.append(turn)
        parent.following = turn
        return turn

    def go_to(self, turn: Turn) -> None:
        """Lead the path through a turn; after it the path goes on as it did when it was last there."""
        while turn.parent is not None:
            turn.parent.following = turn
            turn = turn.parent

    def step(self, turn: Turn, direction: int) -> Turn:
        """Go to the next or previous sibling; the same turn if there is none that way."""
        number, many = turn.place
        to = turn.siblings[min(max(number - 1 + direction, 0), many - 1)]
        self.go_to(to)
        return to

    def enter(self, turn: Turn) -> Turn | None:
        """Go on where the path was cut: into the newest of the turns after this one; None if there are none."""
        if turn.following is None and turn.children:
            turn.following = turn.children[-1]
        return turn.following

    def undo(self) -> Turn | None:
        """Take the last question and its answer off the path; they stay in the tree. None if there is none."""
        questions = [turn for turn in self.path if turn.role == "user"]
        if not questions:
            return None
        last = questions[-1]
        assert last.parent is not None
        last.parent.following = None
        return last

    def question_of(self, turn: Turn) -> Turn | None:
        """The question that a turn is or answers; None for the root."""
        at: Turn | None = turn
        while at is not None and at.role != "user":
            at = at.parent
        return at

    def walk(self) -> Iterator[tuple[int, Turn]]:
        """All turns with their depth, each before what was said after it. Depth grows where the tree branches."""
        pending: list[tuple[int, Turn]] = [(0, turn) for turn in reversed(self.root.children)]
        while pending:
            depth, turn = pending.pop()
            yield depth, turn
            inner = depth + (len(turn.children) > 1)
            pending += [(inner, child) for child in reversed(turn.children)]


def messages_to(turn: Turn, system: str | None = None) -> list[dict[str, str]]:
    """The conversation up to a turn and with it, as a model is asked; replies that failed are left out."""
    lineage: list[Turn] = []
    at: Turn | None = turn
    while at is not None and at.role != "root":
        lineage.append(at)
        at = at.parent
    said = [
        {"role": turn.role, "content": turn.text}
        for turn in reversed(lineage)
        if turn.reply is None or not turn.reply.is_failed
    ]
    return ([{"role": "system", "content": system}] if system else []) + said


def resampled(reply: Reply, position: int, token: int, text: str) -> Opening:
    """What a reply begins with that takes another token at a position and goes on from there.

    Args:
        reply: the reply that is varied; all its tokens have to be known.
        position: of the token that is replaced.
        token: the id that takes its place.
        text: its text.
    """
    kept = (*reply.all_tokens[:position], Token(token, text))
    return Opening("".join(part.text for part in kept), kept)


def to_tree(conversation: Conversation) -> list[dict[str, Any]]:
    """All turns as JSON objects that name their parents; `on_path` marks the conversation as it stands."""
    turns = [turn for _, turn in conversation.walk()]
    numbers = {id(turn): number for number, turn in enumerate(turns)}
    path = {id(turn) for turn in conversation.path}
    return [
        {
            "id": number,
            "parent": numbers.get(id(turn.parent)),
            "role": turn.role,
            "content": turn.text,
            "on_path": id(turn) in path,
            **(_about(turn.reply) if turn.reply else {}),
        }
        for number, turn in enumerate(turns)
    ]


def _about(reply: Reply) -> dict[str, Any]:
    return {
        "model": reply.model,
        "slot": reply.slot,
        "step": reply.step,
        "ids": reply.ids,
        "finish_reason": reply.finish_reason,
        "seed": reply.seed,
        "error": reply.error or None,
    }
