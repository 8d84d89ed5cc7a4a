"""The fast way to the turns of a conversation: what stands between its texts is the same in all of that shape.

Once a conversation of some shape (the roles, and which texts it has) was searched with care, its text is known to be
fixed pieces with the row's texts between them. The next conversation of that shape is put together from the same
pieces; if that equals what the template printed, letter by letter, the turns are where the pieces say. If not, it is
searched with care too. So one rendering a row is enough, and nothing is assumed that was not checked.

A shape that was not seen yet is put together from pieces seen between the same two roles elsewhere, and checked the
same way, with the prompt of its last turn besides; long conversations of all lengths then cost no search each.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tui_trainer.engine.data.formats.messages import Message
from tui_trainer.engine.data.formats.normalise import Chat
from tui_trainer.engine.data.masking.anchors import AnchorFinder, Anchors
from tui_trainer.engine.data.masking.marks import TEXT_FIELDS
from tui_trainer.engine.data.masking.rendered import RenderedChat, Turn
from tui_trainer.engine.data.problems import RowProblem

_MAX_SHAPES = 4096

_Shape = tuple[tuple[str, bool, bool], ...]
_Field = tuple[int, str]
"""Number of a message and which of its texts."""


@dataclass(frozen=True, slots=True)
class _TurnPlace:
    """A turn relative to the texts: from `lead` characters before text `first` to `tail` behind text `last`."""

    message: int
    first: int
    lead: int
    last: int
    tail: int
    problems: tuple[RowProblem, ...] = ()


@dataclass(frozen=True, slots=True)
class _Layout:
    """The fixed pieces of a shape.

    Attributes:
        pieces: what stands before each text, and behind the last.
        fields: message and field of each text.
        trims: whether the template strips the texts.
        turns: the assistant's turns.
        anchors: the added tokens around the turns, if they tell where these are.
    """

    pieces: tuple[str, ...]
    fields: tuple[_Field, ...]
    trims: bool
    turns: tuple[_TurnPlace, ...]
    anchors: Anchors | None = None

    def texts(self, chat: Chat) -> list[str]:
        """The texts of a conversation as the template prints them."""
        texts: list[str] = [chat.messages[number][field] for number, field in self.fields]
        return [text.strip() for text in texts] if self.trims else texts

    def compose(self, texts: Sequence[str]) -> str:
        """Pieces and texts in turn."""
        parts = [""] * (2 * len(texts) + 1)
        parts[::2] = self.pieces
        parts[1::2] = texts
        return "".join(parts)

    def place(self, text: str, texts: Sequence[str]) -> RenderedChat:
        """The turns in a text that equals what `compose` makes of `texts`."""
        extents = []
        at = 0
        for piece, inner in zip(self.pieces, texts, strict=False):
            start = at + len(piece)
            at = start + len(inner)
            extents.append((start, at))
        turns = [
            Turn(turn.message, extents[turn.first][0] - turn.lead, extents[turn.last][1] + turn.tail, turn.problems)
            for turn in self.turns
        ]
        return RenderedChat(text, turns, anchors=self.anchors)


@dataclass(frozen=True, slots=True)
class _Joint:
    """What stands between two neighbouring texts.

    Attributes:
        piece: the text between.
        tail: how far into it the turn of the text before reaches, if that is the assistant's.
        lead: how far before its end the turn of the text behind begins, if that is the assistant's.
    """

    piece: str
    tail: int
    lead: int


_JointKey = tuple[bool, tuple[str, str] | None, tuple[str, str] | None]
"""Whether texts are stripped; role and field of the text before and of the text behind, None at the ends."""


class LayoutCache:
    """The layouts of the shapes seen so far.

    Args:
        anchors: finds the added tokens around turns.
    """

    def __init__(self, anchors: AnchorFinder) -> None:
        self._anchors = anchors
        self._layouts: dict[_Shape, _Layout] = {}
        self._joints: dict[_JointKey, _Joint] = {}

    def apply(self, text: str, chat: Chat, render_prompt: Callable[[int], str | None]) -> RenderedChat | None:
        """The turns of a rendered conversation; None if neither its shape nor all its pieces are known.

        Args:
            text: the rendered conversation.
            chat: the conversation.
            render_prompt: renders what a chat feeds before a message; None if the template refuses.
        """
        shape = _shape_of(chat)
        if shape is None:
            return None
        layout = self._layouts.get(shape)
        if layout is not None:
            texts = layout.texts(chat)
            return layout.place(text, texts) if layout.compose(texts) == text else None
        for trims in (False, True):
            layout = self._assembled(chat, trims)
            if layout is None:
                continue
            texts = layout.texts(chat)
            if layout.compose(texts) == text:
                rendered = layout.place(text, texts)
                last = rendered.turns[-1]
                if text[: last.start] == render_prompt(last.message):
                    self._store(shape, layout)
                    return rendered
        return None

    def learn(self, rendered: RenderedChat, chat: Chat) -> None:
        """Remember the shape of a conversation that was searched, if it can be put together from fixed pieces."""
        shape = _shape_of(chat)
        if shape is None or rendered.problems:
            return
        for trims in (False, True):
            layout = _layout_of(rendered, chat, trims)
            if layout is not None and layout.compose(layout.texts(chat)) == rendered.text:
                self._store(shape, layout)
                if not any(turn.problems for turn in layout.turns):
                    self._keep_joints(layout, chat)
                return

    def _store(self, shape: _Shape, layout: _Layout) -> None:
        if len(self._layouts) >= _MAX_SHAPES:
            self._layouts.clear()
        turns = [(turn.message, turn.first, turn.lead, turn.last, turn.tail, turn.problems) for turn in layout.turns]
        self._layouts[shape] = replace(layout, anchors=self._anchors.find(layout.pieces, turns))

    def _keep_joints(self, layout: _Layout, chat: Chat) -> None:
        kinds = [None, *((chat.messages[number]["role"], field) for number, field in layout.fields), None]
        leads = {turn.first: turn.lead for turn in layout.turns}
        tails = {turn.last: turn.tail for turn in layout.turns}
        for order, piece in enumerate(layout.pieces):
            key = (layout.trims, kinds[order], kinds[order + 1])
            self._joints[key] = _Joint(piece, tails.get(order - 1, 0), leads.get(order, 0))

    def _assembled(self, chat: Chat, trims: bool) -> _Layout | None:
        """A layout from pieces seen elsewhere."""
        fields = _fields_of(chat)
        if {number for number, _ in fields} != set(range(len(chat.messages))):
            return None
        kinds = [None, *((chat.messages[number]["role"], field) for number, field in fields), None]
        joints = []
        for before, behind in itertools.pairwise(kinds):
            joint = self._joints.get((trims, before, behind))
            if joint is None:
                return None
            joints.append(joint)
        turns = []
        for number, message in enumerate(chat.messages):
            if message["role"] == "assistant":
                own = [order for order, (owner, _) in enumerate(fields) if owner == number]
                turns.append(_TurnPlace(number, own[0], joints[own[0]].lead, own[-1], joints[own[-1] + 1].tail))
        if not turns:
            return None
        return _Layout(tuple(joint.piece for joint in joints), tuple(fields), trims, tuple(turns))


def _shape_of(chat: Chat) -> _Shape | None:
    """What decides about the pieces; None where tools make every conversation its own."""
    if chat.tools or any("tool_calls" in message for message in chat.messages):
        return None
    return tuple(
        (message["role"], bool(message["content"]), bool(message.get("reasoning_content"))) for message in chat.messages
    )


def _layout_of(rendered: RenderedChat, chat: Chat, trims: bool) -> _Layout | None:
    fields = _fields_of(chat)
    if [slot.message for slot in rendered.slots] != [number for number, _ in fields]:
        return None
    pieces = []
    extents: list[tuple[int, int]] = []
    at = 0
    for slot, (number, field) in zip(rendered.slots, fields, strict=True):
        text = chat.messages[number][field]
        lead = 0 if trims else len(text) - len(text.lstrip())
        trail = 0 if trims else len(text) - len(text.rstrip())
        start, end = slot.start - lead, slot.end + trail
        if start < at:
            return None
        pieces.append(rendered.text[at:start])
        extents.append((start, end))
        at = end
    pieces.append(rendered.text[at:])
    turns = []
    for turn in rendered.turns:
        own = [order for order, (number, _) in enumerate(fields) if number == turn.message]
        if not own:
            return None
        lead, tail = extents[own[0]][0] - turn.start, turn.end - extents[own[-1]][1]
        turns.append(_TurnPlace(turn.message, own[0], lead, own[-1], tail, turn.problems))
    return _Layout(tuple(pieces), tuple(fields), trims, tuple(turns))


def _fields_of(chat: Chat) -> list[_Field]:
    """The texts of a conversation that are not blank, in the order templates print them."""
    return [
        (number, field)
        for number, message in enumerate(chat.messages)
        for field in TEXT_FIELDS
        if _has_text(message, field)
    ]


def _has_text(message: Message, field: str) -> bool:
    text = message.get(field)
    return isinstance(text, str) and bool(text.strip())
