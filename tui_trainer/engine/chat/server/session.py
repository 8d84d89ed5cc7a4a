"""A session with a model behind a server: the same questions, items and documents as with one in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing
from typing import Any, Literal

from tui_trainer.engine.chat.clock import Clock
from tui_trainer.engine.chat.question import Question
from tui_trainer.engine.chat.reply import read_reply
from tui_trainer.engine.chat.server.address import read_address
from tui_trainer.engine.chat.server.answers import Answers
from tui_trainer.engine.chat.server.discovery import chosen_model, look_at
from tui_trainer.engine.chat.server.http import Http
from tui_trainer.engine.generate.knobs import DEFAULT, YOURS, ResolvedKnobs, inspect_knobs, resolve_knobs
from tui_trainer.errors import CancelledError, UsageError

VERSION = 1


class ServerSession:
    """Answers questions by a server.

    Args:
        name: the address, as the user typed it.

    Raises:
        WorkbenchError: the server cannot be reached, or has no such model.
    """

    kind: Literal["server"] = "server"

    def __init__(self, name: str) -> None:
        self.name = name
        found = look_at(read_address(name))
        self._found = found
        self._address = found.address
        self._dialect = found.dialect
        self._model = chosen_model(found)

    def describe(self) -> dict[str, Any]:
        """The model as a JSON object, with the fields of a local one; what a server does not say is None."""
        note = f"{self._dialect.name} server"
        if not self._address.is_private:
            note += "; what is asked crosses the network unencrypted, and no key is sent"
        return {
            "name": self.name,
            "kind": self.kind,
            "dialect": self._dialect.name,
            "model": self._model,
            "path": self._address.url,
            "adapter": None,
            "run": None,
            "step": None,
            "stamp": None,
            "num_parameters": None,
            "device": "server",
            "dtype": "",
            "decode": {"kind": "server", "note": ""},
            "context_length": self._found.context_length,
            "has_template": True,
            "template": None,
            "stop_tokens": [],
            "defaults": {},
            "default_sources": {},
            "untranslatable": self._dialect.untranslatable,
            "note": note,
        }

    def resolve(self, params: Mapping[str, Any]) -> ResolvedKnobs:
        """The knobs that count, those that the server does not take among the ignored ones.

        Raises:
            ConfigurationError: as `resolve_knobs`.
        """
        knobs = resolve_knobs([(YOURS, params)])
        lost = self._lost(name for name, source in knobs.sources.items() if source != DEFAULT)
        notes = [text for name, text in self._dialect.notes.items() if knobs.sources[name] != DEFAULT]
        return ResolvedKnobs(knobs.params, knobs.sources, {**knobs.ignored, **lost}, (*knobs.notes, *notes))

    def inspect(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """See `inspect_knobs`; the knobs that the server does not take are among the ignored ones."""
        found = inspect_knobs([(YOURS, params)])
        return found | {"ignored": {**found["ignored"], **self._lost(params)}}

    def _remedy(self, knobs: ResolvedKnobs) -> str:
        """What to do where the server refuses a request, as far as a knob is known to be why."""
        return " ".join(text for name, text in self._dialect.remedies.items() if knobs.sources[name] != DEFAULT)

    def _lost(self, names: Iterable[str]) -> dict[str, str]:
        untranslatable = self._dialect.untranslatable
        return {name: f"{self._dialect.name}: {untranslatable[name]}" for name in names if name in untranslatable}

    def num_rows(self, question: Question) -> int:
        """How many answers are computed for a question."""
        params = self.resolve(question.params).params
        return params.beam_width if params.use_beam_search else params.n

    def answer(
        self, question: Question, is_cancelled: Callable[[], bool] = lambda: False
    ) -> Generator[dict[str, Any], None, dict[str, Any]]:
        """Answer a question; see `ChatSession.answer`. Tokens have ids only where the server sends them.

        Raises:
            WorkbenchError: the server cannot be reached, refuses, or breaks off.
        """
        clock = Clock(time.perf_counter())
        knobs = self.resolve(question.params)
        is_stream = not (self._dialect.name == "vllm" and knobs.params.use_beam_search)
        path, body = self._request(question, knobs)
        answers = Answers(has_logprobs=knobs.params.logprobs is not None)
        if is_stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        values = Http(self._address, is_cancelled).ask(path, body, is_stream=is_stream)
        try:
            with closing(values):
                for value in values:
                    for item in answers.take(value):
                        clock.tick()
                        yield item
                    if is_cancelled() or answers.is_endless:
                        break
        except CancelledError:
            pass
        except UsageError as error:
            raise UsageError(error.what, where=error.where, remedy=error.remedy or self._remedy(knobs)) from None
        return self._document(question, knobs, answers, clock)

    def _request(self, question: Question, knobs: ResolvedKnobs) -> tuple[str, dict[str, Any]]:
        body: dict[str, Any] = {"model": self._model, **self._dialect.request(knobs.params, self._found.context_length)}
        if question.prompt is not None:
            if "top_logprobs" in body:
                body["logprobs"] = body.pop("top_logprobs")
            return "/completions", body | {"prompt": question.prompt + question.prefill}
        if question.template is not None:
            raise UsageError(
                f"the server applies a chat template of its own, {question.template!r} cannot be asked for",
                remedy="Take the model's own again, or talk to the model itself.",
            )
        messages = [dict(message) for message in question.messages]
        if question.prefill:
            if not self._dialect.can_prefill:
                raise UsageError(
                    f"a reply cannot be made to begin with a text: {self._dialect.name} has no way to say so",
                    remedy="Leave it out, or talk to the model itself.",
                )
            messages.append({"role": "assistant", "content": question.prefill})
            body |= self._dialect.continuing
        if question.tools:
            body["tools"] = [dict(tool) for tool in question.tools]
        if question.template_kwargs and self._dialect.name in ("vllm", "sglang", "llama.cpp"):
            body["chat_template_kwargs"] = dict(question.template_kwargs)
        return "/chat/completions", body | {"messages": messages}

    def _document(self, question: Question, knobs: ResolvedKnobs, answers: Answers, clock: Clock) -> dict[str, Any]:
        candidates = answers.candidates()
        for candidate in candidates:
            reply = read_reply(question.prefill + candidate["text"]).to_dict()
            reasoning, calls = candidate.pop("reasoning"), candidate.pop("calls")
            thinking = {"text": reasoning, "is_closed": True} if reasoning else reply["thinking"]
            candidate |= {**reply, "thinking": thinking, "tool_calls": calls or reply["tool_calls"]}
        usage = answers.usage
        num_completion = usage.get("completion_tokens") or clock.num_tokens
        return {
            "version": VERSION,
            "prompt": question.text,
            "prompt_ids": answers.prompt_ids,
            "prefill": {"text": question.prefill, "ids": []} if question.prefill else None,
            "candidates": candidates,
            "prompt_logprobs": None,
            "usage": {
                "prompt_tokens": usage.get("prompt_tokens"),
                "completion_tokens": num_completion,
                "cached_tokens": (usage.get("prompt_tokens_details") or {}).get("cached_tokens"),
            },
            "seconds_to_first_token": clock.seconds_to_first,
            "tokens_per_second": clock.tokens_per_second(len(candidates)),
            "ignored_knobs": sorted(knobs.ignored),
            "ignored_reasons": dict(knobs.ignored),
            "knobs": knobs.to_dict(),
            "notes": [*knobs.notes, *(["the server went on without end and was left"] if answers.is_endless else [])],
            "seed": knobs.params.seed,
            "rendered": None,
            "template": None,
            "model": {"name": self.name, "step": None, "device": "server"},
            "stamp": None,
        }
