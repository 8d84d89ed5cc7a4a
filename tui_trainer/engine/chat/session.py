"""A model to talk to: from a question and knobs to items as they come and the document of `chat --json`.

Used by the chat worker and by the command `chat`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager
from typing import Any

from tui_trainer.config.sampling import SamplingParams
from tui_trainer.engine.chat.clock import Clock
from tui_trainer.engine.chat.documents import Documents
from tui_trainer.engine.chat.memory import MemoryGuard
from tui_trainer.engine.chat.prompt import Prompt, Prompter, habits_of
from tui_trainer.engine.chat.question import Question
from tui_trainer.engine.generate.engine import Engine, Generation
from tui_trainer.engine.generate.forward.choose import choose_forward
from tui_trainer.engine.generate.knobs import YOURS, ResolvedKnobs, model_defaults, resolve_knobs, sampling_knobs
from tui_trainer.engine.models.int8 import INT8
from tui_trainer.engine.models.load import LoadedModel, load_model_for_chat
from tui_trainer.engine.models.stop_tokens import end_of_turn_id
from tui_trainer.engine.report import Report, ignore_report
from tui_trainer.errors import ConfigurationError

VERSION = 1


class ChatSession:
    """Answers questions with one loaded model and keeps what it needs from turn to turn.

    Args:
        name: what the user called the model.
        loaded: the model.
        decode: which forward pass (`choose_forward`).

    Attributes:
        layers: the knobs below the user's, as `resolve_knobs` takes them: the model's, the run's.
    """

    kind = "local"

    def __init__(self, name: str, loaded: LoadedModel, *, decode: str = "auto") -> None:
        self.name = name
        self.loaded = loaded
        habits = habits_of(loaded.source.run)
        self.prompter = Prompter(loaded.tokenizer, habits, name)
        if self.prompter.template is not None:
            loaded.tokenizer.chat_template = self.prompter.template.text
        closing = end_of_turn_id(loaded.tokenizer)
        self._stop = tuple(dict.fromkeys([*loaded.stop_token_ids, *([closing] if closing is not None else [])]))
        self._choice = choose_forward(loaded.model, decode)
        self.engine = Engine(
            loaded.model, loaded.tokenizer, self._stop, loaded.context_length, forward=self._choice.forward
        )
        self.documents = Documents(loaded.tokenizer)
        self._memory = MemoryGuard(loaded.model, loaded.device, loaded.dtype, self.engine.forget)
        base: Any = loaded.model
        self.layers = [("model", model_defaults(getattr(base, "generation_config", None)))]
        self._note = self._add_run_layer(_changed(habits.sampling))

    @classmethod
    def load(
        cls,
        model: str,
        *,
        adapter: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        decode: str = "auto",
        report: Report = ignore_report,
    ) -> ChatSession:
        """Load a model and make it ready to answer.

        Raises:
            WorkbenchError: as `load_model_for_chat`.
        """
        loaded = load_model_for_chat(model, adapter=adapter, device=device, dtype=dtype, report=report)
        return cls(model, loaded, decode=decode)

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
            "num_parameters": loaded.num_parameters,
            "device": str(loaded.device),
            "dtype": INT8 if loaded.is_int8 else str(loaded.dtype).removeprefix("torch."),
            "decode": {"kind": self._choice.forward.kind, "note": self._choice.note},
            "context_length": loaded.context_length,
            "has_template": self.prompter.template is not None,
            "template": self.prompter.describe(),
            "stop_tokens": [{"id": token, "text": self.documents.text_of(token)} for token in self._stop],
            "defaults": {name: getattr(defaults.params, name) for name in own},
            "default_sources": own,
            "note": "; ".join(filter(None, (loaded.reason, self.prompter.note, self._note))),
        }

    def resolve(self, params: Mapping[str, Any]) -> ResolvedKnobs:
        """The knobs that count when the user sets `params`.

        Raises:
            ConfigurationError: as `resolve_knobs`.
        """
        return resolve_knobs([*self.layers, (YOURS, params)])

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
        clock = Clock(time.perf_counter())
        knobs = self.resolve(question.params)
        prompt = self.prompter.prompt_for(question)
        continues = not prompt.is_templated or prompt.num_prefilled > 0
        generation = self.engine.stream(prompt.ids, knobs.params, is_cancelled=is_cancelled, continues_text=continues)
        with self.guarded(len(prompt.ids), _num_rows(knobs.params)):
            for step in generation:
                clock.tick()
                yield self.documents.item(step)
            document = self._document(question, prompt, knobs, generation, clock)
            if knobs.params.prompt_logprobs is not None and not is_cancelled():
                scored = self.engine.prompt_logprobs(prompt.ids, knobs.params.prompt_logprobs)
                document["prompt_logprobs"] = [token and self.documents.logprob(token) for token in scored]
        return document

    def _document(
        self, question: Question, prompt: Prompt, knobs: ResolvedKnobs, generation: Generation, clock: Clock
    ) -> dict[str, Any]:
        return {
            "version": VERSION,
            "prompt": question.text,
            "prompt_ids": list(prompt.ids),
            "prefill": self.documents.prefill(prompt),
            "candidates": [
                self.documents.candidate(candidate, knobs.params, prompt) for candidate in generation.candidates
            ],
            "prompt_logprobs": None,
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
            "template": self.prompter.describe(question.template_kwargs) if prompt.is_templated else None,
            "model": {"name": self.name, "step": self.loaded.source.step, "device": str(self.loaded.device)},
        }


def _num_rows(params: SamplingParams) -> int:
    """How many answers are computed at the same time."""
    return params.beam_width if params.use_beam_search else params.best_of or params.n


def _changed(sampling: Mapping[str, Any]) -> dict[str, Any]:
    """The knobs of a run's configuration that are not at their default; the file holds all of them."""
    knobs = sampling_knobs()
    return {name: value for name, value in sampling.items() if name in knobs and value != knobs[name].default}
