"""Probabilities of a given reply, alternatives in its places, two models side by side."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.engine.chat.conftest import MESSAGES, Caller
from tests.engine.tiny import tiny_model
from tui_trainer.engine.models.bytes_tokenizer import bytes_tokenizer
from tui_trainer.errors import UsageError

REPLY = list(b"I am")


def logits_of(prompt_ids: list[int], reply: list[int], **changes: object) -> torch.Tensor:
    """The library's own logits before each token of the reply."""
    with torch.no_grad():
        logits: torch.Tensor = tiny_model(**changes)(torch.tensor([[*prompt_ids, *reply]])).logits[0]
    return logits[len(prompt_ids) - 1 : -1]


def test_tokens_of_a_reply_have_the_probabilities_of_the_raw_logits(worker: Caller) -> None:
    _, view = worker.call("tokens", messages=MESSAGES, reply_ids=REPLY, top=3)
    prompt = worker.ask(max_tokens=1)["prompt_ids"]
    expected = logits_of(prompt, REPLY).log_softmax(-1)
    assert view["prompt_tokens"] == len(prompt)
    for place, token in enumerate(view["tokens"]):
        assert token["a"]["logprob"] == pytest.approx(float(expected[place, REPLY[place]]), abs=1e-5)
        assert token["a"]["rank"] == int((expected[place] > expected[place, REPLY[place]]).sum()) + 1
        assert [each["id"] for each in token["a"]["top"]] == expected[place].topk(3).indices.tolist()
        assert (token["b"], token["difference"], token["kl"]) == (None, None, None)
    mean = sum(token["a"]["logprob"] for token in view["tokens"]) / len(REPLY)
    assert view["a"]["mean_logprob"] == pytest.approx(mean)
    assert view["b"] is None


def test_two_models_side_by_side_with_difference_and_divergence(pair: Caller) -> None:
    _, view = pair.call("tokens", messages=MESSAGES, reply="I am")
    prompt = bytes_tokenizer().encode(view_prompt(pair))
    a = logits_of(prompt, REPLY).log_softmax(-1)
    b = logits_of(prompt, REPLY, initializer_range=0.2).log_softmax(-1)
    for place, token in enumerate(view["tokens"]):
        assert token["id"] == REPLY[place]
        assert token["difference"] == pytest.approx(float(b[place, token["id"]] - a[place, token["id"]]), abs=1e-5)
        assert token["kl"] == pytest.approx(float((b[place].exp() * (b[place] - a[place])).sum()), abs=1e-5)
        assert token["kl"] > 0
    assert view["mean_kl"] == pytest.approx(sum(token["kl"] for token in view["tokens"]) / len(REPLY))


def view_prompt(caller: Caller) -> str:
    text: str = caller.call("render", messages=MESSAGES)[1]["text"]
    return text


def test_alternatives_are_those_of_the_model_and_of_the_knobs(worker: Caller) -> None:
    _, view = worker.call(
        "alternatives", messages=MESSAGES, reply_ids=REPLY, position=2, top=6, params={"top_k": 2, "temperature": 0.5}
    )
    prompt = worker.ask(max_tokens=1)["prompt_ids"]
    logits = logits_of(prompt, REPLY)[2]
    best = logits.topk(6).indices.tolist()
    assert [each["id"] for each in view["a"]][:6] == best
    assert view["chosen"] == REPLY[2]
    assert any(each["id"] == REPLY[2] for each in view["a"])
    expected = (logits[best[:2]] / 0.5).softmax(-1).tolist()
    assert [each["processed"] for each in view["a"][:2]] == pytest.approx(expected, abs=1e-5)
    assert {each["processed"] for each in view["a"][2:]} == {0.0}
    assert [each["rank"] for each in view["a"][:6]] == [1, 2, 3, 4, 5, 6]


