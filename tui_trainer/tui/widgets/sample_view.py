"""One row in several views: its turns, its tokens with the mask, a grid, the batch, the record, the statistics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget
from textual.widgets import ContentSwitcher, Static

from tui_trainer.text import safe, safe_line
from tui_trainer.tui.widgets.cursor_list import CursorList, Heading
from tui_trainer.tui.widgets.length_chart import LengthChart
from tui_trainer.tui.widgets.sample import IGNORED_LABEL, Sample
from tui_trainer.tui.widgets.token_flow import TokenFlow
from tui_trainer.tui.widgets.token_grid import BatchGrid, TokenGrid

VIEWS = ("messages", "tokens", "grid", "batch", "record", "stats")
_MOST_TEXT = 20_000

_ROLE_STYLES = {"system": "$warning", "user": "$primary", "assistant": "$success", "tool": "$secondary"}


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
    """Shows a row; `action_view` changes how."""

    DEFAULT_CSS = """
    SampleView {
        height: 1fr;
        & ContentSwitcher { height: 1fr; }
        & ContentSwitcher > * { height: 1fr; }
        & .sample--status { height: 1; color: $text-muted; background: $surface; }
        & VerticalScroll { scrollbar-size-vertical: 1; }
        & VerticalScroll > Static { width: 100%; height: auto; }
    }
    """

    class ViewChanged(Message):
        """Another view is shown."""

        def __init__(self, view: str) -> None:
            super().__init__()
            self.view = view

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.sample: Sample | None = None
        self.view = "tokens"

    def compose(self) -> ComposeResult:
        """The tab strip, the views, the status of what is under the cursor."""
        yield TabStrip(VIEWS)
        with ContentSwitcher(initial="view-tokens"):
            yield VerticalScroll(Static(id="turns", markup=False), id="view-messages")
            yield TokenFlow(id="view-tokens")
            grid, batch = TokenGrid(id="grid"), BatchGrid(id="batch")
            yield Vertical(Heading(grid), grid, id="view-grid")
            yield Vertical(Heading(batch), batch, id="view-batch")
            yield VerticalScroll(Static(id="record", markup=False), id="view-record")
            yield LengthChart(id="view-stats")
        yield Static("", classes="sample--status", markup=False)

    def show(self, sample: Sample | None, problem: str = "") -> None:
        """Show a row, or why it cannot be shown."""
        self.sample = sample
        self.query_one(TokenFlow).show(sample)
        self.query_one(TokenGrid).show(sample)
        self.query_one("#turns", Static).update(Content("\n").join(_turn_lines(sample, problem)))
        record = sample.record if sample else ""
        self.query_one("#record", Static).update(Content(_cut(record)))
        self.query_one(TabStrip).note = self._summary(problem)
        self._show_token(self.query_one(TokenFlow).cursor)

    def show_batch(self, batch: dict[str, Any]) -> None:
        """Show the batch that the row is in."""
        self.query_one(BatchGrid).show(batch)
        self.query_one("#view-batch Heading").refresh()

    def _summary(self, problem: str) -> str:
        if self.sample is None:
            return safe_line(problem)
        sample = self.sample
        share = sample.num_trained / max(sample.num_tokens, 1)
        words = [f"{sample.num_tokens} tokens", f"{sample.num_trained} trained ({share:.0%})"]
        if sample.is_truncated:
            words.append("cut")
        words += [code for code, _ in sample.problems]
        return safe_line(" · ".join(words))

    def set_view(self, view: str) -> None:
        """Change to a view by name."""
        self.view = view
        self.query_one(ContentSwitcher).current = f"view-{view}"
        self.query_one(TabStrip).current = view
        self._status("")
        if view in ("tokens", "grid"):
            self._show_token(self.query_one(TokenFlow).cursor)
        self.post_message(self.ViewChanged(view))

    def next_view(self, step: int = 1) -> None:
        """Change to a neighbouring view."""
        had_focus = self.has_focus_within
        self.set_view(VIEWS[(VIEWS.index(self.view) + step) % len(VIEWS)])
        if had_focus:
            self.focus_view()

    def focus_view(self) -> None:
        """Give the focus to what can have it in the present view."""
        pane = self.query_one(f"#view-{self.view}")
        for widget in (pane, *pane.query("*")):
            if widget.focusable:
                widget.focus()
                return

    def next_change(self, direction: int) -> None:
        """Move to the next change of the mask."""
        if self.view not in ("tokens", "grid"):
            self.set_view("tokens")
        self.query_one(TokenFlow).action_change(direction)
        self.query_one(TokenGrid).move_cursor(self.query_one(TokenFlow).cursor)

    def text_to_copy(self) -> str:
        """What the copy key copies: the record in its view, else the text as trained."""
        if self.sample is None:
            return ""
        return self.sample.record if self.view == "record" else "".join(self.sample.tokens)

    @on(TabStrip.Clicked)
    def _clicked(self, message: TabStrip.Clicked) -> None:
        self.set_view(message.view)

    @on(TokenFlow.Highlighted)
    def _token_highlighted(self, message: TokenFlow.Highlighted) -> None:
        message.stop()
        self._show_token(message.token)

    @on(CursorList.Highlighted)
    def _line_highlighted(self, message: CursorList.Highlighted) -> None:
        if message.control.id == "grid":
            message.stop()
            self._show_token(message.line)

    def _show_token(self, token: int) -> None:
        sample = self.sample
        if sample is None or token >= sample.num_tokens or self.view not in ("tokens", "grid"):
            self._status("")
            return
        label = sample.labels[token] if token < len(sample.labels) else IGNORED_LABEL
        found = sample.turn_of(token)
        turn = f" · turn {found[0]} {found[1].role}" if found else ""
        trained = "trained" if label != IGNORED_LABEL else "not trained"
        text = sample.tokens[token] if token < len(sample.tokens) else ""
        self._status(
            f"token {token} · id {sample.input_ids[token]} · {safe_line(text)!r} · label {label} ({trained}){turn}"
        )

    def _status(self, text: str) -> None:
        self.query_one(".sample--status", Static).update(Content(f" {text}"))


def _cut(text: str) -> str:
    shown = safe(text[:_MOST_TEXT])
    return f"{shown}\n… {len(text) - _MOST_TEXT} more characters" if len(text) > _MOST_TEXT else shown


def _turn_lines(sample: Sample | None, problem: str) -> Iterable[Content]:
    """The turns with their roles, trained ones marked; above them what is wrong with the row."""
    if sample is None:
        yield Content.styled(safe(problem), "$error")
        return
    for code, message in sample.problems:
        yield Content.styled(safe(f"⚑ {code}: {message}" if message else f"⚑ {code}"), "$warning")
    for turn in sample.turns:
        style = _ROLE_STYLES.get(turn.role, "$text-muted")
        count = f"{turn.end - turn.start} tokens"
        mark = ("▌trained ", "bold $success") if turn.is_trained else ("", "")
        yield Content.assemble(
            mark, (safe_line(turn.role or "text"), f"bold {style}"), (f"  {count}", "$text-disabled")
        )
        yield Content.styled(_cut(turn.text), "$text" if turn.is_trained else "$text-muted")
