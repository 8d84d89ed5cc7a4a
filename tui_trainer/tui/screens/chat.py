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
from tui_trainer.tui.chat.reply import Opening
from tui_trainer.tui.chat.tree import Turn
from tui_trainer.tui.screens.branches import Branches
from tui_trainer.tui.screens.chat_talk import TalkScreen
from tui_trainer.tui.screens.measuring import Measuring
from tui_trainer.tui.screens.reply_tokens import ReplyTokens
from tui_trainer.tui.screens.saving import Saver
from tui_trainer.tui.screens.seen import Seen
from tui_trainer.tui.session import Session
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
        Binding("t", "tokens", "Tokens", id="chat-tokens", tooltip="The reply's tokens and their alternatives"),
        Binding("b", "branches", "Branches", show=False, id="chat-branches", tooltip="All branches as a tree"),
        Binding("w", "seen", "Seen", show=False, id="chat-raw", tooltip="What the model sees: ids, mask, parity"),
        Binding(
            "m", "measure", "Measure", show=False, id="chat-measure", tooltip="Run a set of prompts, or score A and B"
        ),
        Binding("S", "save", "Save", show=False, id="chat-save", tooltip="Save as a transcript or as rows to train on"),
        Binding("x", "fold", "Unfold", show=False, id="chat-fold", tooltip="Show or fold the thinking"),
        Binding("y", "copy", "Copy", show=False, id="chat-copy", tooltip="Copy the selected turn"),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._saver = Saver(self)
        self._measuring = Measuring(self, self.models)

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

    async def models_loaded(self) -> None:
        """With other models the difference is another one."""
        await super().models_loaded()
        for _, turn in self.conversation.walk():
            if turn.reply is not None:
                turn.reply.differences, turn.reply.judged = (), ""
        if self.transcript.mode == DIFFERENCE and not self.models.has_other:
            self._colour(PLAIN)
        self.transcript.redraw()
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
            if reply is None or reply.is_streaming or not reply.all_tokens or reply.differences:
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
            if one.reply is not None and one.reply.all_tokens:
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

    # Sheets

    @on(Transcript.Opened)
    def _opened(self, message: Transcript.Opened) -> None:
        message.stop()
        self.action_tokens()

    def action_tokens(self) -> None:
        """Show the tokens of the selected reply; from there another token can be taken."""
        turn = self.transcript.selected
        question = self.conversation.question_of(turn) if turn is not None else None
        reply = turn.reply if turn is not None else None
        if reply is None or question is None or not reply.all_tokens or reply.is_streaming:
            self.say("select a reply first")
            return

        def take(opening: Opening | None) -> None:
            if opening is not None and self._answering is None:
                self.start_answer(question, opening, (reply.slot,))

        prompt = self.manner().prompt_to(question)
        self.app.push_screen(ReplyTokens(reply, prompt, self.params(), self.models), take)

    def action_branches(self) -> None:
        """Show all branches."""

        def take(turn: Turn | None) -> None:
            if turn is not None:
                self.conversation.go_to(turn)
                self.transcript.go_to(turn)

        if self.conversation.root.children:
            self.app.push_screen(Branches(self.conversation), take)
        else:
            self.say("nothing was said yet")

    def action_seen(self) -> None:
        """Show what the model sees of the selected turn, and what training makes of it."""
        turn = self.transcript.selected
        question = self.conversation.question_of(turn) if turn is not None else None
        if turn is None or question is None:
            self.say("ask something first")
            return
        reply = turn if turn.reply is not None else question.following
        request = self.manner().prompt_to(question)
        if reply is not None and reply.reply is not None and not reply.reply.is_failed:
            request["reply"] = reply.text
            request["slot"] = reply.reply.slot
        self.app.push_screen(Seen(request, self.models))

    def action_measure(self) -> None:
        """Run a set of prompts."""
        questions = [turn.text for turn in self.conversation.path if turn.role == "user"]
        self._measuring.start(questions, self.manner())

    def action_save(self) -> None:
        """Save the conversation."""
        self._saver.start(self.conversation, self.transcript.system)

    def action_copy(self) -> None:
        """Copy the selected turn."""
        turn = self.transcript.selected
        if turn is not None:
            self.app.copy_to_clipboard(turn.text)
            self.say("copied")
