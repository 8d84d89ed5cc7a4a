"""A set of prompts run at every checkpoint of a run, or scored by A and B: the table, the replies, progress, cancel."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from tui_trainer.errors import CancelledError, WorkbenchError
from tui_trainer.text import safe, safe_line
from tui_trainer.tui import format as fmt
from tui_trainer.tui.chat.measures import Measured, measure
from tui_trainer.tui.feeds.chat import ChatFeed
from tui_trainer.tui.feeds.dataset import progress_text
from tui_trainer.tui.widgets.cursor_list import CursorList, Heading
from tui_trainer.tui.widgets.measure_table import MeasureTable, ScoreTable

_REFRESH_SECONDS = 0.2
_MOST_TEXT = 600

Prompt = Mapping[str, Any]


class MeasureSheet(ModalScreen[None]):
    """A table that fills while the worker is at it.

    Args:
        title: what is measured.
        prompts: the set, as the worker read it.
        request: further parameters of the worker.
        models: the slots.
    """

    method: ClassVar[str]

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "leave", "Stop, close", id="measure-close", tooltip="Stop measuring; then close"),
        Binding("y", "copy", "Copy", id="measure-copy", tooltip="Copy the table, columns separated by tabs"),
    ]
    DEFAULT_CSS = """
    MeasureSheet {
        align: center middle;
        & > Vertical {
            width: 98%; height: 94%; background: $background; border: round $primary; border-title-color: $primary;
        }
        & CursorList { height: 1fr; min-height: 4; }
        & #measure-replies { height: 2fr; border-top: solid $border; padding: 0 1; scrollbar-size-vertical: 1; }
        & #measure-replies > Static { width: 100%; height: auto; }
        & #measure-status { height: auto; background: $surface; }
    }
    """

    def __init__(self, title: str, prompts: Sequence[Prompt], request: Mapping[str, Any], models: ChatFeed) -> None:
        super().__init__()
        self.prompts = prompts
        self.rows: list[Mapping[str, Any]] = []
        self._title, self._request, self._models = title, request, models
        self._is_measuring = False
        self._next_draw = 0.0

    def compose(self) -> ComposeResult:
        """The table, what belongs to the line under the cursor, how far it is."""
        with Vertical() as box:
            box.border_title = Content(safe(self._title))
            box.border_subtitle = "esc stops, then closes · y copies"
            table = self.table()
            yield Heading(table)
            yield table
            yield VerticalScroll(Static("", markup=False), id="measure-replies")
            yield Static("", id="measure-status", markup=False)

    def table(self) -> CursorList:
        """The table to fill."""
        raise NotImplementedError

    def draw(self) -> None:
        """Show the rows that are there."""
        raise NotImplementedError

    def finished(self, answer: Mapping[str, Any]) -> str:
        """Take over the worker's result; returns what stands below the table."""
        raise NotImplementedError

    def lines(self) -> Iterator[Sequence[Any]]:
        """The table as columns, its heading first."""
        raise NotImplementedError

    def on_mount(self) -> None:
        """Begin."""
        self._measure()

    @work(group="measure", exclusive=True, exit_on_error=False)
    async def _measure(self) -> None:
        self._is_measuring = True
        began = time.monotonic()
        self.status("beginning …")
        request = {"prompts": list(self.prompts), **self._request}
        try:
            answer = await self._models.call(self.method, request, self._take)
            words = self.finished(answer)
            self.status(f"{words} · {fmt.duration(time.monotonic() - began)}")
        except CancelledError:
            self.status("stopped")
        except WorkbenchError as error:
            self.status(str(error))
        finally:
            self._is_measuring = False
        self.draw()

    def _take(self, item: Any) -> None:
        if not isinstance(item, Mapping):
            return
        if isinstance(item.get("row"), Mapping):
            self.rows.append(item["row"])
            if time.monotonic() >= self._next_draw:
                self._next_draw = time.monotonic() + _REFRESH_SECONDS
                self.draw()
        else:
            self.status(f"{progress_text(dict(item))} · {len(self.rows)} replies · esc stops")

    def status(self, text: str) -> None:
        """Say how far it is."""
        self.query_one("#measure-status", Static).update(Content(f" {safe_line(text)}"))

    def show_below(self, content: Content) -> None:
        """Show what belongs to the line under the cursor."""
        self.query_one("#measure-replies Static", Static).update(content)

    @on(CursorList.Highlighted)
    def _moved(self, message: CursorList.Highlighted) -> None:
        message.stop()
        self.draw()

    def action_leave(self) -> None:
        """Stop; what came stays to be looked at. Close when nothing is going on."""
        if self._is_measuring:
            self.workers.cancel_group(self, "measure")
            self._is_measuring = False
            self.status(f"stopped by you after {len(self.rows)} replies")
            self.draw()
        else:
            self.dismiss(None)

    def action_copy(self) -> None:
        """Copy the table."""
        self.app.copy_to_clipboard("\n".join("\t".join(map(str, line)) for line in self.lines()))
        self.notify("copied the table", markup=False)


