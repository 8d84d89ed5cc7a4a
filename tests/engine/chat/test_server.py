"""Models behind servers of all dialects: knobs translated or named, failures told, the session alive after each."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tests.engine.chat.conftest import MESSAGES, Caller
from tests.engine.chat.fake_server import Fake, begin_stream, chunk, hello, send, send_event, serving
from tui_trainer.engine.chat.server import http
from tui_trainer.engine.chat.server.address import read_address
from tui_trainer.engine.chat.server.dialect import LLAMA_CPP, OLLAMA, SGLANG, VLLM, Dialect
from tui_trainer.errors import MachineError, RunFailedError, UsageError, WorkbenchError
from tui_trainer.wire.server import Cancellation

OWNERS = {"vllm": "vllm", "sglang": "sglang", "llama.cpp": "llamacpp", "ollama": "library"}


@pytest.fixture
def fake() -> Iterator[Fake]:
    with serving(Fake()) as running:
        yield running


@pytest.fixture
def worker(fake: Fake) -> Caller:
    caller = Caller()
    caller.load(fake.url)
    return caller


def test_an_answer_streams_in_the_shape_of_a_local_one(worker: Caller, fake: Fake) -> None:
    items, document = worker.call("generate", messages=MESSAGES, params={"logprobs": 2})
    assert [item["text"] for item in items] == ["Hel", "lo"]
    (candidate,) = document["candidates"]
    assert (candidate["text"], candidate["finish_reason"], candidate["stop_reason"]) == ("Hello", "stop", 2)
    assert candidate["cumulative_logprob"] == -0.5
    assert candidate["logprobs"][0]["rank"] == 2
    assert document["usage"] == {"prompt_tokens": 7, "completion_tokens": 2, "cached_tokens": None}
    path, body = fake.requests[-1]
    assert path == "/v1/chat/completions"
    assert (body["model"], body["messages"], body["stream"]) == ("tiny", MESSAGES, True)
    assert (body["logprobs"], body["top_logprobs"]) == (True, 2)
    json.dumps(document)


def test_its_documents_have_the_fields_of_a_local_model(worker: Caller, tiny_folder: Path) -> None:
    local = Caller()
    described = local.load(tiny_folder)
    assert set(described) <= set(worker.call("load", model=worker.server._slots.loaded("a").name)[1])
    ours, theirs = local.ask(max_tokens=2), worker.ask(max_tokens=2)
    assert set(ours) == set(theirs)
    assert set(ours["candidates"][0]) == set(theirs["candidates"][0])


def test_all_knobs_are_sent_at_their_values_since_the_servers_defaults_differ(worker: Caller, fake: Fake) -> None:
    worker.ask(top_k=-1, min_p=0.1, repetition_penalty=1.1, stop=["x"], seed=3, min_tokens=2, n=2)
    _, body = fake.requests[-1]
    expected = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.1, "repetition_penalty": 1.1, "stop": ["x"]}
    expected |= {"seed": 3, "min_tokens": 2, "n": 2, "max_tokens": 256, "ignore_eos": False}
    assert {key: body[key] for key in expected} == expected
    assert "best_of" not in body


def test_llama_server_is_told_to_sample_in_the_same_order(fake: Fake) -> None:
    fake.models = {"data": [{"id": "tiny", "owned_by": "llamacpp", "meta": {"n_ctx": 2048}}]}
    worker = Caller()
    assert worker.load(fake.url)["context_length"] == 2048
    document = worker.ask(repetition_penalty=1.2, presence_penalty=0.5, min_tokens=3, temperature=0.7)
    _, body = fake.requests[-1]
    assert body["samplers"] == ["penalties", "temperature", "min_p", "top_k", "top_p"]
    assert (body["repeat_penalty"], body["repeat_last_n"]) == (1.2, 2048)
    assert document["ignored_reasons"] == {"min_tokens": "llama.cpp: the server has no such setting"}
    assert any("counts the prompt" in note for note in document["notes"])


@pytest.mark.parametrize("dialect", [VLLM, SGLANG, LLAMA_CPP, OLLAMA], ids=lambda dialect: dialect.name)
def test_dialects_are_told_by_who_owns_the_models(dialect: Dialect, fake: Fake) -> None:
    fake.models = {"data": [{"id": "tiny", "owned_by": OWNERS[dialect.name]}]}
    _, found = Caller().call("servers", url=fake.url)
    assert (found["dialect"], found["models"]) == (dialect.name, ["tiny"])
    assert set(found["untranslatable"]) == set(dialect.untranslatable)
    assert all(found["untranslatable"].values())


def test_dialects_are_told_by_their_own_paths_else(fake: Fake) -> None:
    fake.models = {"data": [{"id": "tiny"}]}
    assert Caller().call("servers", url=fake.url)[1]["dialect"] == "openai"
    fake.pages = {"/props": {"default_generation_settings": {}}}
    assert Caller().call("servers", url=fake.url)[1]["dialect"] == "llama.cpp"
    fake.pages = {"/api/version": {"version": "0.12"}}
    assert Caller().call("servers", url=fake.url)[1]["dialect"] == "ollama"


def test_untranslatable_knobs_are_named_and_nothing_of_them_is_sent(fake: Fake) -> None:
    fake.models = {"data": [{"id": "tiny", "owned_by": "library"}]}
    worker = Caller()
    assert "top_k" in worker.load(fake.url)["untranslatable"]
    document = worker.ask(top_k=5, n=2, temperature=0.5)
    assert set(document["ignored_knobs"]) == {"top_k", "n"}
    _, body = fake.requests[-1]
    assert not {"top_k", "n", "min_p"} & set(body)
    _, knobs = worker.call("knobs", params={"top_k": 5})
    assert knobs["ignored"]["top_k"].startswith("ollama:")


def test_beams_of_vllm_come_whole(worker: Caller, fake: Fake) -> None:
    worker.ask(use_beam_search=True, beam_width=3, n=3, temperature=0.0, length_penalty=0.5)
    _, body = fake.requests[-1]
    assert (body["use_beam_search"], body["n"], body["length_penalty"]) == (True, 3, 0.5)
    assert "stream" not in body


def test_a_text_is_gone_on_with_by_the_older_interface(worker: Caller, fake: Fake) -> None:
    def complete(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        begin_stream(handler)
        logprobs = {"tokens": [" a"], "token_logprobs": [-1.0], "top_logprobs": [{" a": -1.0, " b": -2.0}]}
        send_event(handler, {"choices": [{"index": 0, "text": " a", "logprobs": logprobs, "finish_reason": "length"}]})
        send_event(handler, "[DONE]")

    fake.answer = complete
    document = worker.ask("Once upon", logprobs=2)
    path, body = fake.requests[-1]
    assert (path, body["prompt"], body["logprobs"]) == ("/v1/completions", "Once upon", 2)
    (candidate,) = document["candidates"]
    assert (candidate["text"], candidate["finish_reason"]) == (" a", "length")
    assert [one["text"] for one in candidate["logprobs"][0]["top"]] == [" a", " b"]


def test_a_reply_is_made_to_begin_with_a_text_where_the_server_can(worker: Caller, fake: Fake) -> None:
    _, document = worker.call("generate", messages=MESSAGES, prefill="Sure: ")
    _, body = fake.requests[-1]
    assert body["messages"][-1] == {"role": "assistant", "content": "Sure: "}
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    assert document["candidates"][0]["answer"] == "Sure: Hello"
    fake.models = {"data": [{"id": "tiny", "owned_by": "library"}]}
    other = Caller()
    other.load(fake.url)
    with pytest.raises(UsageError, match="ollama has no way"):
        other.call("generate", messages=MESSAGES, prefill="Sure: ")


def test_thoughts_and_calls_that_the_server_tells_apart(worker: Caller, fake: Fake) -> None:
    def think(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        begin_stream(handler)
        send_event(handler, {"choices": [{"index": 0, "delta": {"reasoning_content": "hm"}}]})
        for piece in ('{"a"', ": 1}"):
            call = {"index": 0, "function": {"name": "add", "arguments": piece}}
            send_event(handler, {"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]})
        send_event(handler, chunk(finish_reason="tool_calls"))
        send_event(handler, "[DONE]")

    fake.answer = think
    (candidate,) = worker.ask()["candidates"]
    assert candidate["thinking"] == {"text": "hm", "is_closed": True}
    assert candidate["tool_calls"] == [{"name": "add", "arguments": {"a": 1}}]
    assert candidate["finish_reason"] == "stop"


def test_a_model_is_named_behind_the_address_if_there_are_several(fake: Fake) -> None:
    fake.models = {"data": [{"id": "one", "owned_by": "vllm"}, {"id": "two", "owned_by": "vllm"}]}
    worker = Caller()
    assert worker.load(f"{fake.url}#two")["model"] == "two"
    with pytest.raises(UsageError, match="2 models, and none is named: one, two"):
        worker.load(fake.url)
    with pytest.raises(UsageError, match="no model 'three'; it has one, two"):
        worker.load(f"{fake.url}#three")


# --- servers that are down, slow, or speak otherwise


def dead_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_server_that_is_down_is_told(worker: Caller) -> None:
    with pytest.raises(MachineError, match="cannot be reached"):
        worker.load(f"http://127.0.0.1:{dead_port()}/v1")


def test_a_server_that_goes_down_is_told_and_may_come_back() -> None:
    worker = Caller()
    with serving(Fake()) as fake:
        worker.load(fake.url)
    with pytest.raises(MachineError, match="cannot be reached"):
        worker.ask()


def refuse(status: int, value: Any) -> Any:
    return lambda handler, body: send(handler, status, json.dumps(value).encode())


def break_off(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    begin_stream(handler)
    send_event(handler, chunk("Hel"))


def fail_inside(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    begin_stream(handler)
    send_event(handler, chunk("Hel"))
    send_event(handler, {"error": {"message": "the engine died"}})


def send_garbage(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    begin_stream(handler)
    send_event(handler, "{not json")


FAILURES: list[tuple[Any, type[WorkbenchError], str]] = [
    (refuse(400, {"message": "max_tokens is too large"}), UsageError, r"refuses \(400\): max_tokens is too large"),
    (refuse(422, {"detail": [{"loc": ["body", "top_k"], "msg": "extra"}]}), UsageError, r"body\.top_k: extra"),
    (refuse(404, {"error": {"message": "no such model"}}), UsageError, "no such model"),
    (refuse(500, {"error": "out of memory"}), RunFailedError, r"failed \(500\): out of memory"),
    (refuse(200, [1]), UsageError, "no object"),
    (refuse(200, {"error": {"message": "late"}}), RunFailedError, "late"),
    (lambda handler, body: send(handler, 200, b"<html>hi", "text/html"), UsageError, "text/html that is not JSON"),
    (lambda handler, body: send(handler, 404, b"<html>", "text/html"), UsageError, r"nothing there \(404\)"),
    (break_off, RunFailedError, "before it was finished"),
    (fail_inside, RunFailedError, "the engine died"),
    (send_garbage, UsageError, "not JSON"),
]


@pytest.mark.parametrize(("answer", "kind", "words"), FAILURES)
def test_what_the_server_does_wrong_is_a_sentence_and_the_session_lives(
    worker: Caller, fake: Fake, answer: Any, kind: type[WorkbenchError], words: str
) -> None:
    fake.answer = answer
    with pytest.raises(kind, match=words):
        worker.ask()
    fake.answer = hello
    assert worker.ask()["candidates"][0]["text"] == "Hello"


def test_a_page_that_is_no_interface_is_told(fake: Fake) -> None:
    fake.models = b"<html>welcome</html>"
    with pytest.raises(UsageError, match="lists no models"):
        Caller().load(fake.url)


def test_a_silent_server_is_left_after_a_while(worker: Caller, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "SILENCE_SECONDS", 0.2)
    silence = threading.Event()
    fake.answer = lambda handler, body: silence.wait(10) and None  # type: ignore[assignment]
    with pytest.raises(WorkbenchError, match=r"silent for 0\.2 s|did not answer within 0\.2 s"):
        worker.ask()
    silence.set()


def test_a_slow_answer_is_cancelled_at_once_and_keeps_what_came(worker: Caller, fake: Fake) -> None:
    over = threading.Event()

    def slow(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        begin_stream(handler)
        send_event(handler, chunk("Hel"))
        over.wait(20)

    fake.answer = slow
    cancellation = Cancellation()
    generator = worker.server.generate({"messages": MESSAGES}, cancellation)
    assert next(generator)["text"] == "Hel"
    cancellation.cancel()
    started = time.monotonic()
    with pytest.raises(StopIteration) as end:
        next(generator)
    assert time.monotonic() - started < 5
    over.set()
    (candidate,) = end.value.value["candidates"]
    assert (candidate["text"], candidate["finish_reason"]) == ("Hel", "cancelled")


def test_a_server_without_end_is_left(worker: Caller, fake: Fake) -> None:
    def endless(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        begin_stream(handler)
        while True:
            send_event(handler, chunk("x" * 500_000))

    fake.answer = endless
    document = worker.ask()
    assert len(document["candidates"][0]["text"]) < 4 << 20
    assert "without end" in document["notes"][0]


# --- keys


def test_a_key_comes_from_the_environment_alone_and_is_shown_nowhere(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUI_TRAINER_API_KEY", "sk-very-secret-0123456789")
    worker = Caller()
    described = worker.load(fake.url)
    document = worker.ask()
    assert all(headers["Authorization"] == "Bearer sk-very-secret-0123456789" for headers in fake.headers)
    assert "very-secret" not in json.dumps([described, document])
    fake.answer = refuse(401, {"error": "no sk-very-secret-0123456789"})
    with pytest.raises(MachineError, match="refuses the key") as caught:
        worker.ask()
    assert "very-secret" not in str(caught.value)


def test_a_missing_key_is_asked_for_by_its_name(worker: Caller, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TUI_TRAINER_API_KEY", raising=False)
    fake.answer = refuse(401, {"error": "unauthorized"})
    with pytest.raises(MachineError, match="TUI_TRAINER_API_KEY"):
        worker.ask()


def test_a_key_goes_only_where_nobody_reads_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUI_TRAINER_API_KEY", "k")
    monkeypatch.setenv("OPENAI_API_KEY", "o")
    assert read_address("http://box.example/v1").key is None
    assert read_address("https://box.example/v1").key == "k"
    assert read_address("http://[::1]:8000/v1").key == "k"
    monkeypatch.delenv("TUI_TRAINER_API_KEY")
    assert read_address("https://box.example/v1").key is None
    assert read_address("https://api.openai.com/v1").key == "o"


@pytest.mark.parametrize(
    ("typed", "url", "model"),
    [
        ("http://h:8000/v1#m/x", "http://h:8000/v1", "m/x"),
        ("https://h/v1/", "https://h/v1", ""),
        ("http://h:8000", "http://h:8000/v1", ""),
        ("http://[::1]:80/v1/chat/completions", "http://[::1]/v1", ""),
    ],
)
def test_addresses(typed: str, url: str, model: str) -> None:
    address = read_address(typed)
    assert (address.url, address.model) == (url, model)


@pytest.mark.parametrize("typed", ["http://", "http://h:port/v1", "http://user:pass@h/v1", "ftp://h/v1"])
def test_what_is_no_address_is_told(typed: str) -> None:
    with pytest.raises(UsageError):
        read_address(typed)


# --- beside local models


def test_a_local_model_is_compared_with_a_server_word_by_word(tiny_folder: Path, fake: Fake) -> None:
    worker = Caller()
    worker.load(tiny_folder)
    worker.call("load", model=fake.url, slot="b")
    items, view = worker.call("compare", messages=MESSAGES, params={"max_tokens": 5, "seed": 0})
    assert {item["slot"] for item in items} == {"a", "b"}
    assert (view["diff_of"], view["in_one_batch"]) == ("words", False)
    assert view["b"]["candidates"][0]["text"] == "Hello"


def test_what_cannot_be_looked_into_says_so(worker: Caller, tiny_folder: Path) -> None:
    for method in ("render", "tokens", "alternatives", "score"):
        with pytest.raises(UsageError, match="is a server"):
            worker.call(method, messages=MESSAGES, reply="x", texts=["x y"])
    assert worker.call("swap", model=str(tiny_folder), device="cpu")[1]["how"] == "loaded anew"
    assert worker.ask(max_tokens=1)["prompt_ids"]
