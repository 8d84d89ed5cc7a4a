"""What the model really sees of a conversation: the prompt's tokens, the mask that training lays over it, parity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import ContentSwitcher, Static

from tui_trainer.errors import WorkbenchError
from tui_trainer.text import safe, safe_line
from tui_trainer.tui.feeds.chat import ChatFeed
from tui_trainer.tui.widgets.reply_tokens import plain_sample
from tui_trainer.tui.widgets.sample import Sample, Turn
from tui_trainer.tui.widgets.sample_view import TabStrip
from tui_trainer.tui.widgets.token_flow import TokenFlow

VIEWS = ("prompt", "training", "parity")
_AROUND = 12
"""Tokens shown before and after the first that differs."""


class Seen(ModalScreen[None]):
    """A sheet with three views of the same messages.

    Args:
        request: the worker's parameters of `render`.
        models: the slots.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss", "Close", id="seen-close", tooltip="Back to the chat"),
        Binding("v,tab", "view(1)", "View", id="seen-view", tooltip="Prompt, training rendering with mask, parity"),
        Binding("V,shift+tab", "view(-1)", "View back", show=False, id="seen-view-back", tooltip="The view before"),
        Binding("y", "copy", "Copy", id="seen-copy", tooltip="Copy the text with its special tokens"),
        Binding("Y", "copy_ids", "Copy ids", id="seen-copy-ids", tooltip="Copy the token ids"),
    ]
    DEFAULT_CSS = """
    Seen {
        align: center middle;
        & > Vertical {
            width: 96%; height: 92%; background: $background; border: round $primary; border-title-color: $primary;
        }
        & ContentSwitcher, & ContentSwitcher > * { height: 1fr; }
        & #seen-status { height: auto; background: $surface; }
        & #seen-parity > Static { width: 100%; height: auto; }
    }
    """

    def __init__(self, request: Mapping[str, Any], models: ChatFeed) -> None:
        super().__init__()
        self._request, self._models = request, models
        self._answer: Mapping[str, Any] = {}
        self._samples: dict[str, Sample] = {}
        self._view = "prompt"

    def compose(self) -> ComposeResult:
        """The names of the views, the views, the token under the cursor."""
        with Vertical() as box:
            box.border_title = "What the model sees"
            box.border_subtitle = "v other view · y copies · esc closes"
            tabs = TabStrip(VIEWS)
            tabs.current = self._view
            yield tabs
            with ContentSwitcher(initial="seen-prompt"):
                yield TokenFlow(id="seen-prompt")
                yield TokenFlow(id="seen-training")
                yield VerticalScroll(Static("", markup=False), id="seen-parity")
            yield Static(" asking …", id="seen-status", markup=False)

    def on_mount(self) -> None:
        """Ask the worker."""
        self.query_one("#seen-prompt").focus()
        self._ask()

    @work(group="render", exclusive=True, exit_on_error=False)
    async def _ask(self) -> None:
        try:
            await self._models.ensure_loaded()
            self._answer = await self._models.call("render", self._request)
        except WorkbenchError as error:
            self._status(str(error))
            return
        training = self._answer.get("training") or {}
        self._samples = {
            "prompt": _sample(self._answer.get("tokens") or ()),
            "training": _sample(training.get("tokens") or ()),
        }
        for view, sample in self._samples.items():
            self.query_one(f"#seen-{view}", TokenFlow).show(sample)
        self.query_one("#seen-parity Static", Static).update(parity_text(self._answer))
        self._show_status()

    def action_view(self, step: int) -> None:
        """Show a neighbouring view."""
        self._set_view(VIEWS[(VIEWS.index(self._view) + step) % len(VIEWS)])

    @on(TabStrip.Clicked)
    def _clicked(self, message: TabStrip.Clicked) -> None:
        self._set_view(message.view)

    def _set_view(self, view: str) -> None:
        self._view = view
        self.query_one(TabStrip).current = view
        self.query_one(ContentSwitcher).current = f"seen-{view}"
        self.query_one(f"#seen-{view}").focus()
        self._show_status()

    @on(TokenFlow.Highlighted)
    def _moved(self, message: TokenFlow.Highlighted) -> None:
        message.stop()
        self._show_status()

    def _show_status(self) -> None:
        sample = self._samples.get(self._view)
        if sample is None:
            self._status(_template_line(self._answer))
            return
        if not sample.num_tokens:
            self._status("there is nothing to show: " + str((self._answer.get("parity") or {}).get("message", "")))
            return
        place = self.query_one(f"#seen-{self._view}", TokenFlow).cursor
        trained = f" · {'trained' if sample.is_trained(place) else 'not trained'}" if self._view == "training" else ""
        whole = f" · {sample.num_trained} trained" if self._view == "training" else ""
        special = " · special" if sample.input_ids[place] in sample.special else ""
        self._status(
            f"token {place + 1}/{sample.num_tokens} · id {sample.input_ids[place]} · {sample.tokens[place]!r}"
            f"{special}{trained}{whole} · {_template_line(self._answer)}"
        )

    def _status(self, text: str) -> None:
        self.query_one("#seen-status", Static).update(Content(f" {safe_line(text)}"))

    def action_copy(self) -> None:
        """Copy the text."""
        self.app.copy_to_clipboard(str(self._answer.get("text") or ""))
        self.notify("copied the text", markup=False)

    def action_copy_ids(self) -> None:
        """Copy the ids of the view, the prompt's in the view of parity."""
        sample = self._samples.get(self._view) or self._samples.get("prompt")
        if sample is not None:
            self.app.copy_to_clipboard(" ".join(map(str, sample.input_ids)))
            self.notify(f"copied {sample.num_tokens} ids", markup=False)


