"""One row in several views: its turns, its tokens with the mask, a grid, the batch, the record, the statistics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget
from textual.widgets import ContentSwitcher, Static

from tui_trainer.text import safe_line
from tui_trainer.tui import format as fmt
from tui_trainer.tui.widgets.batch_grid import BatchGrid, BatchMap
from tui_trainer.tui.widgets.cursor_list import CursorList, Heading
from tui_trainer.tui.widgets.length_chart import LengthChart
from tui_trainer.tui.widgets.sample import Sample, Turn
from tui_trainer.tui.widgets.scrolling import show_line
from tui_trainer.tui.widgets.text_pane import Block, TextPane
from tui_trainer.tui.widgets.token_flow import TokenFlow
from tui_trainer.tui.widgets.token_grid import TokenGrid

VIEWS = ("messages", "tokens", "grid", "batch", "record", "stats")

_MOST_TEXT = 40
"""Characters of a token in the status line."""

_ROLE_STYLES = {"system": "text--system", "user": "text--user", "assistant": "text--trained-head", "tool": "text--tool"}


class TabStrip(Widget):
    """The names of the views, the present one marked."""

    DEFAULT_CSS = "TabStrip { height: 1; background: $surface; }"
    current: reactive[str] = reactive("tokens")
    note: reactive[str] = reactive("")

    class Clicked(Message):
        """A name was clicked."""

        def __init__(self, view: str) -> None:
            super().__init__()
            self.view = view

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self._names = names

    def render(self) -> Content:
        """The names at the left, the note at the right."""
        parts: list[tuple[str, str]] = []
        for name in self._names:
            style = "bold $background on $secondary" if name == self.current else "$text-muted"
            parts.append((f" {name} ", style))
        names = Content.assemble(*parts)
        room = self.size.width - names.cell_length - 1
        note = Content.styled(self.note, "$text-muted").truncate(max(room, 0), ellipsis=True)
        return Content.assemble(names, " " * max(room - note.cell_length, 0), note)

    def on_click(self, event: Any) -> None:
        """Change to the view whose name was clicked."""
        left = 0
        for name in self._names:
            left += len(name) + 2
            if event.x < left:
                self.post_message(self.Clicked(name))
                return


class SampleView(Vertical):
    """Shows a row; `next_view` changes how."""

    DEFAULT_CSS = """
    SampleView {
        height: 1fr;
        & ContentSwitcher { height: 1fr; }
        & ContentSwitcher > * { height: 1fr; }
        & .sample--status { height: 1; color: $text-muted; background: $surface; }
    }
    """

    class ViewChanged(Message):
        """Another view is shown."""

        def __init__(self, view: str) -> None:
            super().__init__()
            self.view = view

    class TokensNeeded(Message):
        """Tokens of the row, or of a piece of it, are looked at that are not there, around this one."""

        def __init__(self, row: int, piece: int, token: int) -> None:
            super().__init__()
            self.row, self.piece, self.token = row, piece, token

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.sample: Sample | None = None
        self.view = "tokens"
        self._problem = ""

    def compose(self) -> ComposeResult:
        """The tab strip, the views, the status of what is under the cursor."""
        yield TabStrip(VIEWS)
        with ContentSwitcher(initial="view-tokens"):
            yield TextPane(id="view-messages")
            yield TokenFlow(id="view-tokens")
            grid, batch = TokenGrid(id="grid"), BatchGrid(id="batch")
            yield Vertical(Heading(grid), grid, id="view-grid")
            yield Vertical(BatchMap(batch), Heading(batch), batch, id="view-batch")
            yield TextPane(id="view-record")
            yield LengthChart(id="view-stats")
        yield Static("", classes="sample--status", markup=False)

    def show(self, sample: Sample | None, problem: str = "") -> None:
        """Show a row, or why it cannot be shown."""
        self.sample, self._problem = sample, problem
        flow = self.query_one(TokenFlow)
        flow.show(sample)
        self.query_one(TokenGrid).show(sample, flow.cursor)
        self._show_pane()
        self.query_one(TabStrip).note = self._summary(problem)
        self._show_status()

    @property
    def _pane(self) -> str:
        """The view that is on the screen: of a row without tokens it is what is wrong with it, not an empty space."""
        is_empty = self._problem if self.sample is None else not self.sample.num_tokens
        return "messages" if is_empty and self.view in ("tokens", "grid") else self.view

    def _show_pane(self) -> None:
        switcher, pane = self.query_one(ContentSwitcher), f"view-{self._pane}"
        if switcher.current != pane:
            had_focus = self.has_focus_within
            switcher.current = pane
            if had_focus:
                self.focus_view()
        self._show_text()

    def _show_text(self) -> None:
        """Show turns or record if that is on the screen: wrapping the text of rows takes long."""
        if self._pane == "messages":
            self.query_one("#view-messages", TextPane).show(list(_turn_blocks(self.sample, self._problem)))
        elif self.view == "record":
            self.query_one("#view-record", TextPane).show(list(_record_blocks(self.sample)))

    def take_window(self, answer: dict[str, Any]) -> None:
        """Take in further tokens of the row that is shown."""
        if self.sample is not None:
            self.sample = self.sample.with_window(answer)
            self.query_one(TokenFlow).take_window(self.sample)
            self.query_one(TokenGrid).take_window(self.sample)
            self._show_status()

    def show_batch(self, batch: dict[str, Any]) -> None:
        """Show the batch that the row is in."""
        self.query_one(BatchGrid).show(batch)
        self.query_one(BatchMap).refresh(layout=True)
        self.query_one("#view-batch Heading").refresh()
        self._show_status()

    def _summary(self, problem: str) -> str:
        if self.sample is None:
            return safe_line(problem)
        sample = self.sample
        share = sample.num_trained / max(sample.num_tokens, 1)
        words = [f"{fmt.count(sample.num_tokens)} tokens", f"{fmt.count(sample.num_trained)} trained ({share:.0%})"]
        if not sample.is_usable:
            words.insert(0, "✘ left out")
        if sample.is_truncated:
            words.append(f"cut from {fmt.count(sample.num_tokens_before)}")
        if sample.num_pieces > 1:
            words.insert(0, f"piece {fmt.count(sample.piece + 1)} of {fmt.count(sample.num_pieces)}")
        words += dict.fromkeys(problem.code for problem in sample.problems)
        return safe_line(" · ".join(words))

    def set_view(self, view: str) -> None:
        """Change to a view by name; the focus stays inside if it was there."""
        self.view = view
        self.query_one(TabStrip).current = view
        self._show_pane()
        self._show_status()
        self.post_message(self.ViewChanged(view))

    def next_view(self, step: int = 1) -> None:
        """Change to a neighbouring view."""
        self.set_view(VIEWS[(VIEWS.index(self.view) + step) % len(VIEWS)])

    def focus_view(self) -> None:
        """Give the focus to what can have it in the present view."""
        pane = self.query_one(f"#view-{self._pane}")
        for widget in (pane, *pane.query("*")):
            if widget.focusable:
                widget.focus()
                return

    def next_change(self, direction: int) -> None:
        """Move to the next change of the mask."""
        self._in_tokens()
        self.query_one(TokenFlow).action_change(direction)

    def go_to_difference(self) -> bool:
        """Move to the first token that differs from what a chat feeds; whether there is one."""
        if self.sample is None or self.sample.first_difference() is None:
            return False
        self._in_tokens()
        self.query_one(TokenFlow).action_difference()
        return True

    def _in_tokens(self) -> None:
        if self.view not in ("tokens", "grid"):
            self.set_view("tokens")

    @property
    def copied(self) -> str:
        """What the copy key copies in the present view: the text, the record, or the ids."""
        return {"record": "record", "grid": "ids"}.get(self.view, "text")

    @on(TabStrip.Clicked)
    def _clicked(self, message: TabStrip.Clicked) -> None:
        self.set_view(message.view)

    @on(TokenFlow.WindowNeeded)
    @on(TokenGrid.WindowNeeded)
    def _window_needed(self, message: TokenFlow.WindowNeeded | TokenGrid.WindowNeeded) -> None:
        message.stop()
        self._show_status()
        if self.sample is not None:
            self.post_message(self.TokensNeeded(self.sample.row, self.sample.piece, message.token))

    @on(TokenFlow.Highlighted)
    def _token_highlighted(self, message: TokenFlow.Highlighted) -> None:
        message.stop()
        grid = self.query_one(TokenGrid)
        if grid.cursor != message.token:
            grid.move_cursor(message.token)
        self._show_status()

    @on(CursorList.Highlighted)
    def _line_highlighted(self, message: CursorList.Highlighted) -> None:
        if message.control.id == "grid":
            message.stop()
            flow = self.query_one(TokenFlow)
            if flow.cursor != message.line:
                flow.move_cursor(message.line)
            self._show_status()
        elif message.control.id == "batch":
            message.stop()
            self.query_one("#view-batch Heading").refresh()
            self._show_status()

    def _show_status(self) -> None:
        text = ""
        if self.view == "batch":
            text = self.query_one(BatchGrid).status()
        elif self.view == "stats":
            text = "[ and ] move the cutoff · enter in this pane makes it max_length"
        elif self._pane in ("tokens", "grid") and self.sample is not None and self.sample.num_tokens:
            text = token_status(self.sample, self.query_one(TokenFlow).cursor)
        elif self._pane in ("messages", "record") and self.sample is not None:
            text = self.sample.where
        show_line(self.query_one(".sample--status", Static), Content(safe_line(f" {text}")))


def token_status(sample: Sample, token: int) -> str:
    """All that is known of a token."""
    if not sample.is_known(token):
        return f"token {fmt.count(token)} of {fmt.count(sample.num_tokens)} …"
    weight = sample.weight(token)
    trained = "trained" if weight == 1 else f"trained, weight {weight:g}" if weight else "not trained"
    text = repr(sample.text_of(token))
    words = [
        f"token {token}",
        f"id {sample.id_of(token)}",
        text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}…",
    ]
    words.append(f"label {sample.label_of(token)} ({trained})")
    if sample.is_added(token):
        words.append("added by the template")
    elif found := sample.turn_of(token):
        words.append(f"turn {found[0]} {found[1].role}")
    difference = sample.first_difference()
    if difference is not None and difference.token == token:
        words.insert(0, f"≠ {difference.message}")
    return " · ".join(words)


def _turn_blocks(sample: Sample | None, problem: str) -> Iterator[Block]:
    """The turns with their roles, trained ones marked; above them what is wrong with the row."""
    if sample is None:
        yield problem, "text--warn"
        return
    for found in sample.problems:
        yield f"⚑ {found.code}: {found.message}" if found.message else f"⚑ {found.code}", "text--warn"
    for turn in sample.turns:
        yield from _one_turn(sample, turn)


def _one_turn(sample: Sample, turn: Turn) -> Iterator[Block]:
    is_added = any(start < turn.end and turn.start < end for start, end in sample.added)
    num_tokens = turn.end - turn.start
    words = [turn.role or "text", "1 token" if num_tokens == 1 else f"{fmt.count(num_tokens)} tokens"]
    if turn.is_trained:
        words.insert(0, "▌trained" if turn.weight == 1 else f"▌trained x{turn.weight:g}")
    if is_added:
        words.append("text that the template adds by itself")
    style = "text--warn" if is_added else _ROLE_STYLES.get(turn.role, "text--muted")
    yield "  ".join(words), style
    text_style = "text--trained" if turn.is_trained else "text--warn" if is_added else ""
    yield turn.text, text_style or ("text--muted" if turn.role == "template" else "")
    if len(turn.text) < turn.num_characters:
        rest = fmt.count(turn.num_characters - len(turn.text))
        yield f"… {rest} more characters; the tokens show them all", "text--muted"


def _record_blocks(sample: Sample | None) -> Iterator[Block]:
    if sample is None:
        return
    yield sample.record, ""
    if len(sample.record) < sample.record_characters:
        yield (
            f"… {fmt.count(sample.record_characters - len(sample.record))} more characters; y copies all",
            "text--muted",
        )
