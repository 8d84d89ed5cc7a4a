"""Answers in the shapes that vLLM, SGLang, llama.cpp and ollama document: ids, thoughts, ends, errors, usage."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from tests.engine.chat.conftest import MESSAGES, Caller
from tests.engine.chat.fake_server import Fake, begin_stream, send, send_event, serving
from tui_trainer.errors import UsageError, WorkbenchError

Worker = Callable[[dict[str, Any]], Caller]


@pytest.fixture
def fake() -> Iterator[Fake]:
    with serving(Fake()) as running:
        yield running


@pytest.fixture
def worker(fake: Fake) -> Worker:
    def load(model: dict[str, Any]) -> Caller:
        fake.models = {"object": "list", "data": [{"id": "m", "object": "model", "created": 1, **model}]}
        caller = Caller()
        caller.load(fake.url)
        return caller

    return load


def streaming(*events: dict[str, Any]) -> Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]:
    def answer(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        begin_stream(handler)
        for event in events:
            send_event(handler, {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m", **event})
        send_event(handler, "[DONE]")

    return answer


def delta(words: dict[str, Any], end: str | None = None, **more: Any) -> dict[str, Any]:
    return {"index": 0, "delta": words, "finish_reason": end, **more}


def token(text: str, logprob: float, top: Sequence[tuple[str, float]] = (), ids: Sequence[int] = ()) -> dict[str, Any]:
    """An entry of `logprobs.content`; with ids as llama.cpp has them, the token's first, then those of its top."""
    tops = [{"token": one, "logprob": value, "bytes": list(one.encode())} for one, value in top]
    entry = {"token": text, "logprob": logprob, "bytes": list(text.encode()), "top_logprobs": tops}
    if not ids:
        return entry
    listed = [{"id": one, **each} for one, each in zip(ids[1:], tops, strict=True)]
    return {"id": ids[0], **entry, "top_logprobs": listed}


def test_llama_cpp_sends_ids_which_are_kept(fake: Fake, worker: Worker) -> None:
    talk = worker({"owned_by": "llamacpp", "meta": {"n_ctx": 2048}})
    first = token("Hel", -0.5, [("Hi", -0.2), ("Hel", -0.5)], [15, 14, 15])
    second = token("lo", -0.1, [("lo", -0.1), ("p", -3.0)], [16, 16, 17])
    usage = {
        "completion_tokens": 2,
        "prompt_tokens": 7,
        "total_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 3},
    }
    fake.answer = streaming(
        {"choices": [delta({"role": "assistant", "content": None})]},
        {"choices": [delta({"content": "Hel"}, logprobs={"content": [first]})]},
        {"choices": [delta({"content": "lo"}, logprobs={"content": [second]})]},
        {"choices": [delta({}, "stop")]},
        {"choices": [], "usage": usage, "timings": {"prompt_n": 4, "predicted_per_second": 20.0}},
    )
    items, document = talk.call("generate", messages=MESSAGES, params={"logprobs": 2})
    (candidate,) = document["candidates"]
    assert candidate["ids"] == [15, 16]
    assert [item.get("id") for item in items] == [15, 16, None]
    assert [(one["id"], one["text"]) for one in candidate["logprobs"][0]["top"]] == [(14, "Hi"), (15, "Hel")]
    assert [one["rank"] for one in candidate["logprobs"]] == [2, 1]
    assert document["usage"] == {"prompt_tokens": 7, "completion_tokens": 2, "cached_tokens": 3}


def test_vllm_is_asked_for_ids_and_may_send_several_tokens_in_a_piece(fake: Fake, worker: Worker) -> None:
    talk = worker({"owned_by": "vllm", "max_model_len": 512})
    content = [token("Hel", -0.5), token("lo", -0.1)]
    fake.answer = streaming(
        {"choices": [delta({"role": "assistant", "content": ""})], "prompt_token_ids": [1, 2, 3]},
        {"choices": [delta({"content": "Hello"}, logprobs={"content": content}, token_ids=[15, 16])]},
        {"choices": [delta({"content": ""}, "stop", logprobs={"content": [token("", -0.2)]}, token_ids=[2])]},
        {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}},
    )  # fmt: skip
    items, document = talk.call("generate", messages=MESSAGES, params={"logprobs": 0})
    assert fake.requests[-1][1]["return_token_ids"] is True
    assert [(item["text"], item["id"]) for item in items] == [("Hel", 15), ("lo", 16), ("", 2)]
    assert (document["prompt_ids"], document["candidates"][0]["ids"]) == ([1, 2, 3], [15, 16, 2])


