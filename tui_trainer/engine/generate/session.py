"""A model to talk to: from a question and knobs to items as they come and the document of `chat --json`.

Used by the chat worker and by the command `chat`.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Generator, Mapping
from typing import Any

import torch

from tui_trainer.config.sampling import SamplingParams
from tui_trainer.engine.generate.candidates import Candidate, TokenLogprob, TokenStep
from tui_trainer.engine.generate.engine import Engine, Generation
from tui_trainer.engine.generate.knobs import YOURS, ResolvedKnobs, model_defaults, resolve_knobs, sampling_knobs
from tui_trainer.engine.generate.prompt import Prompt, Prompter, habits_of
from tui_trainer.engine.generate.question import Question
from tui_trainer.engine.models.load import LoadedModel, load_model_for_chat
from tui_trainer.engine.models.placement import free_memory
from tui_trainer.engine.models.stop_tokens import end_of_turn_id
from tui_trainer.engine.report import Report, ignore_report
from tui_trainer.errors import ConfigurationError, RunFailedError

VERSION = 1
_SPARE_BYTES = 256 << 20
"""Beside keys and values: logits, activations of a chunk of the prompt."""


class ChatSession:
    """Answers questions with one loaded model and keeps what it needs from turn to turn.

    Args:
        name: what the user called the model.
        loaded: the model.
    """

    def __init__(self, name: str, loaded: LoadedModel) -> None:
        self.name = name
        self.loaded = loaded
        habits = habits_of(loaded.source.run)
        self.prompter = Prompter(loaded.tokenizer, habits, name)
        if self.prompter.template is not None:
            loaded.tokenizer.chat_template = self.prompter.template.text
        closing = end_of_turn_id(loaded.tokenizer)
        self._stop = tuple(dict.fromkeys([*loaded.stop_token_ids, *([closing] if closing is not None else [])]))
        self.engine = Engine(loaded.model, loaded.tokenizer, self._stop, loaded.context_length)
        base: Any = loaded.model
        self._layers = [("model", model_defaults(getattr(base, "generation_config", None)))]
        self._note = self._add_run_layer(_changed(habits.sampling))

    @classmethod
    def load(
        cls,
        model: str,
        *,
        adapter: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        report: Report = ignore_report,
    ) -> ChatSession:
        """Load a model and make it ready to answer.

        Raises:
            WorkbenchError: as `load_model_for_chat`.
        """
        return cls(model, load_model_for_chat(model, adapter=adapter, device=device, dtype=dtype, report=report))

    def _add_run_layer(self, sampling: dict[str, Any]) -> str:
        """Take over the run's knobs, unless they contradict what the model sets; returns a remark if so."""
        try:
            resolve_knobs([*self._layers, ("run", sampling)])
        except ConfigurationError as error:
            return f"the run's [sampling] is left out: {error}"
        self._layers.append(("run", sampling))
        return ""

    def describe(self) -> dict[str, Any]:
        """The model as a JSON object: the result of the worker's `load`."""
        loaded, defaults = self.loaded, self.resolve({})
        source = loaded.source
        own = {name: layer for name, layer in defaults.sources.items() if layer != "default"}
        return {
            "name": self.name,
            "path": str(source.path),
            "adapter": str(source.adapter) if source.adapter else None,
            "run": source.run.id if source.run else None,
            "step": source.step,
            "num_parameters": loaded.num_parameters,
            "device": str(loaded.device),
            "dtype": str(loaded.dtype).removeprefix("torch."),
            "context_length": loaded.context_length,
            "has_template": self.prompter.template is not None,
            "template": self.prompter.describe(),
            "stop_tokens": [{"id": token, "text": self._text_of(token)} for token in self._stop],
            "defaults": {name: getattr(defaults.params, name) for name in own},
            "default_sources": own,
            "note": "; ".join(filter(None, (loaded.reason, self.prompter.note, self._note))),
        }

    def resolve(self, params: Mapping[str, Any]) -> ResolvedKnobs:
        """The knobs that count when the user sets `params`.

        Raises:
            ConfigurationError: as `resolve_knobs`.
        """
        return resolve_knobs([*self._layers, (YOURS, params)])

    def num_rows(self, question: Question) -> int:
        """How many answers are computed for a question; one alone can be shown as it comes."""
        return _num_rows(self.resolve(question.params).params)

    def prompt_for(self, question: Question) -> Prompt:
        """What the model is given for a question.

        Raises:
            DataError: the template refuses the messages.
        """
        if question.prompt is not None:
            return self.prompter.from_text(question.prompt)
        return self.prompter.from_messages(question.messages, question.template_kwargs)

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
        started = time.perf_counter()
        knobs = self.resolve(question.params)
        prompt = self.prompt_for(question)
        generation = self.engine.stream(
            prompt.ids, knobs.params, is_cancelled=is_cancelled, continues_text=not prompt.is_templated
        )
        self._check_memory(prompt, knobs.params)
        clock = _Clock(started)
        try:
            for step in generation:
                clock.tick()
                yield self._item(step)
            document = self._document(question, prompt, knobs, generation, clock)
            if knobs.params.prompt_logprobs is not None and not is_cancelled():
                scored = self.engine.prompt_logprobs(prompt.ids, knobs.params.prompt_logprobs)
                document["prompt_logprobs"] = [token and self._logprob(token) for token in scored]
        except (torch.OutOfMemoryError, MemoryError):
            raise self._out_of_memory(prompt, knobs.params) from None
        except RuntimeError as error:
            if "not enough memory" not in str(error) and "can't allocate memory" not in str(error):
                raise
            raise self._out_of_memory(prompt, knobs.params) from None
        return document

    def _document(
        self, question: Question, prompt: Prompt, knobs: ResolvedKnobs, generation: Generation, clock: _Clock
    ) -> dict[str, Any]:
        return {
            "version": VERSION,
            "prompt": question.text,
            "prompt_ids": list(prompt.ids),
            "candidates": [self._candidate(candidate, knobs.params) for candidate in generation.candidates],
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

    def _candidate(self, candidate: Candidate, params: SamplingParams) -> dict[str, Any]:
        has_logprobs = params.logprobs is not None
        return {
            "index": candidate.index,
            "text": candidate.text,
            "ids": candidate.ids,
            "finish_reason": candidate.finish_reason,
            "stop_reason": candidate.stop_reason,
            "cumulative_logprob": candidate.cumulative_logprob,
            "logprobs": [self._logprob(token) for token in candidate.tokens] if has_logprobs else None,
        }

    def _item(self, step: TokenStep) -> dict[str, Any]:
        item: dict[str, Any] = {
            "candidate": step.candidate,
            "text": step.text,
            "id": step.token.id,
            "logprob": step.token.logprob,
        }
        if step.token.rank is not None:
            item |= {"rank": step.token.rank, "top": self._logprob(step.token)["top"]}
        if step.finish_reason is not None:
            item |= {"finish_reason": step.finish_reason, "stop_reason": step.stop_reason}
        return item

    def _logprob(self, token: TokenLogprob) -> dict[str, Any]:
        return {
            "id": token.id,
            "text": self._text_of(token.id),
            "logprob": token.logprob,
            "rank": token.rank,
            "top": [{"id": id_, "text": self._text_of(id_), "logprob": value} for id_, value in token.top],
        }

    def _text_of(self, token: int) -> str:
        return str(self.loaded.tokenizer.decode([token]))

    def _check_memory(self, prompt: Prompt, params: SamplingParams) -> None:
        """The system ends a process that takes more main memory than there is, so it is asked for beforehand."""
        available = free_memory(self.loaded.device)
        if available is not None and self._needed(prompt, params) > available:
            raise self._out_of_memory(prompt, params)

    def _needed(self, prompt: Prompt, params: SamplingParams) -> int:
        """Bytes of keys and values of the prompt for every row."""
        config: Any = self.loaded.model.config
        text = config.get_text_config()
        heads = getattr(text, "num_key_value_heads", None) or getattr(text, "num_attention_heads", 1)
        head_dim = getattr(text, "head_dim", None) or text.hidden_size // getattr(text, "num_attention_heads", 1)
        per_token = 2 * text.num_hidden_layers * heads * head_dim * self.loaded.dtype.itemsize
        return int(_num_rows(params) * len(prompt.ids) * per_token) + _SPARE_BYTES

    def _out_of_memory(self, prompt: Prompt, params: SamplingParams) -> RunFailedError:
        self.engine.forget()
        gc.collect()
        if self.loaded.device.type == "cuda":
            torch.cuda.empty_cache()
        available = free_memory(self.loaded.device)
        has = "" if available is None else f", and {available / 2**30:.1f} GiB are free"
        needed = f"{self._needed(prompt, params) / 2**30:.1f} GiB or more"
        return RunFailedError(
            f"out of memory on {self.loaded.device}: a prompt of {len(prompt.ids)} tokens, answered "
            f"{_num_rows(params)} times at once, needs {needed}{has}",
            remedy="Ask for fewer answers (n, best_of, beam_width), shorten the conversation, or use the device cpu.",
        )


def _num_rows(params: SamplingParams) -> int:
    """How many answers are computed at the same time."""
    return params.beam_width if params.use_beam_search else params.best_of or params.n


def _changed(sampling: Mapping[str, Any]) -> dict[str, Any]:
    """The knobs of a run's configuration that are not at their default; the file holds all of them."""
    knobs = sampling_knobs()
    return {name: value for name, value in sampling.items() if name in knobs and value != knobs[name].default}


class _Clock:
    """When the first token came and how fast the others followed."""

    def __init__(self, started: float) -> None:
        self._started = started
        self._first: float | None = None
        self._last = started
        self.num_tokens = 0

    def tick(self) -> None:
        self._last = time.perf_counter()
        self._first = self._first or self._last
        self.num_tokens += 1

    @property
    def seconds_to_first(self) -> float | None:
        return None if self._first is None else self._first - self._started

    def tokens_per_second(self, num_rows: int) -> float | None:
        """Tokens of all answers in a second, without the prompt and the first token of each."""
        if self._first is None:
            return None
        later, seconds = self.num_tokens - num_rows, self._last - self._first
        if later > 0 and seconds > 0:
            return later / seconds
        return self.num_tokens / max(self._last - self._started, 1e-9)