class PromptSet(MeasureSheet):
    """Each prompt answered by each model."""

    method = "prompt_set"

    def table(self) -> CursorList:
        """A line a model."""
        return MeasureTable(id="measure-table")

    def draw(self) -> None:
        """The models so far, and the replies of the one under the cursor."""
        table = self.query_one(MeasureTable)
        table.show(measure(self.rows))
        current = table.measured
        if current is not None:
            own = [row for row in self.rows if row.get("model") == current.model]
            self.show_below(Content("\n").join(line for row in own for line in self._reply_lines(row)))

    def _reply_lines(self, row: Mapping[str, Any]) -> Iterator[Content]:
        number = int(row.get("prompt") or 0)
        prompt = self.prompts[number] if number < len(self.prompts) else {}
        verdicts = [
            ("✔ " if row[name] else "✘ ") + name for name in ("exact", "regex") if isinstance(row.get(name), bool)
        ]
        flags = [*verdicts, *(["repeats itself"] if row.get("repeats") else [])]
        is_bad = "✘" in "".join(flags) or bool(row.get("repeats"))
        yield Content.assemble(
            (f"{number + 1} ", "$text-disabled"),
            (safe_line(prompt_text(prompt)), "bold $primary"),
            (f"  {' · '.join(flags)}", "$error" if is_bad else "$success"),
        )
        text = str(row.get("text") or "")
        yield Content(safe(text[:_MOST_TEXT]) + ("…" if len(text) > _MOST_TEXT else ""))
        yield Content.styled(f"{row.get('finish_reason')} · {row.get('num_tokens')} tokens\n", "$text-disabled")

    def finished(self, answer: Mapping[str, Any]) -> str:
        """All rows at once, in case some came without being told of."""
        self.rows = list(answer.get("rows") or self.rows)
        models, prompts = len(measure(self.rows)), len(self.prompts)
        return f"{models} model{'s' * (models != 1)}, {prompts} prompt{'s' * (prompts != 1)}"

    def lines(self) -> Iterator[Sequence[Any]]:
        """A line a model."""
        yield [column.name for column in fields(Measured)]
        for line in measure(self.rows):
            yield ["" if value is None else value for value in vars(line).values()]


class ScoreSheet(MeasureSheet):
    """Each prompt's reply as probable as A and B find it."""

    method = "score"

    def table(self) -> CursorList:
        """A line a prompt."""
        return ScoreTable(id="measure-table")

    def draw(self) -> None:
        """The prompts so far, and the whole text of the one under the cursor."""
        table = self.query_one(ScoreTable)
        table.show(self.rows)
        if table.cursor < len(self.rows):
            self.show_below(Content(safe(str(self.rows[table.cursor].get("text") or ""))))

    def finished(self, answer: Mapping[str, Any]) -> str:
        """The rows, and the whole in words."""
        self.rows = list(answer.get("rows") or self.rows)
        words = [f"{fmt.count(answer.get('num_tokens') or 0)} tokens"]
        for slot in ("a", "b"):
            whole = answer.get(slot)
            if isinstance(whole, Mapping):
                bits = whole.get("bits_per_token")
                figures = f"{fmt.metric(whole.get('perplexity'))}, {fmt.metric(bits)} bits a token"
                words.append(f"perplexity {slot.upper()} {figures}")
        if answer.get("kl") is not None:
            words.append(f"KL of B against A {fmt.metric(answer['kl'])} nats a token")
        return " · ".join(words)

    def lines(self) -> Iterator[Sequence[Any]]:
        """A line a prompt."""
        yield ["num_tokens", "a", "b", "kl", "text"]
        for row in self.rows:
            yield [row.get("num_tokens"), row.get("a"), row.get("b"), row.get("kl"), repr(row.get("text"))]


def prompt_text(prompt: Prompt) -> str:
    """What a prompt of a set asks."""
    if prompt.get("prompt") is not None:
        return str(prompt["prompt"])
    messages = prompt.get("messages") or [{}]
    return str(messages[-1].get("content") or "")
