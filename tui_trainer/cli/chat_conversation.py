"""A conversation on the terminal: what was said, the same tree as on the Chat screen, and how it is asked.

The commands change it, `chat_loop` reads the lines.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tui_trainer.cli.chat_answers import ask
from tui_trainer.cli.chat_local import LocalModels, interruptible
from tui_trainer.cli.output import talk
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.store import list_checkpoints
from tui_trainer.text import safe
from tui_trainer.tui.chat.asking import Manner, asked_for
from tui_trainer.tui.chat.reply import Opening
from tui_trainer.tui.chat.tree import Conversation, Turn


class Talk:
    """Questions and answers in turn.

    Args:
        models: the models.
        manner: knobs, system message, what replies begin with.
        where: device and dtype, for models that are loaded later.

    Attributes:
        conversation: what was said.
        followed: the run whose newest checkpoint answers.
    """

    def __init__(self, models: LocalModels, manner: Manner, where: Mapping[str, str]) -> None:
        self.models = models
        self.where = where
        self.conversation = Conversation()
        self.followed: RunLayout | None = None
        self._manner = manner

    @property
    def manner(self) -> Manner:
        """How questions are asked; without a template of the model's, its text is gone on with."""
        slot = self.models.slots["a"]
        return replace(self._manner, has_template=slot.has_template)

    @manner.setter
    def manner(self, manner: Manner) -> None:
        self._manner = manner

    def answer(self, question: Turn, opening: Opening | None = None, slots: Sequence[str] = ()) -> None:
        """Let the models answer a question.

        Raises:
            WorkbenchError: they cannot.
        """
        opening = opening if opening is not None else Opening(self._manner.prefill)
        self._catch_up()
        chosen = list(slots or self.models.slots)
        manner = self.manner
        if len(chosen) > 1:
            manner = replace(manner, asked_for=asked_for(self.models.call("knobs", {"params": dict(manner.params)})))
        request = manner.request(question, opening, of_both=len(chosen) > 1)
        with interruptible() as cancellation:
            ask(self.models, self.conversation, question, opening, request, cancellation, slots=chosen)

    def _catch_up(self) -> None:
        """Take the newest checkpoint of the run that is followed."""
        if self.followed is None:
            return
        newest = list_checkpoints(self.followed)[-1:]
        if newest and newest[0].step != self.models.slots["a"].about.get("step"):
            how = self.models.swap("a", f"{self.followed.id}@{newest[0].step}")
            talk().print(safe(f"step {newest[0].step}: {how}"), style="dim")
