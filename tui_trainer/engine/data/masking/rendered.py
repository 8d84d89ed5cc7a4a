"""A rendered conversation and the places in it: what `turns` and `layout` find and `alignment` turns into tokens."""

from __future__ import annotations

from dataclasses import dataclass, field

from tui_trainer.engine.data.masking.anchors import Anchors
from tui_trainer.engine.data.problems import RowProblem


@dataclass(frozen=True, slots=True)
class Slot:
    """A text of the row inside the rendered text.

    Attributes:
        message: number of the message it belongs to.
        role: who says it.
        start: first character.
        end: character behind the last.
    """

    message: int
    role: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Turn:
    """What the assistant says once: its reasoning, content, tool calls and end-of-turn token.

    Attributes:
        message: number of the message.
        start: first character behind the prompt, as a chat feeds it.
        end: character behind the end-of-turn token.
        problems: what is wrong with training on it.
    """

    message: int
    start: int
    end: int
    problems: tuple[RowProblem, ...] = ()


@dataclass(frozen=True, slots=True)
class RenderedChat:
    """The text of a conversation, and where its parts are.

    Attributes:
        text: what is tokenised.
        turns: the turns of the assistant, in order.
        slots: the texts of the row that were found, in order; only where they were searched.
        problems: what is wrong with the rendering as a whole.
        anchors: the added tokens around the turns, where its shape is known.
    """

    text: str
    turns: list[Turn]
    slots: list[Slot] = field(default_factory=list)
    problems: tuple[RowProblem, ...] = ()
    anchors: Anchors | None = None
