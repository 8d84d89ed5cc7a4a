"""All branches of a conversation as a tree; enter goes to one."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen

from tui_trainer.text import safe_line
from tui_trainer.tui.chat.tree import Conversation, Turn
from tui_trainer.tui.widgets.cursor_list import CursorList, Parts


class TurnList(CursorList):
    """One line a turn, deeper where the tree branches.

    Args:
        conversation: the tree.
    """

    def __init__(self, conversation: Conversation) -> None:
        super().__init__()
        self.turns = list(conversation.walk())
        self._path = {id(turn) for turn in conversation.path}
        self._tip = conversation.tip

    def on_mount(self) -> None:
        """Begin at the end of the present path."""
        at = next((line for line, (_, turn) in enumerate(self.turns) if turn is self._tip), 0)
        self.set_num_lines(len(self.turns), cursor=at)

    def line_parts(self, line: int) -> Parts:
        """Whether it is on the path, who said it, how it begins, which branch it is."""
        depth, turn = self.turns[line]
        number, many = turn.place
        is_here = id(turn) in self._path
        model = f" {turn.reply.slot.upper()}" if turn.reply is not None and turn.reply.slot != "a" else ""
        text = safe_line(turn.text[:200]) or (safe_line(turn.reply.error) if turn.reply else "")
        return (
            ("● " if is_here else "  ", "list--accent"),
            ("│ " * depth, "list--dim"),
            (f"‹{number}/{many}› " if many > 1 else "", "list--accent"),
            (f"{turn.role}{model} ", "list--head" if turn.role == "user" else "list--good"),
            (text, "list--strong" if is_here else ""),
        )


class Branches(ModalScreen[Turn | None]):
    """Returns the turn to go to, None when it was left.

    Args:
        conversation: the tree.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss", "Close", id="branches-close", tooltip="Stay where one was"),
    ]
    DEFAULT_CSS = """
    Branches {
        align: center middle;
        & > Vertical {
            width: 96%; height: 90%; background: $surface; border: round $primary; border-title-color: $primary;
        }
    }
    """

    def __init__(self, conversation: Conversation) -> None:
        super().__init__()
        self._conversation = conversation

    def compose(self) -> ComposeResult:
        """The list."""
        with Vertical() as box:
            box.border_title = "Branches"
            box.border_subtitle = "● the conversation as it stands · enter goes there · esc leaves"
            yield TurnList(self._conversation)

    @on(CursorList.Chosen)
    def _take(self, message: CursorList.Chosen) -> None:
        self.dismiss(self.query_one(TurnList).turns[message.line][1])
