"""Screen 4: talk to one model or to two at once, see every token, and what training changed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widget import Widget
from textual.widgets import Static

from tui_trainer.errors import WorkbenchError
from tui_trainer.tui.chat.asking import take_scores
from tui_trainer.tui.chat.colours import DIFFERENCE, PLAIN, next_mode
from tui_trainer.tui.chat.tree import Turn
from tui_trainer.tui.screens.chat_talk import TalkScreen
from tui_trainer.tui.widgets.knob_list import KnobList
from tui_trainer.tui.widgets.prompt_line import PromptLine
from tui_trainer.tui.widgets.transcript import Transcript
from tui_trainer.tui.widgets.turn_text import legend_text


class ChatScreen(TalkScreen):
    """A transcript, a line to type in, the knobs."""

    CSS_PATH = "chat.tcss"
    mode = "chat"
    help_text = (
        "Chat: talk to a checkpoint, an adapter or any other model; O puts a second one beside it. Type and press "
        "enter; esc stops an answer, or leaves the line so that the keys below work. Retry, edit and continue grow "
        "branches: up and down select a turn, left and right go to the branch beside it, nothing is lost. "
        "v colours tokens by log-probability, by rank, by what B thinks against A; t or enter opens the tokens. "
        "The knobs have vLLM's names: ◈ the model asks for it, ◆ its run, ◇ a preset, ● you."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("v", "colour", "Colour", id="chat-colour", tooltip="Colour tokens: log-probability, rank, B against A"),
        Binding("x", "fold", "Unfold", show=False, id="chat-fold", tooltip="Show or fold the thinking"),
        Binding("y", "copy", "Copy", show=False, id="chat-copy", tooltip="Copy the selected turn"),
    ]

    def compose_body(self) -> Iterable[Widget]:
        """Model lines, transcript and line at the left, knobs at the right."""
        with Horizontal(id="body"):
            with Vertical(id="talk"):
                yield Static("", id="model-a", classes="model", markup=False)
                yield Static("", id="model-b", classes="model", markup=False)
                yield Transcript(id="transcript")
                yield Static("", id="legend", markup=False)
                yield PromptLine("say something; enter sends, ctrl+j begins a line, esc leaves", id="line")
            with Vertical(id="panel") as panel:
                panel.border_title = "Knobs"
                yield KnobList(id="knobs")
                yield Static("", id="about-knob", markup=False)

    def on_mount(self) -> None:
        """Begin at the line."""
        super().on_mount()
        self.query_one("#legend").display = False
        self.line.focus()

    def main_pane(self) -> Widget:
        """The transcript."""
        return self.query_one("#transcript")

    def models_loaded(self) -> None:
        """With other models the difference is another one."""
        super().models_loaded()
        for _, turn in self.conversation.walk():
            if turn.reply is not None:
                turn.reply.differences, turn.reply.judged = (), ""
        if self.transcript.mode == DIFFERENCE and not self.models.has_other:
            self._colour(PLAIN)
        self._score()

    def answered(self) -> None:
        """Judge the new answer too, if differences are shown."""
        self._score()

    # How tokens look

    def action_colour(self) -> None:
        """Colour tokens another way."""
        self._colour(next_mode(self.transcript.mode, has_other=self.models.has_other))
        if self.transcript.mode == PLAIN and not self.models.has_other:
            self.say("with a second model (O) the difference can be shown too")

    def _colour(self, mode: str) -> None:
        self.transcript.mode = mode
        line = self.query_one("#legend", Static)
        line.display = mode != PLAIN
        line.update(legend_text(mode))
        self.transcript.redraw()
        self._score()

    @work(group="score", exclusive=True, exit_on_error=False)
    async def _score(self) -> None:
        """Ask both models about every reply on the path that they were not asked about."""
        if self.transcript.mode != DIFFERENCE or not self.models.has_other:
            return
        for turn in self.conversation.path:
            reply = turn.reply
            if reply is None or reply.is_streaming or reply.is_failed or reply.differences:
                continue
            try:
                await self.models.ensure_loaded()
                await self._score_turn(turn)
            except WorkbenchError as error:
                self.say(str(error), problem=True)
                return

    async def _score_turn(self, turn: Turn) -> None:
        question, manner = self.conversation.question_of(turn), self.manner()
        if question is None:
            return
        for one in turn.together:
            if one.reply is not None and not one.reply.is_failed:
                request = {**manner.prompt_to(question), "reply_ids": one.reply.ids, "top": 0}
                take_scores(one.reply, await self.models.call("tokens", request))
                self.transcript.refresh_turn(one)

    def action_fold(self) -> None:
        """Show or fold the thinking of the selected reply."""
        turn = self.transcript.selected
        if turn is not None and turn.reply is not None and turn.reply.thinking is not None:
            self.transcript.unfolded ^= {id(turn)}
            self.transcript.refresh_turn(turn)
        else:
            self.say("there is no thinking in the selected turn")

    @on(Transcript.Selected)
    def _selection_moved(self, message: Transcript.Selected) -> None:
        message.stop()
        self._score()

    def action_copy(self) -> None:
        """Copy the selected turn."""
        turn = self.transcript.selected
        if turn is not None:
            self.app.copy_to_clipboard(turn.text)
            self.say("copied")
