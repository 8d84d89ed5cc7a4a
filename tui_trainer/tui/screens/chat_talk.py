"""The conversation of the Chat screen: asking, streaming, stopping, and every way to branch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.worker import Worker

from tui_trainer.errors import CancelledError, WorkbenchError
from tui_trainer.text import safe_line
from tui_trainer.tui.chat.asking import Growing, Manner
from tui_trainer.tui.chat.reply import Opening
from tui_trainer.tui.chat.tree import Conversation, Turn
from tui_trainer.tui.screens.chat_knobs import KnobsScreen
from tui_trainer.tui.screens.templating import Templating
from tui_trainer.tui.session import Session
from tui_trainer.tui.widgets.ask import AskText
from tui_trainer.tui.widgets.prompt_line import PromptLine
from tui_trainer.tui.widgets.transcript import Transcript

_REFRESH_SECONDS = 0.08
_DRAWING_SHARE = 0.1
"""Drawing may take so much of the time; where it takes longer, it is done less often."""


class TalkScreen(KnobsScreen):
    """A screen with a transcript and a line to type in."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("i,slash", "type", "Type", key_display="i", id="chat-type", tooltip="To the line"),
        Binding("r", "retry", "Retry", id="chat-retry", tooltip="Answer the question again, as another branch"),
        Binding("e", "edit", "Edit", id="chat-edit", tooltip="Ask something else in its place, as another branch"),
        Binding("c", "go_on", "Continue", id="chat-continue", tooltip="Lengthen the reply from where it ended"),
        Binding("u", "undo", "Undo", id="chat-undo", tooltip="Leave the last question and its answer aside"),
        Binding("n", "new", "New", show=False, id="chat-new", tooltip="Begin a new conversation"),
        Binding("s", "system", "System", show=False, id="chat-system", tooltip="Set the system message"),
        Binding("a", "prefill", "Begin with", show=False, id="chat-prefill", tooltip="What every reply begins with"),
        Binding(
            "A",
            "template",
            "Template",
            show=False,
            id="chat-template",
            tooltip="Choose the chat template, its variables",
        ),
        Binding("plus", "candidate", "Candidate", show=False, id="chat-candidate", tooltip="To the next reply"),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._prefill = ""
        self._templating = Templating(self, self.models, self._show_line)
        self._answering: Worker[None] | None = None
        self._growing: Growing | None = None
        self._editing: Turn | None = None

    @property
    def transcript(self) -> Transcript:
        """What was said."""
        return self.query_one(Transcript)

    @property
    def conversation(self) -> Conversation:
        """The tree behind it."""
        return self.transcript.conversation

    @property
    def line(self) -> PromptLine:
        """Where one types."""
        return self.query_one(PromptLine)

    def manner(self) -> Manner:
        """How questions are asked now."""
        return Manner(
            self.params(),
            self.transcript.system,
            self._prefill,
            self._templating.name,
            self._templating.kwargs,
            self.models.slot("a").has_template,
            asked_for=self._knobs.asked_for(),
        )

    def show_ideas(self, prompts: Sequence[str]) -> None:
        """Offer them in the empty transcript and in the empty line."""
        self.transcript.ideas = prompts
        self.line.ideas = [] if self.conversation.root.children else prompts
        self.transcript.redraw()

    # Asking

    @on(PromptLine.Submitted)
    async def _said(self, event: PromptLine.Submitted) -> None:
        if not event.text.strip():
            return
        if self._is_busy():
            return
        if not self.models.slot("a").reference:
            self.action_model("a")
            return
        editing, self._editing = self._editing, None
        self.line.ideas = ()
        self.line.fill("")
        self._show_line()
        question = (
            self.conversation.edit(editing, event.text) if editing is not None else self.conversation.ask(event.text)
        )
        await self.transcript.show()
        self.start_answer(question, self._typed_opening())

    def _is_busy(self) -> bool:
        if self._answering is not None:
            self.say("an answer is coming; esc stops it")
        return self._answering is not None

    def _typed_opening(self) -> Opening:
        return Opening(self._prefill)

    def start_answer(self, question: Turn, opening: Opening, slots: Sequence[str] = ()) -> None:
        """Answer a question.

        Args:
            question: its turn.
            opening: what the reply begins with.
            slots: the models that answer; without them all that were chosen.
        """
        self._answering = self._answer(question, opening, slots)

    @work(group="answer", exit_on_error=False)
    async def _answer(self, question: Turn, opening: Opening, slots: Sequence[str]) -> None:
        chosen = slots or (("a", "b") if self.models.has_other else ("a",))
        transcript = self.transcript
        growing: Growing | None = None
        try:
            was_loaded = all(self.models.slot(name).is_loaded for name in chosen)
            await self.models.ensure_loaded()
            if not was_loaded:
                await self.models_loaded()
            references = {name: self.models.slot(name).reference for name in chosen}
            growing = self._growing = Growing(self.conversation, question, opening, references, self._show_new)
            await transcript.show()
            await self._stream(growing, question, opening)
        except CancelledError:
            if growing is not None:
                growing.stop()
        except WorkbenchError as error:
            if growing is None:
                references = {name: self.models.slot(name).reference for name in chosen}
                growing = self._growing = Growing(self.conversation, question, Opening(), references, self._show_new)
            growing.fail(str(error))
            self.say(str(error), problem=True)
        finally:
            if self._growing is growing or growing is None:
                self._answering = self._growing = None
        await transcript.show()
        self.answered()

    async def _stream(self, growing: Growing, question: Turn, opening: Opening) -> None:
        transcript, next_draw = self.transcript, 0.0
        manner = self.manner()
        slots = [reply.slot for reply in growing.replies]

        def take(item: Any) -> None:
            nonlocal next_draw
            if not isinstance(item, dict) or "id" not in item:
                return
            turn = growing.take(item)
            began = time.monotonic()
            if began >= next_draw:
                transcript.refresh_turn(turn)
                drawing = time.monotonic() - began
                next_draw = began + max(_REFRESH_SECONDS, drawing / _DRAWING_SHARE)

        request = manner.request(question, opening, of_both=len(slots) > 1)
        if len(slots) > 1:
            answer = await self.models.call("compare", request, take)
            growing.finish({"a": answer["a"], "b": answer["b"]})
            growing.mark_differences(answer.get("diff") or ())
        else:
            document = await self.models.call("generate", request | {"slot": slots[0]}, take)
            growing.finish({slots[0]: document})

    def _show_new(self) -> None:
        self.call_later(self.transcript.show)

    def answered(self) -> None:
        """Called when an answer has ended."""

    def action_leave_field(self) -> None:
        """Stop the answer that comes, else leave the line."""
        if self._answering is not None:
            growing = self._growing
            self.workers.cancel_group(self, "answer")
            self._answering = self._growing = None
            if growing is not None:
                growing.stop()
            self.transcript.redraw()
            return
        if self._editing is not None:
            self._editing = None
            self.line.fill("")
            self._show_line()
        self.remove_class("-knobs")
        super().action_leave_field()

    # Branching

    def action_type(self) -> None:
        """To the line."""
        self.line.focus()

    def _selected(self) -> Turn | None:
        turn = self.transcript.selected
        if turn is None:
            self.say("ask something first")
        return turn

    def action_retry(self) -> None:
        """Answer the selected question again."""
        turn = self._selected()
        question = self.conversation.question_of(turn) if turn is not None else None
        if question is None or self._is_busy():
            return
        self.conversation.go_to(question)
        if self.params().get("seed") is not None:
            self.say("the seed is set, so the answer will be the same; backspace on the knob gives it back")
        self.start_answer(question, self._typed_opening())

    def action_edit(self) -> None:
        """Take the selected question into the line; what it was stays as a branch."""
        turn = self._selected()
        question = self.conversation.question_of(turn) if turn is not None else None
        if question is None or self._is_busy():
            return
        self._editing = question
        self.line.fill(question.text)
        self._show_line()
        self.line.focus()

    def action_go_on(self) -> None:
        """Lengthen the selected reply; the shorter one stays as a branch."""
        turn = self._selected()
        if turn is None or self._is_busy():
            return
        question = self.conversation.question_of(turn)
        if question is None or turn.reply is None or not (turn.reply.text or turn.reply.ids):
            self.say("select a reply first")
            return
        self.start_answer(question, turn.reply.continued(), (turn.reply.slot,))

    async def action_undo(self) -> None:
        """Leave the last question and its answer aside."""
        if self._is_busy():
            return
        if self.conversation.undo() is None:
            self.say("nothing to take back")
        await self.transcript.show()

    async def action_new(self) -> None:
        """Begin anew; the old conversation stays as a branch."""
        if self._is_busy():
            return
        self.conversation.root.following = None
        await self.transcript.show()
        self.line.focus()

    def action_candidate(self) -> None:
        """Go on with the next of the replies to the selected request."""
        turn = self.transcript.selected
        if turn is not None:
            together = list(turn.together)
            self.conversation.go_to(together[(together.index(turn) + 1) % len(together)])
            self.call_later(self.transcript.show)

    # What goes before

    def _show_line(self) -> None:
        """Say above the line what is unusual about the next question."""
        words = ["edit the question; esc leaves it"] if self._editing is not None else []
        if self._prefill:
            words.append(f"replies begin with {self._prefill!r}")
        if self._templating.words:
            words.append(self._templating.words)
        self.line.border_title = Content(safe_line(" · ".join(words)))

    def action_system(self) -> None:
        """Set the system message."""
        text = "Told to the model before everything else. Empty: the template's own, if it has one."
        self.app.push_screen(AskText("System message", self.transcript.system or "", text), self._system_typed)

    def _system_typed(self, text: str | None) -> None:
        if text is not None:
            self.transcript.system = text or None
            self.transcript.redraw()

    def action_prefill(self) -> None:
        """Set what every reply begins with."""
        text = "The model goes on after these words, as if it had said them. Empty: it begins by itself."
        self.app.push_screen(AskText("Replies begin with", self._prefill, text), self._prefill_typed)

    def _prefill_typed(self, text: str | None) -> None:
        if text is not None:
            self._prefill = text
            self._show_line()

    def action_template(self) -> None:
        """Choose the chat template, or its variables."""
        self._templating.start()