def _sample(tokens: Sequence[Mapping[str, Any]]) -> Sample:
    """Tokens of the worker as a sample whose turns are what is trained and what is not."""
    special = frozenset(int(token["id"]) for token in tokens if token.get("special"))
    texts = [str(token.get("text") or "") for token in tokens]
    turns = []
    for is_trained, places in groupby(range(len(tokens)), lambda place: bool(tokens[place].get("trained"))):
        first, *rest = places
        turns.append(Turn(first, (rest[-1] if rest else first) + 1, is_trained, "", ""))
    plain = plain_sample([int(token["id"]) for token in tokens], texts, special)
    return replace(plain, turns=turns)


def _template_line(answer: Mapping[str, Any]) -> str:
    template = answer.get("template")
    if not isinstance(template, Mapping):
        return "no chat template: plain text"
    kwargs = template.get("kwargs") or {}
    variables = "".join(f" {name}={value}" for name, value in kwargs.items())
    return f"template {template.get('name')} ({template.get('source')}){variables}"


def parity_text(answer: Mapping[str, Any]) -> Content:
    """Whether chat and training give the model the same, and where they part, with the tokens around."""
    parity, training = answer.get("parity") or {}, answer.get("training") or {}
    is_same = bool(parity.get("same"))
    sign, style = ("✔", "bold $success") if is_same else ("✘", "bold $error")
    lines = [Content.assemble((f"{sign} ", style), (safe(str(parity.get("message") or "")), ""))]
    difference = parity.get("first_difference")
    if isinstance(difference, Mapping):
        index = int(difference.get("index") or 0)
        lines.append(Content(""))
        for name, tokens in (("chat", answer.get("tokens") or ()), ("training", training.get("tokens") or ())):
            lines.append(Content.styled(f"{name}, from token {max(index - _AROUND, 0)}", "$text-muted"))
            lines.append(_excerpt(tokens, index))
    lines += [
        Content.styled(safe(f"⚑ {problem.get('code')}: {problem.get('message')}"), "$warning")
        for problem in training.get("problems") or ()
    ]
    lines += [Content(""), Content.styled(safe(_template_line(answer)), "$text-muted")]
    return Content("\n").join(lines)


def _excerpt(tokens: Sequence[Mapping[str, Any]], index: int) -> Content:
    """The tokens around a place, that one reversed, the same as ids below."""
    shown = range(max(index - _AROUND, 0), min(index + _AROUND, len(tokens)))
    marked = "bold reverse $error"
    texts = [(safe_line(str(tokens[at].get("text") or "")) or "·", marked if at == index else "") for at in shown]
    ids = [(f"{tokens[at].get('id')} ", marked if at == index else "$text-disabled") for at in shown]
    if index >= len(tokens):
        texts.append(("(nothing)", marked))
    return Content.assemble(*texts, "\n", *ids, "\n")