def test_ids_of_which_some_are_missing_are_none(fake: Fake, worker: Worker) -> None:
    talk = worker({"owned_by": "vllm"})
    first, second = ({"content": [token(text, -0.5)]} for text in ("Hel", "lo"))
    fake.answer = streaming(
        {"choices": [delta({"content": "Hel"}, logprobs=first, token_ids=[15])]},
        {"choices": [delta({"content": "lo"}, "length", logprobs=second, token_ids=[-1, "x"])]},
    )
    document = talk.ask(logprobs=0)
    assert (document["candidates"][0]["ids"], document["candidates"][0]["text"]) == ([], "Hello")


def test_sglang_names_what_stopped_it_and_its_thoughts(fake: Fake, worker: Worker) -> None:
    talk = worker({"owned_by": "sglang", "root": "m", "max_model_len": 512})
    fake.answer = streaming(
        {"choices": [delta({"role": "assistant", "content": ""}, matched_stop=None)]},
        {"choices": [delta({"content": None, "reasoning_content": "hm"}, matched_stop=None)]},
        {"choices": [delta({"content": "four"}, matched_stop=None)]},
        {"choices": [delta({"content": None}, "stop", matched_stop=" END")]},
    )
    (candidate,) = talk.ask(stop=[" END"], include_stop_str_in_output=True)["candidates"]
    assert fake.requests[-1][1]["no_stop_trim"] is True
    assert (candidate["text"], candidate["finish_reason"], candidate["stop_reason"]) == ("four", "stop", " END")
    assert candidate["thinking"] == {"text": "hm", "is_closed": True}


def test_an_answer_that_a_server_gave_up_says_so(fake: Fake, worker: Worker) -> None:
    talk = worker({"owned_by": "sglang"})
    fake.answer = streaming({"choices": [delta({"content": "ha"}, "abort", matched_stop=None)]})
    assert talk.ask()["candidates"][0]["finish_reason"] == "abort"


def test_ollama_tells_thoughts_apart_and_counts(fake: Fake, worker: Worker) -> None:
    talk = worker({"owned_by": "library"})
    usage = {"prompt_tokens": 26, "completion_tokens": 2, "total_tokens": 28}
    fake.answer = streaming(
        {
            "choices": [delta({"role": "assistant", "content": "", "reasoning": "hm"})],
            "system_fingerprint": "fp_ollama",
        },
        {"choices": [delta({"role": "assistant", "content": "four"})], "system_fingerprint": "fp_ollama"},
        {"choices": [delta({"role": "assistant", "content": ""}, "stop")], "system_fingerprint": "fp_ollama"},
        {"choices": [], "usage": usage, "system_fingerprint": "fp_ollama"},
    )
    document = talk.ask(seed=3)
    (candidate,) = document["candidates"]
    assert (candidate["text"], candidate["thinking"], candidate["ids"]) == (
        "four",
        {"text": "hm", "is_closed": True},
        [],
    )
    assert document["usage"]["completion_tokens"] == 2


def error(message: str, kind: str, code: int | None, **more: Any) -> dict[str, Any]:
    return {"message": message, "type": kind, "code": code, **more}


FULL = error("request (9 tokens) exceeds the context size (8 tokens)", "exceed_context_size_error", 400, n_ctx=8)
REFUSALS: list[tuple[str, int, dict[str, Any], str]] = [
    ("vllm", 400, {"error": error("max_tokens is too large: 9", "BadRequestError", 400, param=None)}, "too large"),
    ("sglang", 400, {"object": "error", **error("longer than the context", "BadRequest", 400)}, "longer than"),
    ("llamacpp", 400, {"error": FULL}, "exceeds the context"),
    ("llamacpp", 503, {"error": error("Loading model", "unavailable_error", 503)}, "Loading model"),
    ("library", 404, {"error": error("model 'm' not found", "not_found_error", None)}, "model 'm' not found"),
]


@pytest.mark.parametrize(("owner", "status", "value", "words"), REFUSALS)
def test_what_each_server_refuses_is_told_in_its_words(
    fake: Fake, worker: Worker, owner: str, status: int, value: dict[str, Any], words: str
) -> None:
    talk = worker({"owned_by": owner})
    fake.answer = lambda handler, body: send(handler, status, json.dumps(value).encode())
    with pytest.raises(WorkbenchError, match=words):
        talk.ask()


def test_a_seed_that_vllm_refuses_is_explained(fake: Fake, worker: Worker) -> None:
    talk = worker({"owned_by": "vllm"})
    refusal = {
        "detail": [{"loc": ["body", "seed"], "msg": "Input should be less than or equal to 9223372036854775807"}]
    }
    fake.answer = lambda handler, body: send(handler, 422, json.dumps(refusal).encode())
    with pytest.raises(UsageError, match=r"body\.seed") as caught:
        talk.ask(seed=10**20)
    assert "at most 9223372036854775807" in caught.value.remedy
