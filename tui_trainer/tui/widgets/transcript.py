"""The conversation as it stands: who said what, how each answer came about, which branch one is on.

Turns are selected with up and down, left and right go to the branches beside the selected one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical, VerticalScroll
from textual.content import Content
from textual.events import Click
from textual.message import Message
from textual.widgets import Static

from tui_trainer.tui.chat.colours import PLAIN
from tui_trainer.tui.chat.tree import Conversation, Turn
from tui_trainer.tui.widgets.turn_text import Looks, begin_text, hint_text, system_text, turn_text


class Said(Static):
    """One turn as text."""

    def __init__(self, turn: Turn) -> None:
        super().__init__("", markup=False, classes=f"-{turn.role}")
        self.turn = turn

    class Picked(Message):
        """A turn was clicked."""

        def __init__(self, turn: Turn) -> None:
            super().__init__()
            self.turn = turn

    def on_click(self, event: Click) -> None:
        """A click selects."""
        event.stop()
        self.post_message(self.Picked(self.turn))


class TurnView(Container):
    """A question, or the replies to one request: those of A and of B side by side where there is room.

    Args:
        turn: the turn on the path.
    """

    DEFAULT_CSS = """
    TurnView {
        height: auto; layout: vertical;
        & > Vertical { height: auto; }
        & Said { width: 100%; height: auto; padding: 0 1; border-left: blank; }
        & Said.-user { background: $surface; }
        & Said.-selected { border-left: outer $border; }
    }
    """

    def __init__(self, turn: Turn) -> None:
        self.turns = list(turn.together)
        self.slots = sorted({turn.reply.slot for turn in self.turns if turn.reply is not None})
        super().__init__(classes="-pair" if len(self.slots) > 1 else "")

    def compose(self) -> ComposeResult:
        """A column for each model."""
        for slot in self.slots or [""]:
            with Vertical():
                for turn in self.turns:
                    if turn.reply is None or turn.reply.slot == slot:
                        yield Said(turn)

    @property
    def key(self) -> tuple[int, ...]:
        """What it shows: equal for equal turns."""
        return tuple(map(id, self.turns))


class Transcript(VerticalScroll, can_focus=True):
    """Shows the path of a conversation; only what changed is drawn again."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "select(-1)", "Up", show=False, id="transcript-up", tooltip="To the turn before"),
        Binding("down,j", "select(1)", "Down", show=False, id="transcript-down", tooltip="To the turn after"),
        Binding("left,h", "branch(-1)", "Branch", show=False, id="transcript-left", tooltip="To the branch before"),
        Binding("right,l", "branch(1)", "Branch", show=False, id="transcript-right", tooltip="To the branch after"),
        Binding("g,home", "scroll_home", "First", show=False, id="transcript-first", tooltip="To the beginning"),
        Binding("G,end", "scroll_end", "Last", show=False, id="transcript-last", tooltip="To the end"),
        Binding("enter", "open", "Tokens", show=False, id="transcript-open", tooltip="The tokens of the reply"),
    ]
    DEFAULT_CSS = """
    Transcript {
        height: 1fr;
        scrollbar-size-vertical: 1;
        & > #said-before, & > #begin, & > #goes-on { width: 100%; height: auto; padding: 0 2; }
        & > TurnView { margin-bottom: 1; }
        &:focus Said.-selected { border-left: outer $primary; }
    }
    """

    class Selected(Message):
        """Another turn is selected, or another branch is followed."""

    class Opened(Message):
        """Enter was pressed on a turn."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.conversation = Conversation()
        self.system: str | None = None
        self.ideas: Sequence[str] = ()
        self.mode = PLAIN
        self.unfolded: set[int] = set()
        self._selected: Turn | None = None

    def compose(self) -> ComposeResult:
        """What was said before, how to begin, and what else follows the end."""
        yield Static("", id="said-before", markup=False)
        yield Static("", id="begin", markup=False)
        yield Static("", id="goes-on", markup=False)

    def on_mount(self) -> None:
        """Stay at the end while it grows, unless the user scrolled away."""
        self.redraw()
        self.anchor()

    @property
    def selected(self) -> Turn | None:
        """The turn that keys act on: the chosen one, else the last."""
        path = self.conversation.path
        if self._selected is not None and self._selected in path:
            return self._selected
        return path[-1] if path else None

    async def show(self, *, select: Turn | None = None, to_end: bool = True) -> None:
        """Show the path as it is now.

        Args:
            select: the turn that is selected; without it the last one.
            to_end: scroll there, as after something new was said.
        """
        self._selected = select
        path = self.conversation.path
        views = list(self.query(TurnView))
        wanted = [TurnView(turn) for turn in path]
        same = 0
        while same < min(len(views), len(wanted)) and views[same].key == wanted[same].key:
            same += 1
        for view in views[same:]:
            await view.remove()
        if wanted[same:]:
            await self.mount_all(wanted[same:], before="#goes-on")
        # of what stays, only the last may stand otherwise: another of its replies is gone on with
        for view in [*views[max(same - 1, 0) : same], *wanted[same:]]:
            for said in view.query(Said):
                self._draw(said)
        self._mark()
        if to_end:
            self.anchor()

    def redraw(self) -> None:
        """Draw everything again, as after the way to colour changed."""
        for said in self.query(Said):
            self._draw(said)
        self._mark()

    def _mark(self) -> None:
        """Show what is selected, and what is before and after the turns."""
        selected, tip = self.selected, self.conversation.tip
        for said in self.query(Said):
            said.set_class(said.turn is selected, "-selected")
        self._put("#said-before", system_text(self.system))
        is_new = tip is self.conversation.root and not tip.children
        self._put("#begin", begin_text(self.ideas) if is_new and self.ideas else Content(""))
        self._put("#goes-on", hint_text(len(tip.children) if tip.following is None else 0))

    def _put(self, selector: str, text: Content) -> None:
        line = self.query_one(selector, Static)
        if line.display != bool(text) or line.content != text:
            line.display = bool(text)
            line.update(text)

    def refresh_turn(self, turn: Turn) -> None:
        """Draw one turn again, as while it grows."""
        for said in self.query(Said):
            if said.turn is turn:
                self._draw(said)

    def _draw(self, said: Said) -> None:
        turn = said.turn
        on_path = turn.parent is not None and turn.parent.following is turn
        said.update(turn_text(turn, Looks(self.mode, id(turn) in self.unfolded, on_path)))

    def action_select(self, direction: int) -> None:
        """Select a neighbour on the path; past the end go on into a branch that was left."""
        path, at = self.conversation.path, self.selected
        number = path.index(at) + direction if at is not None else 0
        if number >= len(path):
            entered = self.conversation.enter(self.conversation.tip)
            if entered is not None:
                self.go_to(entered)
        elif number >= 0:
            self._selected = path[number]
            self._mark()
            self._show_selected()
            self.post_message(self.Selected())

    def action_branch(self, direction: int) -> None:
        """Go to the sibling beside the selected turn."""
        turn = self.selected
        if turn is None:
            self.action_select(1)
            return
        self.go_to(self.conversation.step(turn, direction))

    def go_to(self, turn: Turn) -> None:
        """Show the path as it is now, a turn of it selected."""
        self.call_later(self._show_branch, turn)

    async def _show_branch(self, turn: Turn) -> None:
        await self.show(select=turn, to_end=False)
        self._show_selected()
        self.post_message(self.Selected())

    def _show_selected(self) -> None:
        turn = self.selected
        for said in self.query(Said):
            if said.turn is turn:
                self.anchor(False)
                said.scroll_visible(animate=False, top=said.size.height > self.size.height)

    @on(Said.Picked)
    def _picked(self, message: Said.Picked) -> None:
        message.stop()
        self.focus()
        self.conversation.go_to(message.turn)
        self.go_to(message.turn)

    def action_open(self) -> None:
        """Open the tokens of the selected turn."""
        self.post_message(self.Opened())

    @property
    def said(self) -> Sequence[tuple[str, str]]:
        """Role and text of each turn on the path."""
        return list(self._said())

    def _said(self) -> Iterator[tuple[str, str]]:
        for turn in self.conversation.path:
            yield turn.role, turn.text

    @property
    def is_waiting(self) -> bool:
        """Whether the last turn is a question or a reply that still grows."""
        tip = self.conversation.tip
        return tip.role == "user" or (tip.reply is not None and tip.reply.is_streaming)
