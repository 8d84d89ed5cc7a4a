"""The chat worker: loads models, answers, compares, looks into answers; one process beside the front end.

Up to two models are held, in the slots "a" and "b". `load`, `generate`, `knobs`, `render`, `swap`, `follow` and
`unload` take {slot?}, "a" unless said otherwise; `tokens`, `alternatives`, `compare` and `score` look at all that is
loaded; `prompt_set` brings its own models. A question is {messages | prompt, params?, template?, template_kwargs?,
tools?, prefill? | prefill_ids?}. The libraries are loaded with the first model, so that an unused worker costs little.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_trainer.engine.chat.prompt_file import Item, read_prompts
from tui_trainer.engine.chat.question import Manner, Question
from tui_trainer.engine.chat.server.address import is_address, read_address
from tui_trainer.engine.chat.server.discovery import look_at
from tui_trainer.engine.chat.server.session import ServerSession
from tui_trainer.engine.chat.slots import Slots
from tui_trainer.engine.generate.knobs import YOURS, inspect_knobs
from tui_trainer.engine.report import Report
from tui_trainer.engine.servers.progress import with_progress
from tui_trainer.engine.threads import leave_cores_to_training, wait_asleep
from tui_trainer.runs.status import read_status
from tui_trainer.runs.store import find_run
from tui_trainer.wire.server import Cancellation, Method, serve_stdio

if TYPE_CHECKING:
    from tui_trainer.engine.chat.slots import Session

Answer = Generator[dict[str, Any], None, dict[str, Any]]

_POLL_SECONDS = 0.05
_NUM_TOP = 5
_NUM_ALTERNATIVES = 20
_NUM_SCORED = 64
_LOADED_ANEW = "loaded anew"
"""How weights came into a slot that could not take them in place."""


class ChatServer:
    """The methods of the worker. One thing is done at a time: who comes second waits, and can be cancelled waiting."""

    def __init__(self) -> None:
        self._slots = Slots()
        self._lock = threading.Lock()

    @property
    def methods(self) -> Mapping[str, Method]:
        """Method name to generator function."""
        return {
            "load": self.load,
            "swap": self.swap,
            "follow": self.follow,
            "unload": self.unload,
            "knobs": self.knobs,
            "render": self.render,
            "generate": self.generate,
            "compare": self.compare,
            "tokens": self.tokens,
            "alternatives": self.alternatives,
            "score": self.score,
            "prompt_set": self.prompt_set,
            "read_prompts": self.read_prompts,
            "servers": self.servers,
            "templates": self.templates,
        }

    def load(self, params: dict[str, Any], cancellation: Cancellation) -> Answer:
        """Load a model {model, adapter?, device?, dtype?, decode?} in place of the slot's; returns `describe()`."""
        slot = self._slots.name_of(params.get("slot"))
        with self._alone(cancellation):
            self._slots.drop(slot)
            yield from self._load(slot, params, cancellation)
            return self._slots.describe(slot)

    def swap(self, params: dict[str, Any], cancellation: Cancellation) -> Answer:
        """Put the weights of another model {model, adapter?} into a slot, over its own where they fit.

        Returns:
            `describe()` with "how": adapter in place, weights in place or loaded anew; and "seconds".
        """
        with self._alone(cancellation):
            return (yield from self._swap(self._slots.name_of(params.get("slot")), params, cancellation))

    def follow(self, params: dict[str, Any], cancellation: Cancellation) -> Answer:
        """Take each checkpoint of {run} as it is published, between answers; stays open until the run has ended.

        Yields:
            {"event": waiting | swapped | skipped, "step", and of a swap "path", "age_seconds", "seconds", "how",
            "device", "note"}; how far a load is.

        Returns:
            {"event": "ended", "step", "reason"}.
        """
        from tui_trainer.engine.chat.following import Follower

        slot = self._slots.name_of(params.get("slot"))
        run = str(params.get("run") or "")
        layout = find_run(run)

        def swap(reference: str) -> Answer:
            with self._alone(cancellation):
                wanted = {**params, "model": reference}
                if read_status(layout).state.is_live:
                    leave_cores_to_training()
                return (yield from self._swap(slot, wanted, cancellation))

        return (yield from Follower(run, layout, swap, cancellation.wait).follow())

    def _swap(self, slot: str, params: Mapping[str, Any], cancellation: Cancellation) -> Answer:
        started = time.perf_counter()
        how, keeps = _LOADED_ANEW, {}
        session, model = self._slots.get(slot), str(params.get("model") or "")
        if session is not None and session.kind == "local" and not is_address(model):
            from tui_trainer.engine.chat.swapping import swapped
            from tui_trainer.engine.models.chat_model import locate_for_chat

            keeps = session.placement
            source = locate_for_chat(model, params.get("adapter") or None)
            found = swapped(session, model, source, is_shared=self._slots.describe(slot)["shares_weights"])
            if found is not None:
                how = found[1]
                self._slots.put(slot, found[0])
        if how == _LOADED_ANEW:
            self._slots.drop(slot)
            yield from self._load(slot, keeps | dict(params), cancellation)
        return self._slots.describe(slot) | {"how": how, "seconds": time.perf_counter() - started}

    def _load(
        self, slot: str, params: Mapping[str, Any], cancellation: Cancellation
    ) -> Generator[dict[str, Any], None, None]:
        settings = {name: str(params[name]) for name in ("adapter", "device", "dtype", "decode") if params.get(name)}
        model = str(params.get("model") or "")

        def task(report: Report) -> Session:
            if is_address(model):
                report("asking the server", None, None)
                return ServerSession(model)
            report("loading the libraries", None, None)
            from tui_trainer.engine.chat.opening import Wanted, open_session

            return open_session(Wanted(model, **settings), self._slots.other(slot), report)

        session = yield from with_progress(task, cancellation)
        self._slots.put(slot, session)

    def unload(self, params: dict[str, Any], cancellation: Cancellation) -> Answer:
        """Give the memory of a slot's model back, or of all without {slot}."""
        slot = params.get("slot")
        with self._alone(cancellation):
            self._slots.drop(self._slots.name_of(slot) if slot else None)
        yield from ()
        return {}

    def knobs(self, params: dict[str, Any], cancellation: Cancellation) -> Answer:  # noqa: ARG002 - as all methods
        """The knobs that count with {params}, and what is wrong with them; without a model only the defaults below.

        Returns:
            {"knobs": {name: {"value", "source"}}, "ignored": {name: reason}, "notes", "strategy": a phrase,
            "problems": [{"key", "message", "remedy"}]}.
        """
        session = self._slots.get(params.get("slot"))
        yield from ()
        given = params.get("params") or {}
        return inspect_knobs([(YOURS, given)]) if session is None else session.inspect(given)

    def render(self, params: dict[str, Any], cancellation: Cancellation) -> Answer:
        """What the model sees of a question, and what training makes of the same messages with {reply?}.

        Returns:
            {"text", "tokens", "template", "training": {"tokens" with "trained", "num_trained", "problems"} or null,
            "parity": {"same", "first_difference": {"index", "chat", "training"} or null, "message"}}.
        """
        with self._alone(cancellation):
            session = self._slots.local(params.get("slot"))
            from tui_trainer.engine.chat.rendering import Renderer

            yield from ()
            return Renderer(session.prompter, session.documents).document(Question.of(params), params.get("reply"))

    def templates(self, params: dict[str, Any], cancellation: Cancellation) -> Answer:
        """The chat templates that {template?} of a question can name, and the one that {template?, slot?} means.

        Returns:
            {"known": as `known_templates` has them, "template": as `describe()` has it, null without one or a model}.
        """
        from tui_trainer.engine.data.templates.library import known_templates

        known = known_templates(None)
        yield from ()
        slot, name = params.get("slot"), params.get("template")
        if self._slots.get(slot) is None:
            return {"known": known, "template": None}
        with self._alone(cancellation):
            return {"known": known, "template": self._slots.local(slot).prompter.describe(name)}

    def generate(self, params: dict[str, Any], cancellation: Cancellation) -> Answer:
        """Answer a question; yields a token at a time, returns the document of `chat --json`."""
        with self._alone(cancellation):
            session = self._slots.loaded(params.get("slot"))
            return (yield from session.answer(Question.of(params), lambda: cancellation.is_cancelled))

    def compare(self, params: dict[str, Any], cancellation: Cancellation) -> Answer:
        """Let both models answer a question with the same knobs and seed.

        Yields:
            The items of `generate` with "slot".

        Returns:
            {"a", "b": documents, "same_prompt", "in_one_batch", "seconds", "diff": [{"kind": same | changed | only_a |
            only_b, "a": [from, to], "b": [from, to]}] over the tokens of the first candidates}.
        """
        with self._alone(cancellation):
            a, b = self._slots.loaded("a"), self._slots.loaded("b")
            from tui_trainer.engine.chat.compare import compare

            return (yield from compare(a, b, Question.of(params), lambda: cancellation.is_cancelled))

    def tokens(self, params: dict[str, Any], cancellation: Cancellation) -> Answer:
        """What each loaded model thinks of the reply {reply_ids | reply} to a question; {top?} alternatives each.

        Returns:
            {"prompt_tokens", "tokens": [{"id", "text", "special", "a": {"logprob", "rank", "top"}, "b" or null,
            "difference": b - a, "kl": KL(b || a) in nats}], "a": {"mean_logprob", "perplexity"}, "b", "mean_kl"}.
        """
        with self._alone(cancellation):
            a, b = self._slots.pair()
            from tui_trainer.engine.chat.insight import reply_document

            yield from ()
            reply = params.get("reply_ids") or str(params.get("reply") or "")
            num_top = int(params.get("top", _NUM_TOP))
            return reply_document(a, b, Question.of(params), reply, num_top, cancellation.check)

    def alternatives(self, params: dict[str, Any], cancellation: Cancellation) -> Answer:
        """What could stand at {position} of the reply {reply_ids} to a question; the {top?} most probable ones.

        Returns:
            {"position", "chosen", "a": [{"id", "text", "special", "logprob", "probability", "rank", "processed": the
            probability with the knobs}], "b" or null}.
        """
        with self._alone(cancellation):
            a, b = self._slots.pair()
            from tui_trainer.engine.chat.insight import alternatives_document

            yield from ()
            reply = list(params.get("reply_ids") or ())
            position = int(params.get("position", len(reply)))
            num_top = int(params.get("top", _NUM_ALTERNATIVES))
            return alternatives_document(a, b, Question.of(params), reply, position, num_top)

    def score(self, params: dict[str, Any], cancellation: Cancellation) -> Answer:
        """Perplexity of each loaded model over {texts}, or over the replies to {prompts}, and KL of B from A.

        Prompts are asked with {system?, template?, template_kwargs?}. One without "reply" is answered by A, greedily,
        with at most {max_tokens?} tokens.

        Returns:
            {"rows": [{"text", "num_tokens", "a": perplexity, "b", "kl"}], "a": {"perplexity", "bits_per_token"}, "b",
            "kl": mean of a token in nats, "num_tokens"}.
        """
        with self._alone(cancellation):
            a, b = self._slots.pair()
            from tui_trainer.engine.chat.insight import score_document

            yield from ()
            items: list[Item | str] = [*map(str, params.get("texts") or ()), *_items(params)]
            max_tokens = int(params.get("max_tokens") or _NUM_SCORED)
            return score_document(a, b, items, _manner(params), max_tokens, cancellation.check)

    def prompt_set(self, params: dict[str, Any], cancellation: Cancellation) -> Answer:
        """Ask {prompts, system?, params?} of all {models}; a run alone means all its checkpoints.

        {template?, template_kwargs?} are as in a question. With {baseline} each answer's row has the divergence
        from that model.

        Yields:
            {"row": …} and how far it is.

        Returns:
            As `prompt_set.ask_all`.
        """
        with self._alone(cancellation):
            from tui_trainer.engine.chat.measuring import measure
            from tui_trainer.engine.chat.prompt_set import PromptSet

            prompts = PromptSet(_items(params), _manner(params))
            models = [str(model) for model in params.get("models") or ()]
            baseline = params.get("baseline")
            return (yield from measure(self._slots, prompts, models, baseline and str(baseline), cancellation.check))

    def read_prompts(self, params: dict[str, Any], cancellation: Cancellation) -> Answer:  # noqa: ARG002 - as all methods
        """The prompts in a file {path}, as `prompt_set` and `score` take them: {"prompts"}."""
        yield from ()
        path = Path(str(params.get("path") or "")).expanduser()
        return {"prompts": [item.to_dict() for item in read_prompts(path)]}

    def servers(self, params: dict[str, Any], cancellation: Cancellation) -> Answer:
        """What is behind the address {url}: {"url", "dialect", "models", "untranslatable": {knob: reason}}."""
        yield from ()
        return look_at(read_address(str(params.get("url") or "")), lambda: cancellation.is_cancelled).to_dict()

    @contextmanager
    def _alone(self, cancellation: Cancellation) -> Iterator[None]:
        while not self._lock.acquire(timeout=_POLL_SECONDS):
            cancellation.check()
        try:
            yield
        finally:
            self._lock.release()


def _manner(params: Mapping[str, Any]) -> Manner:
    """How the prompts of a set are asked."""
    question = Question.of({name: params.get(name) for name in ("params", "template", "template_kwargs")})
    return Manner(question.params, params.get("system"), question.template, question.template_kwargs)


def _items(params: Mapping[str, Any]) -> list[Item]:
    prompts = params.get("prompts") or ()
    return [Item.of(prompt, f"prompt {number}") for number, prompt in enumerate(prompts, start=1)]


if __name__ == "__main__":
    wait_asleep()
    serve_stdio("chat", ChatServer().methods)
