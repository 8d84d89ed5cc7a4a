"""Prompt sets over models and over the checkpoints of a run, and scores over texts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.chat.conftest import MESSAGES, Caller
from tests.engine.chat.test_sharing import save_adapter
from tests.engine.tiny import tiny_model
from tui_trainer.engine.chat.prompt_file import Item, read_prompts
from tui_trainer.engine.chat.repetition import distinct_2, ends_in_a_loop
from tui_trainer.errors import DataError, UsageError
from tui_trainer.runs import store

PROMPTS: list[dict[str, Any]] = [{"prompt": "Who?"}, {"messages": MESSAGES, "name": "chat", "regex": ".", "exact": "?"}]
GREEDY = {"temperature": 0.0, "max_tokens": 8}


def test_a_run_alone_is_asked_at_every_checkpoint_against_its_base(tiny_folder: Path) -> None:
    layout = store.create("measured", "[data]\n", {})
    layout.checkpoints.mkdir(exist_ok=True)
    for step in (10, 20):
        save_adapter(layout.checkpoint(step), tiny_folder, step)
    worker = Caller()
    worker.load(tiny_folder)
    mine = worker.ask(**GREEDY)
    items, measured = worker.call(
        "prompt_set", prompts=PROMPTS, models=[str(tiny_folder), layout.id], params=GREEDY, baseline=str(tiny_folder)
    )
    assert [line["step"] for line in measured["table"]] == [None, 10, 20]
    assert [line["model"] for line in measured["table"]][1:] == [f"{layout.id}@10", f"{layout.id}@20"]
    assert len(measured["rows"]) == 6
    assert [item["row"] for item in items if "row" in item] == measured["rows"]
    assert items[-1]["done"] == items[-1]["total"] == 6
    assert measured["table"][0]["kl"] == pytest.approx(0, abs=1e-5)
    assert all(line["kl"] > 0.001 for line in measured["table"][1:])
    for row in measured["rows"]:
        single = Caller()
        single.load(row["model"])
        question = MESSAGES if row["prompt"] else [{"role": "user", "content": "Who?"}]
        candidate = single.ask(question, **GREEDY)["candidates"][0]
        assert row["text"] == candidate["text"]
        assert row["num_tokens"] == len(candidate["ids"])
        assert row["exact"] is (None if not row["prompt"] else candidate["text"].strip() == "?")
    # the worker is left as it was
    assert worker.ask(**GREEDY)["candidates"][0]["ids"] == mine["candidates"][0]["ids"]
    assert worker.call("unload") == ([], {})


def test_a_model_that_cannot_be_had_takes_its_line_and_the_others_go_on(tiny_folder: Path, other_folder: Path) -> None:
    _, measured = Caller().call(
        "prompt_set", prompts=PROMPTS[:1], models=["./gone", str(tiny_folder), str(other_folder)], params=GREEDY
    )
    assert "no model" in measured["table"][0]["error"]
    assert [line["error"] for line in measured["table"][1:]] == [None, None]
    assert measured["table"][1]["kl"] is None
    assert measured["rows"][0]["text"] != measured["rows"][1]["text"]


@pytest.mark.parametrize(("prompts", "models"), [([], ["x"]), ([{"prompt": "x"}], [])])
def test_nothing_to_ask_or_nobody_is_told(prompts: list[Any], models: list[str]) -> None:
    with pytest.raises(UsageError, match=r"no prompt|no model"):
        Caller().call("prompt_set", prompts=prompts, models=models)


def test_scores_of_texts_are_the_perplexity_of_the_library(pair: Caller) -> None:
    texts = ["Once upon a time", "the end"]
    _, scored = pair.call("score", texts=texts)
    totals = {"a": 0.0, "b": 0.0}
    count = 0
    for text, row in zip(texts, scored["rows"], strict=True):
        ids = torch.tensor([list(text.encode())])
        for slot, spread in (("a", 0.3), ("b", 0.2)):
            with torch.no_grad():
                loss = float(tiny_model(initializer_range=spread)(ids, labels=ids).loss)
            assert row[slot] == pytest.approx(math.exp(loss), rel=1e-4)
            totals[slot] += loss * row["num_tokens"]
        count += row["num_tokens"]
        assert row["kl"] > 0
    assert scored["num_tokens"] == count
    for slot, total in totals.items():
        assert scored[slot]["perplexity"] == pytest.approx(math.exp(total / count), rel=1e-4)
        assert scored[slot]["bits_per_token"] == pytest.approx(total / count / math.log(2), rel=1e-4)


def test_scores_of_prompts_are_those_of_the_reply_alone(pair: Caller) -> None:
    _, scored = pair.call("score", prompts=[{"messages": MESSAGES, "reply": "I am"}])
    _, view = pair.call("tokens", messages=MESSAGES, reply="I am")
    assert scored["rows"][0]["num_tokens"] == 4
    assert scored["a"]["perplexity"] == pytest.approx(view["a"]["perplexity"])
    assert scored["kl"] == pytest.approx(view["mean_kl"])
    _, own = pair.call("score", prompts=[{"messages": MESSAGES}], max_tokens=5)
    assert own["a"]["perplexity"] < own["b"]["perplexity"]
    with pytest.raises(UsageError, match="no text"):
        pair.call("score", texts=["x"])


def test_a_file_of_prompts(tmp_path: Path) -> None:
    (tmp_path / "set.txt").write_text("one\n\ntwo {x}\n")
    assert [item.asked for item in read_prompts(tmp_path / "set.txt")] == ["one", "two {x}"]
    (tmp_path / "set.jsonl").write_text('{"prompt": "a", "regex": "b+", "name": "n"}\n"plain"\n[{"role": "user"}]\n')
    _, read = Caller().call("read_prompts", path=str(tmp_path / "set.jsonl"))
    assert read["prompts"][0] == {"prompt": "a", "name": "n", "regex": "b+"}
    assert [Item.of(prompt, "x").to_dict() for prompt in read["prompts"]] == read["prompts"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "not valid JSON"),
        ("{}", "asks nothing"),
        ('{"prompt": "a", "regex": "("}', "no regular expression"),
        ('{"prompt": "a", "exact": 3}', '"exact" is no text'),
        ("[]", "asks nothing"),
        ("", "holds no question"),
    ],
)
def test_a_broken_line_is_told_with_its_number(tmp_path: Path, line: str, words: str) -> None:
    (tmp_path / "set.jsonl").write_text(line)
    with pytest.raises(DataError, match=words) as caught:
        read_prompts(tmp_path / "set.jsonl")
    assert "set.jsonl" in caught.value.where


def test_repetition() -> None:
    assert ends_in_a_loop([9, 8, *[1, 2, 3] * 4])
    assert not ends_in_a_loop([1, 2, 3] * 3)
    assert ends_in_a_loop([5] * 12)
    assert not ends_in_a_loop([5] * 11)
    assert not ends_in_a_loop([*[1, 2, 3] * 4, 7])
    assert not ends_in_a_loop([])
    assert distinct_2([1, 2, 1, 2]) == pytest.approx(2 / 3)
    assert distinct_2([1]) is None
