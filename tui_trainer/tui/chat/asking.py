"""What is asked of the worker, and the replies that grow while it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tui_trainer.tui.chat.reply import Opening, Reply, Token
from tui_trainer.tui.chat.tree import Conversation, Turn, messages_to

NO_TEMPLATE = "none"
OWN_TEMPLATE = "model"
"""Names of templates that mean none at all, and the one the model itself carries."""


@dataclass(frozen=True)
class Manner:
    """How questions are asked, beside the conversation itself.

    Attributes:
        params: the knobs that were set.
        asked_for: the knobs that model A and its run ask for; B gets them too, so that both are asked the same way.
        system: the system message.
        prefill: what every reply begins with.
        template: the chat template to ask with, a name or a file; None for the one the model was trained with.
        template_kwargs: variables for it.
        has_template: whether the model has one; without any it goes on with the text of the question.
    """

    params: Mapping[str, Any] = field(default_factory=dict)
    asked_for: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    system: str | None = None
    prefill: str = ""
    template: str | None = None
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    has_template: bool = True

    @property
    def takes_messages(self) -> bool:
        """Whether questions go through a chat template."""
        if self.template in (None, OWN_TEMPLATE):
            return self.has_template
        return self.template != NO_TEMPLATE

    @property
    def template_request(self) -> dict[str, Any]:
        """The worker's parameters for template and variables, where they were chosen."""
        chosen = {"template": self.template, "template_kwargs": dict(self.template_kwargs)}
        return {name: value for name, value in chosen.items() if value}

    def prompt_to(self, question: Turn) -> dict[str, Any]:
        """The worker's parameters for what the model is given before its reply."""
        if not self.takes_messages:
            return {"prompt": question.text}
        return {"messages": messages_to(question, self.system), **self.template_request}

    def request(self, question: Turn, opening: Opening, *, of_both: bool = False) -> dict[str, Any]:
        """The worker's parameters for an answer; each token's rank is asked for, as it costs next to nothing."""
        params = {**(self.asked_for if of_both else {}), **self.params}
        if params.get("logprobs") is None:
            params["logprobs"] = 0
        if opening.ended:
            params["min_tokens"] = max(params.get("min_tokens") or 0, 1)
        return {**self.prompt_to(question), **opening.request, "params": params}


class Growing:
    """The replies to one request while they grow.

    Args:
        conversation: the tree they hang in.
        question: what they answer.
        opening: what each of them begins with.
        models: slot to what the user calls its model; one reply each to begin with.
        on_new: called when a further candidate shows up.
    """

    def __init__(
        self,
        conversation: Conversation,
        question: Turn,
        opening: Opening,
        models: Mapping[str, str],
        on_new: Callable[[], None],
    ) -> None:
        self._conversation = conversation
        self._opening, self._models, self._on_new = opening, models, on_new
        turns = conversation.answer(question, [self._new_reply(slot) for slot in models])
        self._turns = {(slot, 0): turn for slot, turn in zip(models, turns, strict=True)}

    def _new_reply(self, slot: str) -> Reply:
        return Reply(slot=slot, model=self._models[slot], opening=self._opening, is_streaming=True)

    @property
    def turns(self) -> Sequence[Turn]:
        """The turns of the replies, the first one first."""
        return list(self._turns.values())

    @property
    def replies(self) -> Sequence[Reply]:
        """The replies."""
        return [turn.reply for turn in self.turns if turn.reply is not None]

    def take(self, item: Mapping[str, Any]) -> Turn:
        """Give a token to the reply it belongs to; returns that reply's turn."""
        turn = self._turn(str(item.get("slot") or next(iter(self._models))), int(item.get("candidate") or 0))
        assert turn.reply is not None
        turn.reply.take(item)
        return turn

    def _turn(self, slot: str, candidate: int) -> Turn:
        if (slot, candidate) not in self._turns:
            first = self._turns[next(iter(self._models)), 0]
            self._turns[slot, candidate] = self._conversation.add_reply(first, self._new_reply(slot))
            self._on_new()
        return self._turns[slot, candidate]

    def finish(self, documents: Mapping[str, Mapping[str, Any]]) -> None:
        """Take over the worker's documents, one a slot. With best_of only the best ones are in them."""
        came = {key: list(turn.reply.tokens) for key, turn in self._turns.items() if turn.reply is not None}
        for slot, document in documents.items():
            for number, candidate in enumerate(document.get("candidates") or ()):
                reply = self._turn(slot, number).reply
                assert reply is not None
                reply.tokens = came.get((slot, candidate.get("index", number)), reply.tokens)
                reply.finish(document, candidate)
            self._drop_losers(slot, len(document.get("candidates") or ()))
        self.stop()

    def _drop_losers(self, slot: str, num_kept: int) -> None:
        """What best_of threw away is no branch of the conversation."""
        for key in [key for key in self._turns if key[0] == slot and key[1] >= max(num_kept, 1)]:
            turn = self._turns.pop(key)
            assert turn.parent is not None
            turn.parent.children.remove(turn)

    def mark_differences(self, diff: Sequence[Mapping[str, Any]]) -> None:
        """Mark where the first replies of A and B differ, from the worker's alignment."""
        for slot in ("a", "b"):
            turn = self._turns.get((slot, 0))
            if turn is None or turn.reply is None:
                continue
            places: set[int] = set()
            for part in diff:
                span = part.get(slot)
                if part.get("kind") != "same" and isinstance(span, Sequence) and len(span) == 2:
                    places |= set(range(int(span[0]), int(span[1])))
            turn.reply.different = frozenset(places)

    def stop(self) -> None:
        """End all of them where they are."""
        for reply in self.replies:
            if reply.is_streaming:
                reply.stop()

    def fail(self, why: str) -> None:
        """End all of them with an error."""
        for reply in self.replies:
            if reply.is_streaming:
                reply.fail(why)


def take_scores(reply: Reply, answer: Mapping[str, Any]) -> None:
    """Take over what both models think of a reply, the worker's answer to `tokens`."""
    scored = list(answer.get("tokens") or ())
    if len(scored) != len(reply.ids):
        return
    own = [part.get(reply.slot) or {} for part in scored]
    if not reply.opening.tokens and (num_opening := len(scored) - len(reply.tokens)):
        tokens = tuple(
            Token(int(part["id"]), str(part["text"]), mine.get("logprob"), mine.get("rank"))
            for part, mine in zip(scored[:num_opening], own, strict=False)
        )
        reply.opening = replace(reply.opening, tokens=tokens)
    reply.differences = [part.get("difference") for part in scored]
    words = [
        f"perplexity {slot.upper()} {whole['perplexity']:.3g}"
        for slot in ("a", "b")
        if isinstance(whole := answer.get(slot), Mapping) and whole.get("perplexity") is not None
    ]
    if answer.get("mean_kl") is not None:
        words.append(f"KL {answer['mean_kl']:.3f}")
    reply.judged = " · ".join(words)


def asked_for(knobs: Mapping[str, Any]) -> dict[str, Any]:
    """The knobs that a model and its run ask for, from the worker's answer to `knobs`."""
    return {name: knob["value"] for name, knob in knobs["knobs"].items() if knob["source"] in ("model", "run")}