def test_an_alternative_is_gone_on_with(worker: Caller) -> None:
    first = worker.ask(max_tokens=8, temperature=0.0)["candidates"][0]
    begun = [*first["ids"][:3], 65]
    _, again = worker.call(
        "generate", messages=MESSAGES, prefill_ids=begun, params={"max_tokens": 4, "temperature": 0.0}
    )
    assert again["prefill"]["ids"] == begun
    assert again["prompt_ids"][-4:] == begun
    assert len(again["candidates"][0]["ids"]) <= 4
    _, same = worker.call(
        "generate", messages=MESSAGES, prefill_ids=first["ids"][:3], params={"max_tokens": 5, "temperature": 0.0}
    )
    assert [*first["ids"][:3], *same["candidates"][0]["ids"]] == first["ids"]


def test_a_reply_can_be_made_to_begin_with_a_text(worker: Caller) -> None:
    _, document = worker.call("generate", messages=MESSAGES, prefill="Sure: ", params={"max_tokens": 3})
    assert document["prefill"] == {"text": "Sure: ", "ids": list(b"Sure: ")}
    assert document["rendered"].endswith("assistant\nSure: ")
    assert document["candidates"][0]["answer"] == "Sure: " + document["candidates"][0]["text"]


def test_positions_and_replies_that_are_not_there_are_told(worker: Caller) -> None:
    with pytest.raises(UsageError, match="none at position 9"):
        worker.call("alternatives", messages=MESSAGES, reply_ids=REPLY, position=9)
    with pytest.raises(UsageError, match="reply is empty"):
        worker.call("tokens", messages=MESSAGES, reply="")
    with pytest.raises(UsageError, match="token 9999 does not exist"):
        worker.call("tokens", messages=MESSAGES, reply_ids=[9999])
    with pytest.raises(UsageError, match="no token"):
        worker.call("generate", messages=MESSAGES, prefill_ids=["x"])


def test_models_of_other_tokens_are_not_compared_token_by_token(worker: Caller, tmp_path: Path) -> None:
    from tests.engine.tiny import save_tiny

    folder = save_tiny(tmp_path / "odd")
    tokenizer = bytes_tokenizer()
    tokenizer.add_tokens(["<odd>"])
    tokenizer.save_pretrained(folder)
    worker.load(folder, slot="b")
    with pytest.raises(UsageError, match="different tokenizers"):
        worker.call("tokens", messages=MESSAGES, reply="x")


def test_both_answer_with_the_same_seed_and_the_difference_covers_both(pair: Caller) -> None:
    items, view = pair.call("compare", messages=MESSAGES, params={"max_tokens": 9, "seed": 0})
    assert {item["slot"] for item in items} == {"a", "b"}
    assert view["a"]["seed"] == view["b"]["seed"]
    assert view["same_prompt"] is True
    for slot in ("a", "b"):
        covered = [place for part in view["diff"] for place in range(*part[slot])]
        assert covered == list(range(len(view[slot]["candidates"][0]["ids"])))
    for part in view["diff"]:
        texts = [view[slot]["candidates"][0]["ids"][slice(*part[slot])] for slot in ("a", "b")]
        assert (texts[0] == texts[1]) == (part["kind"] == "same")


def test_one_model_cannot_be_compared(worker: Caller) -> None:
    with pytest.raises(UsageError, match="no second model"):
        worker.call("compare", messages=MESSAGES)
    with pytest.raises(UsageError, match="no slot 'c'"):
        worker.call("generate", messages=MESSAGES, slot="c")


def test_knobs_are_inspected_without_a_model_and_without_raising() -> None:
    _, view = Caller().call("knobs", params={"temperature": 9, "top_k": 5})
    assert [problem["key"] for problem in view["problems"]] == ["temperature"]
    _, fine = Caller().call("knobs", params={"top_k": 5, "length_penalty": 2.0})
    assert fine["problems"] == []
    assert fine["strategy"] == "sampling with top-k 5"
    assert fine["knobs"]["top_k"] == {"value": 5, "source": "you"}
    assert set(fine["ignored"]) == {"length_penalty"}
