"""A model to talk to: from a question and knobs to items as they come and the document of `chat --json`.

Used by the chat worker and by the command `chat`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

from tui_trainer.config.catalogue import sampling_knobs
from tui_trainer.config.sampling import SamplingParams
from tui_trainer.engine.chat.clock import Clock
from tui_trainer.engine.chat.documents import Documents
from tui_trainer.engine.chat.memory import MemoryGuard
from tui_trainer.engine.chat.prompt import Prompt, Prompter, habits_of
from tui_trainer.engine.chat.question import Question
from tui_trainer.engine.generate.engine import Engine, Generation
from tui_trainer.engine.generate.forward.choose import Choice, choose_forward
from tui_trainer.engine.generate.forward.interface import Forward
from tui_trainer.engine.generate.knobs import YOURS, ResolvedKnobs, inspect_knobs, model_defaults, resolve_knobs
from tui_trainer.engine.models.chat_model import LoadedModel
from tui_trainer.engine.models.int8 import INT8
from tui_trainer.engine.models.stamp import stamp_of
from tui_trainer.engine.models.weights import ADAPTER_WEIGHTS, count_parameters
from tui_trainer.errors import ConfigurationError

VERSION = 1


@dataclass(frozen=True)
class Asked:
    """A question on its way to its answer.

    Attributes:
        question: what was asked.
        knobs: the knobs that count.
        prompt: what the model is given.
        generation: the answers as they grow.
        clock: counts tokens.
        is_cancelled: whether nobody waits any more.
    """

    question: Question
    knobs: ResolvedKnobs
    prompt: Prompt
    generation: Generation
    clock: Clock
    is_cancelled: Callable[[], bool]


class ChatSession:
    """Answers questions with one loaded model and keeps what it needs from turn to turn.

    Args:
        name: what the user called the model.
        loaded: the model.
        decode: which forward pass (`choose_forward`).
        choice: the forward pass, if it was chosen already.
        adapter: the adapter that its tokens go through, where the model has several.

    Attributes:
        choice: the forward pass, and why it is not the lean one.
        stamp: which weights the answers come from.
        layers: the knobs below the user's, as `resolve_knobs` takes them: the model's, the run's.
    """

    kind: Literal["local"] = "local"

    def __init__(
        self,
        name: str,
        loaded: LoadedModel,
        *,
        decode: str = "auto",
        choice: Choice | None = None,
        adapter: str = "",
    ) -> None:
        self.name = name
        self.decode = decode
        habits = habits_of(loaded.source.run)
        self.prompter = Prompter(loaded.tokenizer, habits, name)
        closing = self.prompter.templates.closing_id(self.prompter.template)
        self._stop = tuple(dict.fromkeys([*loaded.stop_token_ids, *([closing] if closing is not None else [])]))
        self.use(loaded, choice or choose_forward(loaded.model, decode), adapter)
        self.documents = Documents(loaded.tokenizer)
        base: Any = loaded.model
        self.layers = [("model", model_defaults(getattr(base, "generation_config", None)))]
        self._note = self._add_run_layer(_changed(habits.sampling))

    def use(self, loaded: LoadedModel, choice: Choice, adapter: str) -> None:
        """Answer with a model from now on; what was kept of the conversation is dropped."""
        self.loaded = loaded
        self.choice = choice
        self.engine = Engine(
            loaded.model,
            loaded.tokenizer,
            self._stop,
            loaded.context_length,
            forward=choice.forward,
            adapter=adapter,
        )
        self._memory = MemoryGuard(loaded.model, loaded.device, loaded.dtype, self.engine.forget)
        self.stamp = stamp_of(loaded.source)

    @property
    def dtype_name(self) -> str:
        """The type of its weights, as `load` takes it."""
        return INT8 if self.loaded.is_int8 else str(self.loaded.dtype).removeprefix("torch.")

    @property
    def placement(self) -> dict[str, str]:
        """Device and type, as `load` takes them."""
        return {"device": str(self.loaded.device), "dtype": self.dtype_name}

    @property
    def forward(self) -> Forward:
        """What runs its tokens."""
        return self.choice.forward

    @property
    def adapter(self) -> str:
        """The adapter its tokens go through; empty where the model has no choice."""
        return self.engine.runner.adapter

    @property
    def num_base_parameters(self) -> int:
        """Parameters of the model without its adapter."""
        adapter = self.loaded.source.adapter
        return self.loaded.num_parameters - (count_parameters([adapter / ADAPTER_WEIGHTS]) if adapter else 0)

    def _add_run_layer(self, sampling: dict[str, Any]) -> str:
        """Take over the run's knobs, unless they contradict what the model sets; returns a remark if so."""
        try:
            resolve_knobs([*self.layers, ("run", sampling)])
        except ConfigurationError as error:
            return f"the run's [sampling] is left out: {error}"
        self.layers.append(("run", sampling))
        return ""

    def describe(self) -> dict[str, Any]:
        """The model as a JSON object: the result of the worker's `load`."""
        loaded, defaults = self.loaded, self.resolve({})
        source = loaded.source
        own = {name: layer for name, layer in defaults.sources.items() if layer != "default"}
        return {
            "name": self.name,
            "kind": self.kind,
            "path": str(source.path),
            "adapter": str(source.adapter) if source.adapter else None,
            "run": source.run.id if source.run else None,
            "step": source.step,
            "stamp": self.stamp,
            "num_parameters": loaded.num_parameters,
            "device": str(loaded.device),
            "dtype": self.dtype_name,
            "decode": {"kind": self.forward.kind, "note": self.choice.note},
            "context_length": loaded.context_length,
            "has_template": self.prompter.template is not None,
            "template": self.prompter.describe(),
            "stop_tokens": [{"id": token, "text": self.documents.text_of(token)} for token in self._stop],
            "defaults": {name: getattr(defaults.params, name) for name in own},
            "default_sources": own,
            "note": "; ".join(filter(None, (loaded.reason, self.prompter.templates.note, self._note))),
        }

    def resolve(self, params: Mapping[str, Any]) -> ResolvedKnobs:
        """The knobs that count when the user sets `params`.

        Raises:
            ConfigurationError: as `resolve_knobs`.
        """
        return resolve_knobs([*self.layers, (YOURS, params)])

    def inspect(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """See `inspect_knobs`."""
        return inspect_knobs([*self.layers, (YOURS, params)])

    def guarded(self, num_tokens: int, num_rows: int = 1) -> AbstractContextManager[None]:
        """Around work on some tokens: want of memory becomes a sentence, and the session lives on."""
        return self._memory.watch(num_tokens, num_rows)

    def num_rows(self, question: Question) -> int:
        """How many answers are computed for a question; one alone can be shown as it comes."""
        return _num_rows(self.resolve(question.params).params)

    def answer(
        self, question: Question, is_cancelled: Callable[[], bool] = lambda: False
    ) -> Generator[dict[str, Any], None, dict[str, Any]]:
        """Answer a question.

        Yields:
            {"candidate", "text", "id", "logprob"} for each token; with `logprobs` also "rank" and "top", with a
            candidate's last token "finish_reason" and "stop_reason".

        Returns:
            The document of `chat --json`.

        Raises:
            WorkbenchError: for a question that cannot be answered. The session can be asked again.
        """
        asked = self.ask(question, is_cancelled)
        with self.guarded(len(asked.prompt.ids), _num_rows(asked.knobs.params)):
            for step in asked.generation:
                asked.clock.tick()
                yield self.documents.item(step)
            return self.document(asked)

    def ask(self, question: Question, is_cancelled: Callable[[], bool] = lambda: False) -> Asked:
        """Make a question ready to be answered.

        Raises:
            WorkbenchError: for a question that cannot be answered.
        """
        clock = Clock(time.perf_counter())
        knobs = self.resolve(question.params)
        prompt = self.prompter.prompt_for(question)
        continues = not prompt.is_templated or prompt.num_prefilled > 0
        params = self._stopping_at(question.template, knobs.params) if prompt.is_templated else knobs.params
        generation = self.engine.stream(prompt.ids, params, is_cancelled=is_cancelled, continues_text=continues)
        return Asked(question, knobs, prompt, generation, clock, is_cancelled)

    def _stopping_at(self, template: str | None, params: SamplingParams) -> SamplingParams:
        """The knobs with the token that closes a turn of a template that was chosen for this question."""
        templates = self.prompter.templates
        closing = None if template is None or params.ignore_eos else templates.closing_id(templates.chosen(template))
        if closing is None or closing in self.engine.stop_token_ids:
            return params
        return params.model_copy(update={"stop_token_ids": [*params.stop_token_ids, closing]})

    def document(self, asked: Asked) -> dict[str, Any]:
        """The document of `chat --json` for a question that has been answered."""
        question, knobs, prompt = asked.question, asked.knobs, asked.prompt
        generation, clock = asked.generation, asked.clock
        scored = None
        if knobs.params.prompt_logprobs is not None and not asked.is_cancelled():
            tokens = self.engine.prompt_logprobs(prompt.ids, knobs.params.prompt_logprobs)
            scored = [token and self.documents.logprob(token) for token in tokens]
        return {
            "version": VERSION,
            "prompt": question.text,
            "prompt_ids": list(prompt.ids),
            "prefill": self.documents.prefill(prompt),
            "candidates": [
                self.documents.candidate(candidate, knobs.params, prompt) for candidate in generation.candidates
            ],
            "prompt_logprobs": scored,
            "usage": {
                "prompt_tokens": len(prompt.ids),
                "completion_tokens": clock.num_tokens,
                "cached_tokens": generation.num_reused,
            },
            "seconds_to_first_token": clock.seconds_to_first,
            "tokens_per_second": clock.tokens_per_second(len(generation.candidates)),
            "ignored_knobs": sorted(knobs.ignored),
            "ignored_reasons": dict(knobs.ignored),
            "knobs": knobs.to_dict(),
            "notes": list(knobs.notes),
            "seed": generation.seed if generation.uses_seed else None,
            "rendered": prompt.text,
            "template": self.prompter.describe(question.template, question.template_kwargs)
            if prompt.is_templated
            else None,
            "model": {"name": self.name, "step": self.loaded.source.step, "device": str(self.loaded.device)},
            "stamp": self.stamp,
        }


def _num_rows(params: SamplingParams) -> int:
    """How many answers are computed at the same time."""
    return params.beam_width if params.use_beam_search else params.best_of or params.n


def _changed(sampling: Mapping[str, Any]) -> dict[str, Any]:
    """The knobs of a run's configuration that are not at their default; the file holds all of them."""
    knobs = sampling_knobs()
    return {name: value for name, value in sampling.items() if name in knobs and value != knobs[name].default}
