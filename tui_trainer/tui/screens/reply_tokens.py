"""The tokens of one reply: how probable each was, what both models think, what else could have stood there."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Any, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from tui_trainer.errors import WorkbenchError
from tui_trainer.text import safe, safe_line
from tui_trainer.tui import format as fmt
from tui_trainer.tui.chat.asking import take_scores
from tui_trainer.tui.chat.colours import DIFFERENCE, LOGPROB, PLAIN, band_of, next_mode
from tui_trainer.tui.chat.reply import Opening, Reply, Token
from tui_trainer.tui.chat.tree import resampled
from tui_trainer.tui.feeds.chat import ChatFeed
from tui_trainer.tui.widgets.cursor_list import CursorList, Heading
from tui_trainer.tui.widgets.reply_tokens import AlternativeList, ReplyFlow, plain_sample
from tui_trainer.tui.widgets.token_flow import TokenFlow
from tui_trainer.tui.widgets.turn_text import legend_text

_PAUSE_SECONDS = 0.1
_NUM_ALTERNATIVES = 30
_NO_ID = -1


class ReplyTokens(ModalScreen[Opening | None]):
    """Returns what a varied reply begins with, None when it was left.

    Args:
        reply: the reply.
        prompt: the worker's parameters for what the model was given before it.
        params: the knobs.
        models: the two slots.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "leave", "Close", id="tokens-close", tooltip="Back to the tokens, then to the chat"),
        Binding("v", "colour", "Colour", id="tokens-colour", tooltip="Colour by log-probability, rank, B against A"),
        Binding("enter", "take", "Take", id="tokens-take", tooltip="Go on from here with the chosen token"),
        Binding("n", "unlikely(1)", "Next unlikely", id="tokens-next", tooltip="To the next token that stands out"),
        Binding("N", "unlikely(-1)", "Previous", id="tokens-previous", tooltip="To the last token that stands out"),
    ]
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-wide")]  # noqa: RUF012 - Textual declares it so
    DEFAULT_CSS = """
    ReplyTokens {
        align: center middle;
        & > Vertical { width: 100%; height: 100%; background: $background; }
        & #flow-box { width: 1fr; border: round $border; padding: 0 1; border-title-color: $primary; }
        & #alternatives-box { width: 1fr; border: round $border; border-title-color: $primary; }
        & #flow-box:focus-within, & #alternatives-box:focus-within { border: round $primary; }
        & #token-status, & #token-legend { height: 1; background: $surface; }
        & #panes { height: 1fr; layout: vertical; }
        &.-wide #panes { layout: horizontal; }
        &.-wide #alternatives-box { width: 52; }
    }
    """

    def __init__(self, reply: Reply, prompt: Mapping[str, Any], params: Mapping[str, Any], models: ChatFeed) -> None:
        super().__init__()
        self._reply, self._prompt, self._params, self._models = reply, prompt, params, models
        self._mode = DIFFERENCE if models.has_other else LOGPROB
        self._scored: list[Mapping[str, Any]] = []

    def compose(self) -> ComposeResult:
        """The flow of tokens, the alternatives at the cursor, the figures of the token."""
        with Vertical():
            with Container(id="panes"):
                with Vertical(id="flow-box") as box:
                    box.border_title = Content(safe(f"Tokens of the reply by {self._reply.model}"))
                    box.border_subtitle = "v colours · n next that stands out · enter alternatives"
                    yield ReplyFlow(id="flow")
                with Vertical(id="alternatives-box") as box:
                    box.border_title = "What could stand there"
                    box.border_subtitle = "enter goes on from here with it"
                    listing = AlternativeList(id="alternatives")
                    yield Heading(listing)
                    yield listing
            yield Static("", id="token-legend", markup=False)
            yield Static("", id="token-status", markup=False)

    def on_mount(self) -> None:
        """Show what is known already, then ask for the rest."""
        self._show_tokens()
        self.query_one("#flow").focus()
        self._score()

    def _show_tokens(self) -> None:
        tokens = self._reply.all_tokens
        ids = [_NO_ID if token.id is None else token.id for token in tokens]
        self.query_one(ReplyFlow).show(plain_sample(ids, [token.visible for token in tokens]))
        self._draw()

    def _draw(self) -> None:
        bands = [
            band_of(self._mode, token.logprob, token.rank, self._difference(place))
            for place, token in enumerate(self._reply.all_tokens)
        ]
        self.query_one(ReplyFlow).show_bands(bands)
        legend = legend_text(self._mode) if self._mode != PLAIN else Content(" v colours the tokens")
        self.query_one("#token-legend", Static).update(legend)
        self._show_status()

    def _difference(self, place: int) -> float | None:
        return self._reply.differences[place] if place < len(self._reply.differences) else None

    @work(group="tokens", exclusive=True, exit_on_error=False)
    async def _score(self) -> None:
        """What the models think of the reply: for the difference, and for what was not generated but typed."""
        if self._is_of_server:
            self._look_up()
            return
        self._status("asking what the models think of it …")
        try:
            answer = await self._models.call("tokens", {**self._prompt, "reply_ids": self._reply.ids, "top": 0})
        except WorkbenchError as error:
            self._status(str(error))
        else:
            take_scores(self._reply, answer)
            self._scored = list(answer.get("tokens") or ())
            self._show_tokens()
        self._look_up()

    # The token under the cursor

    @on(TokenFlow.Highlighted)
    def _moved(self, message: TokenFlow.Highlighted) -> None:
        message.stop()
        self._show_status()
        self._look_up()

    def _show_status(self) -> None:
        tokens, place = self._reply.all_tokens, self.query_one(ReplyFlow).cursor
        if place >= len(tokens):
            self._status("the reply has no token")
            return
        token = tokens[place]
        token_id = "no id" if token.id is None else f"id {token.id}"
        words = [f"token {place + 1}/{len(tokens)}", token_id, repr(safe_line(token.visible))]
        if token.logprob is not None:
            words.append(f"log-probability {token.logprob:.2f}")
        if token.rank is not None:
            words.append(f"rank {fmt.count(token.rank)}")
        scores = self._scored[place] if place < len(self._scored) else {}
        sides = [(slot, scores.get(slot)) for slot in ("a", "b")] if self._models.has_other else []
        words += [f"{slot.upper()} {side['logprob']:.2f} (rank {side.get('rank')})" for slot, side in sides if side]
        if isinstance(kl := scores.get("kl"), (int, float)):
            words.append(f"KL {fmt.metric(kl)}")
        self._status(" · ".join(words))

    def _status(self, text: str) -> None:
        self.query_one("#token-status", Static).update(Content(f" {safe_line(text)}"))

    @work(group="alternatives", exclusive=True, exit_on_error=False)
    async def _look_up(self) -> None:
        """Ask what could stand at the cursor, once it rests."""
        await asyncio.sleep(_PAUSE_SECONDS)
        place = self.query_one(ReplyFlow).cursor
        if place >= len(self._reply.all_tokens):
            return
        if self._is_of_server:
            self._show_told(self._reply.all_tokens[place])
            return
        ids = self._reply.ids
        params = {key: value for key, value in self._params.items() if key not in ("n", "best_of")}
        request = {**self._prompt, "reply_ids": ids, "position": place, "top": _NUM_ALTERNATIVES, "params": params}
        try:
            answer = await self._models.call("alternatives", request)
        except WorkbenchError as error:
            self._status(str(error))
            return
        self.query_one(AlternativeList).show(answer)
        self.query_one(Heading).refresh()

    @property
    def _is_of_server(self) -> bool:
        return self._models.slot(self._reply.slot).about.get("kind") == "server"

    def _show_told(self, token: Token) -> None:
        """What a server sent along with a token; it cannot be asked again about one."""
        rows = [
            {**one, "rank": rank, "probability": math.exp(min(one["logprob"], 0.0))}
            for rank, one in enumerate(token.top, start=1)
        ]
        chosen = next((row["id"] for row in rows if row["text"] == token.text), token.id)
        self.query_one(AlternativeList).show({"a": rows, "chosen": chosen})
        self.query_one(Heading).refresh()
        if not rows:
            self._status("a server tells what else could stand there while it answers: set the knob logprobs to 5")

    # Keys

    def action_leave(self) -> None:
        """From the alternatives back to the tokens, from there back to the chat."""
        if self.query_one(AlternativeList).has_focus:
            self.query_one(ReplyFlow).focus()
        else:
            self.dismiss(None)

    def action_colour(self) -> None:
        """Colour the tokens another way."""
        self._mode = next_mode(self._mode, has_other=self._models.has_other)
        self._draw()

    def action_unlikely(self, direction: int) -> None:
        """To the next token that is not in the mode's usual band."""
        flow, tokens = self.query_one(ReplyFlow), self._reply.all_tokens
        places = range(flow.cursor + direction, len(tokens) if direction > 0 else -1, direction)
        for place in places:
            token = tokens[place]
            mode = self._mode if self._mode != PLAIN else LOGPROB
            band = band_of(mode, token.logprob, token.rank, self._difference(place))
            if {"underline", "reverse"} & set(band.style.split()):
                flow.move_cursor(place)
                return

    def action_take(self) -> None:
        """To the alternatives; from there go on with the one under the cursor."""
        self.query_one(AlternativeList).focus()

    @on(CursorList.Chosen, "#alternatives")
    def _chosen(self, message: CursorList.Chosen) -> None:
        message.stop()
        row = self.query_one(AlternativeList).row
        if self._is_of_server:
            self._status("a server cannot be made to go on from another token")
        elif row is not None and len(self._reply.all_tokens) == len(self._reply.ids):
            place = self.query_one(ReplyFlow).cursor
            self.dismiss(resampled(self._reply, place, int(row["id"]), str(row.get("text") or "")))
