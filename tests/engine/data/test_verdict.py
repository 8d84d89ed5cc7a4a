"""The verdict: counts, rows, blocking, and the shape other programs rely on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.engine.data.helpers import run_config, said
from tui_trainer.engine.data.preview import preview_document
from tui_trainer.engine.data.session import DataSession

Write = Callable[..., Path]

MIXED: list[dict[str, Any]] = [
    {"messages": said("q", "a")},
    {"messages": said("q", "a")},
    {"messages": said("q" * 200, "a" * 200)},
    {"messages": said("q")},
    {"messages": said("q" * 300, "a")},
    {"messages": said("", "a" * 400)},
]


def test_counts_rows_and_order(write_rows: Write) -> None:
    session = DataSession(run_config(write_rows(MIXED), data={"max_length": 415}))
    verdict = session.verdict()
    found = {problem["code"]: problem for problem in verdict["problems"]}
    assert {code: problem["rows"] for code, problem in found.items()} == {
        "no_trained_tokens": [3],
        "answer_cut": [2, 5],
        "mostly_trained": [5],
        "hardly_trained": [4],
        "duplicate": [1],
    }
    assert [problem["severity"] for problem in verdict["problems"]] == ["error"] * 2 + ["warning"] * 3
    assert verdict["needs_yes"] == ["answer_cut"]
    assert verdict["num_rows"] == 6
    assert verdict["num_usable"] == 5
    assert verdict["num_train_rows"] == 5
    assert sum(count for _, count in verdict["lengths"]) == 6
    assert verdict["lengths"][0] == [0, 1]
    assert session.problem_rows("answer_cut") == [2, 5]
    assert session.problem_rows("schema") == []
    judged = session.judged()
    assert judged is not None
    assert judged.num_tokens[3] == 0
    assert sorted(set(judged.num_tokens.tolist())) == [length for length, _ in verdict["lengths"]]
    assert judged.num_trained.sum() == verdict["num_trained_tokens"]
    assert verdict["longest"] == min(judged.num_tokens.max(), session.config.data.max_length)
    assert "answer_cut" in judged.of_row(2)["problems"]
    assert judged.of_row(6) == {}


def test_a_row_counts_once_for_each_code(write_rows: Write) -> None:
    path = write_rows([{"messages": said("q", "", "r", "", "s", "c")}] * 2)
    verdict = DataSession(run_config(path)).verdict()
    (problem,) = [entry for entry in verdict["problems"] if entry["code"] == "empty_answer"]
    assert (problem["count"], problem["rows"]) == (2, [0, 1])


def test_the_verdict_is_kept(write_rows: Write) -> None:
    path = write_rows(MIXED)
    first = DataSession(run_config(path)).verdict()
    seen: list[str] = []
    again = DataSession(run_config(path)).verdict(lambda task, done, total: seen.append(task))
    assert again == first
    assert "tokenising" not in seen


def test_the_document_has_the_shape_of_the_contract(write_rows: Write) -> None:
    path = write_rows(MIXED[:3])
    for is_whole in (False, True):
        document = preview_document(DataSession(run_config(path)), 0, 2, is_whole=is_whole)
        assert document["version"] == 1
        (source,) = document["sources"]
        assert source["path"] == str(path)
        assert source["splits"] == {"train": {"num_rows": 3, "features": {"messages": "list<struct>"}}}
        assert (document["split"], document["format"]) == ("train", "messages")
        assert document["columns"] == {"messages": "messages"}
        assert set(document["template"]) == {"name", "source", "hash"}
        assert document["verdict"]["num_rows"] == (3 if is_whole else 2)
        assert {"num_usable", "num_tokens", "num_trained_tokens", "blocks_launch", "problems"} <= set(
            document["verdict"]
        )
        for problem in document["verdict"]["problems"]:
            assert {"code", "title", "severity", "count", "rows", "message", "remedy"} <= set(problem)
        assert [row["row"] for row in document["rows"]] == [0, 1]
        for row in document["rows"]:
            assert len(row["input_ids"]) == len(row["labels"]) == len(row["attention_mask"]) == row["num_tokens"]
            assert sum(label != -100 for label in row["labels"]) == row["num_trained"]
            assert "".join(span["text"] for span in row["spans"]) == row["text"]


def test_a_stop_token_the_model_does_not_know(write_rows: Write, tmp_path: Path) -> None:
    from tui_trainer.engine.models.bytes_tokenizer import bytes_tokenizer

    folder = tmp_path / "model"
    tokenizer = bytes_tokenizer()
    tokenizer.eos_token = "<|endoftext|>"
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "generation_config.json").write_text('{"eos_token_id": 256}')
    path = write_rows(MIXED[:2])
    verdict = DataSession(run_config(path, model={"name_or_path": str(folder)})).verdict()
    (problem,) = [entry for entry in verdict["problems"] if entry["code"] == "no_end_of_turn"]
    assert problem["count"] == 2
    assert "'<|im_end|>', at which generation does not stop" in problem["message"]
    (folder / "generation_config.json").write_text('{"eos_token_id": [256, 258]}')
    verdict = DataSession(run_config(path, model={"name_or_path": str(folder)})).verdict()
    assert "no_end_of_turn" not in {entry["code"] for entry in verdict["problems"]}
