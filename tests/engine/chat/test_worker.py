"""The chat worker: its documents, its streams, its refusals, and that it lives on after each of them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.chat.conftest import MESSAGES, RENDERED, Caller
from tests.engine.tiny import save_tiny
from tui_trainer.engine.chat import memory
from tui_trainer.engine.data.templates import limits
from tui_trainer.engine.models.bytes_tokenizer import bytes_tokenizer
from tui_trainer.errors import (
    CancelledError,
    ConfigurationError,
    DataError,
    RunFailedError,
    UsageError,
    WorkbenchError,
)
from tui_trainer.runs import store
from tui_trainer.runs.layout import RunLayout
from tui_trainer.wire.frames import Cancel, Failure, Frame, Item, Ready, Request, Result, decode, encode
from tui_trainer.wire.server import Cancellation


def test_load_tells_what_was_loaded_and_how_far_it_is(tiny_folder: Path) -> None:
    items, loaded = Caller().call("load", model=str(tiny_folder), device="cpu")
    assert all(set(item) == {"task", "done", "total"} for item in items)
    assert any("loading" in item["task"] for item in items)
    assert loaded["name"] == str(tiny_folder)
    assert (loaded["device"], loaded["dtype"], loaded["context_length"]) == ("cpu", "float32", 512)
    assert loaded["has_template"] is True
    assert loaded["stop_tokens"] == [{"id": 258, "text": "<|im_end|>"}]
    assert (loaded["defaults"], loaded["adapter"], loaded["run"], loaded["step"]) == ({}, None, None, None)
    json.dumps(loaded)


def test_an_answer_streams_and_ends_with_the_document_of_the_contract(worker: Caller) -> None:
    items, document = worker.stream(max_tokens=12, seed=1)
    assert document["version"] == 1
    assert document["prompt"] == "Who are you?"
    assert document["rendered"] == RENDERED
    assert document["prompt_ids"] == bytes_tokenizer().encode(RENDERED)
    (candidate,) = document["candidates"]
    assert [item["id"] for item in items] == candidate["ids"]
    assert "".join(item["text"] for item in items) == candidate["text"]
    assert sum(item["logprob"] for item in items) == pytest.approx(candidate["cumulative_logprob"])
    assert candidate["finish_reason"] == items[-1]["finish_reason"]
    assert (candidate["logprobs"], document["prompt_logprobs"]) == (None, None)
    usage = document["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (len(document["prompt_ids"]), len(items))
    assert 0 < document["seconds_to_first_token"] < 60
    assert document["tokens_per_second"] > 0
    assert document["ignored_knobs"] == []
    assert document["knobs"]["max_tokens"] == {"value": 12, "source": "you"}
    assert document["template"]["source"] == "model"
    json.dumps(document)


def test_the_second_turn_uses_what_the_first_computed(worker: Caller) -> None:
    _, first = worker.stream(max_tokens=5, seed=1)
    history = [*MESSAGES, {"role": "assistant", "content": "x"}, {"role": "user", "content": "And?"}]
    _, second = worker.stream(history, max_tokens=5, seed=1)
    assert second["usage"]["cached_tokens"] >= first["usage"]["prompt_tokens"]


def test_every_probability_asked_for_is_told(worker: Caller) -> None:
    items, document = worker.stream(max_tokens=4, logprobs=2, prompt_logprobs=1, seed=0)
    for item, token in zip(items, document["candidates"][0]["logprobs"], strict=True):
        assert (token["id"], token["logprob"], token["rank"]) == (item["id"], item["logprob"], item["rank"])
        assert len(token["top"]) == 2
        assert token["top"][0]["logprob"] >= token["top"][1]["logprob"]
        assert set(token["top"][0]) == {"id", "text", "logprob"}
    scored = document["prompt_logprobs"]
    assert scored[0] is None
    assert [token["id"] for token in scored[1:]] == document["prompt_ids"][1:]


def test_several_answers_and_beams(worker: Caller) -> None:
    items, document = worker.stream(n=2, best_of=4, max_tokens=6, seed=0)
    assert {item["candidate"] for item in items} == {0, 1, 2, 3}
    assert len(document["candidates"]) == 2
    assert document["usage"]["completion_tokens"] == len(items)
    _, beams = worker.stream(use_beam_search=True, beam_width=3, n=3, max_tokens=6, temperature=0.5)
    assert len(beams["candidates"]) == 3
    assert beams["ignored_knobs"] == ["temperature"]
    assert beams["seed"] is None


def test_a_drawn_seed_is_told_and_repeats_the_answer(worker: Caller) -> None:
    _, first = worker.stream(max_tokens=10)
    _, again = worker.stream(max_tokens=10, seed=first["seed"])
    assert again["candidates"][0]["ids"] == first["candidates"][0]["ids"]


def test_a_prompt_is_gone_on_with_as_it_stands(worker: Caller) -> None:
    _, document = worker.stream("Once upon", max_tokens=3)
    assert document["prompt_ids"] == list(b"Once upon")
    assert document["template"] is None
    assert document["prompt"] == "Once upon"


def test_a_model_without_a_template_goes_on_with_the_text(tmp_path: Path) -> None:
    save_tiny(tmp_path / "plain", with_template=False)
    worker = Caller()
    _, loaded = worker.call("load", model="plain", device="cpu")
    assert loaded["has_template"] is False
    _, document = worker.stream(max_tokens=3)
    assert document["prompt_ids"] == list(b"Who are you?")
    assert document["template"] is None


REFUSED: list[tuple[dict[str, Any], type[WorkbenchError], str]] = [
    ({"messages": MESSAGES, "params": {"temperature": 9, "top_k": -5}}, ConfigurationError, "top_k"),
    ({"messages": MESSAGES, "params": {"n": 2, "temperature": 0.0}}, ConfigurationError, "same answer"),
    ({"messages": MESSAGES, "params": {"colour": 1}}, ConfigurationError, "no such knob"),
    ({"prompt": ""}, UsageError, "prompt is empty"),
    ({"prompt": "x" * 600}, UsageError, "600 tokens and the model's context is 512"),
    ({"messages": [{"role": "user"}]}, DataError, "refuses this conversation"),
]


@pytest.mark.parametrize(("request_", "kind", "words"), REFUSED)
def test_what_cannot_be_answered_is_told_and_the_next_question_is_answered(
    worker: Caller, request_: dict[str, Any], kind: type[WorkbenchError], words: str
) -> None:
    with pytest.raises(kind) as caught:
        worker.call("generate", **request_)
    assert words in str(caught.value)
    assert worker.stream(max_tokens=2)[1]["usage"]["completion_tokens"] <= 2


TEMPLATES = {
    "raises": "{{ raise_exception('only strict alternation') }}",
    "breaks": "{{ messages[0].nothing.at.all }}",
    "for ever": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_that_breaks_is_told_and_the_session_lives(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RENDER_SECONDS", 0.3)
    folder = save_tiny(tmp_path / "model")
    (folder / "chat_template.jinja").write_text(TEMPLATES[name])
    worker = Caller()
    worker.call("load", model="model", device="cpu")
    with pytest.raises(DataError, match="chat template refuses"):
        worker.stream(max_tokens=2)
    assert worker.stream("plain text", max_tokens=2)[1]["candidates"]


def test_nothing_is_answered_without_a_model() -> None:
    with pytest.raises(UsageError, match="no model is loaded"):
        Caller().stream()


def test_a_model_that_is_not_there_leaves_none_loaded(worker: Caller) -> None:
    with pytest.raises(UsageError, match="no model"):
        worker.call("load", model="./gone")
    with pytest.raises(UsageError, match="no model is loaded"):
        worker.stream()


def test_unload_gives_the_model_up(worker: Caller) -> None:
    assert worker.call("unload") == ([], {})
    with pytest.raises(UsageError, match="no model is loaded"):
        worker.stream()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_out_of_memory_is_a_sentence_with_numbers_and_the_session_lives(
    worker: Caller, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    assert worker.server._slots.get("a") is not None
    forward = worker.server._slots.local("a").engine.runner.forward
    with monkeypatch.context() as broken:
        broken.setattr(forward, "last_logits", fail)
        with pytest.raises(RunFailedError, match=r"out of memory on cpu: a prompt of \d+ tokens, .* GiB"):
            worker.stream(max_tokens=3)
    assert worker.stream(max_tokens=3)[1]["candidates"]


def test_too_little_memory_is_told_before_the_system_ends_the_process(
    worker: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda device: 1000)
    with pytest.raises(RunFailedError, match="out of memory"):
        worker.stream(n=200, max_tokens=3)


def test_other_errors_are_not_taken_for_want_of_memory(worker: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    assert worker.server._slots.get("a") is not None
    forward = worker.server._slots.local("a").engine.runner.forward
    monkeypatch.setattr(forward, "last_logits", lambda *args, **kwargs: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        worker.stream(max_tokens=3)


# --- a checkpoint is asked as its run trained it


def make_run(config: str, tiny_folder: Path) -> RunLayout:
    layout = store.create("taught", config, {})
    shutil.copytree(tiny_folder, layout.checkpoint(40))
    return layout


def test_a_run_brings_its_system_message_template_and_knobs(tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "own.jinja").write_text(
        "{% for m in messages %}[{{ m.role }}|{{ mood }}]{{ m.content }}<|endoftext|>{% endfor %}[assistant]"
    )
    layout = make_run(
        f"""
        [data]
        system = "Be brief."
        template = "{tmp_path / "own.jinja"}"
        template_kwargs = {{ mood = "calm" }}
        [sampling]
        temperature = 0.5
        top_p = 1.0
        prompts = ["hello"]
        """,
        tiny_folder,
    )
    worker = Caller()
    _, loaded = worker.call("load", model=f"{layout.id}@40", device="cpu")
    assert (loaded["run"], loaded["step"]) == (layout.id, 40)
    assert (loaded["defaults"], loaded["default_sources"]) == ({"temperature": 0.5}, {"temperature": "run"})
    assert {token["id"] for token in loaded["stop_tokens"]} == {258, 256}
    _, document = worker.stream(max_tokens=2)
    expected = "[system|calm]Be brief.<|endoftext|>[user|calm]Who are you?<|endoftext|>[assistant]"
    assert document["rendered"] == expected
    assert document["template"]["kwargs"] == {"mood": "calm"}
    assert document["knobs"]["temperature"] == {"value": 0.5, "source": "run"}
    _, other = worker.call("generate", messages=MESSAGES, params={"max_tokens": 2}, template_kwargs={"mood": "wild"})
    assert "[user|wild]" in other["rendered"]
    own = [{"role": "system", "content": "Mine."}, *MESSAGES]
    assert "Be brief." not in worker.stream(own, max_tokens=2)[1]["rendered"]


def test_a_runs_template_that_is_gone_is_told_and_the_checkpoints_own_used(tiny_folder: Path) -> None:
    layout = make_run('[data]\ntemplate = "gone.jinja"\n', tiny_folder)
    worker = Caller()
    _, loaded = worker.call("load", model=layout.id, device="cpu")
    assert "template cannot be had" in loaded["note"]
    assert worker.stream(max_tokens=2)[1]["rendered"] == RENDERED


def test_knobs_of_a_run_that_contradict_are_left_out_with_a_word(tiny_folder: Path) -> None:
    layout = make_run("[sampling]\nn = 3\ntemperature = 0.0\n", tiny_folder)
    _, loaded = Caller().call("load", model=layout.id, device="cpu")
    assert "[sampling] is left out" in loaded["note"]
    assert loaded["defaults"] == {}


def test_a_checkpoint_that_was_deleted_is_told(tiny_folder: Path) -> None:
    layout = make_run("", tiny_folder)
    shutil.rmtree(layout.checkpoint(40))
    with pytest.raises(UsageError, match="no checkpoint"):
        Caller().call("load", model=f"{layout.id}@40")


# --- cancelling


def test_cancelling_an_answer_keeps_what_came(worker: Caller) -> None:
    cancellation = Cancellation()
    params = {"max_tokens": 400, "ignore_eos": True, "seed": 0}
    generator = worker.server.generate({"messages": MESSAGES, "params": params}, cancellation)
    next(generator)
    cancellation.cancel()
    with pytest.raises(StopIteration) as end:
        next(generator)
    (candidate,) = end.value.value["candidates"]
    assert (candidate["finish_reason"], len(candidate["ids"])) == ("cancelled", 1)
    assert worker.stream(max_tokens=2)[1]["candidates"]


def test_cancelling_a_load_leaves_nothing_loaded(tiny_folder: Path) -> None:
    worker, cancellation = Caller(), Cancellation()
    cancellation.cancel()
    with pytest.raises(CancelledError):
        worker.call("load", cancellation, model=str(tiny_folder))
    with pytest.raises(UsageError, match="no model is loaded"):
        worker.stream()


def test_who_waits_for_another_answer_can_be_cancelled(worker: Caller) -> None:
    first = worker.server.generate({"messages": MESSAGES, "params": {"ignore_eos": True, "seed": 0}}, Cancellation())
    next(first)
    cancellation = Cancellation()
    outcome: list[BaseException] = []

    def second() -> None:
        try:
            worker.call("generate", cancellation, messages=MESSAGES)
        except CancelledError as error:
            outcome.append(error)

    waiting = threading.Thread(target=second)
    waiting.start()
    cancellation.cancel()
    waiting.join(10)
    assert len(outcome) == 1
    first.close()
    assert worker.stream(max_tokens=2)[1]["candidates"]


# --- the process


@pytest.fixture
def process() -> Iterator[Callable[[Frame], None]]:
    command = [sys.executable, "-m", "tui_trainer.engine.servers.chat"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        stdin, stdout = worker.stdin, worker.stdout

        def send(frame: Frame) -> None:
            stdin.write(encode(frame))
            stdin.flush()

        send.frames = (decode(line) for line in stdout)  # type: ignore[attr-defined]
        yield send
        stdin.close()
        assert worker.wait(20) == 0


@pytest.mark.e2e
def test_the_process_serves_streams_cancels_and_ends_with_its_input(process: Any, tiny_folder: Path) -> None:
    frames: Iterator[Frame] = process.frames
    assert next(frames) == Ready("chat")
    process(Request(1, "load", {"model": str(tiny_folder), "device": "cpu"}))
    ends = (Result, Failure)
    loaded = next(frame for frame in frames if isinstance(frame, ends))
    assert isinstance(loaded, Result)
    process(
        Request(2, "generate", {"messages": MESSAGES, "params": {"max_tokens": 400, "ignore_eos": True, "seed": 0}})
    )
    assert isinstance(next(frames), Item)
    process(Cancel(2))
    cancelled = next(frame for frame in frames if isinstance(frame, ends))
    document = cancelled.value["candidates"][0] if isinstance(cancelled, Result) else cancelled.error
    assert "cancelled" in str(document.get("finish_reason", document.get("kind"))).lower()
    process(Request(3, "generate", {"messages": MESSAGES, "params": {"temperature": 7}}))
    refused = next(frame for frame in frames if isinstance(frame, ends) and frame.id == 3)
    assert isinstance(refused, Failure)
    assert refused.error["kind"] == "ConfigurationError"
    process(Request(4, "generate", {"messages": MESSAGES, "params": {"max_tokens": 3}}))
    answered = next(frame for frame in frames if isinstance(frame, ends) and frame.id == 4)
    assert isinstance(answered, Result)


def test_half_a_character_is_told_as_bytes(worker: Caller) -> None:
    tokenizer = worker.server._slots.local("a").documents
    half, whole = 0xC3, ord("a")
    assert (tokenizer.text_of(half), tokenizer.bytes_of(half)) == ("<0xC3>", "<0xC3>")
    assert (tokenizer.text_of(whole), tokenizer.bytes_of(whole)) == ("a", "")
    items, _ = worker.stream(allowed_token_ids=[half], temperature=0.0, max_tokens=2)
    assert [(item["text"], item["bytes"]) for item in items if "id" in item][:1] == [("", "<0xC3>")]
