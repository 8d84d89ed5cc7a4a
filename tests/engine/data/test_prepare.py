"""The data of a run: the same tokens as the preview, split and weighted as asked, prepared once."""

from __future__ import annotations

import json
import os
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engine.data.helpers import run_config, said
from tui_trainer.engine.data.batch_view import batch_document
from tui_trainer.engine.data.dataset import PackedExamples
from tui_trainer.engine.data.example import example_arrays
from tui_trainer.engine.data.prepare import PreparedData, prepare_data
from tui_trainer.engine.data.preview import preview_document
from tui_trainer.engine.data.session import DataSession
from tui_trainer.engine.data.store import find_store, stores_dir
from tui_trainer.engine.models.bytes_tokenizer import bytes_tokenizer
from tui_trainer.errors import CancelledError, ConfigurationError, DataError

Write = Callable[..., Path]


def rows_of(count: int, tag: str = "") -> list[dict[str, Any]]:
    return [{"input": f"question {tag}{number}", "output": f"answer {tag}{number}"} for number in range(count)]


def prepared(path: Path | str, training: dict[str, Any] | None = None, **data: Any) -> PreparedData:
    return prepare_data(run_config(path, data=data, training=training or {}), bytes_tokenizer())


def text_of(item: dict[str, np.ndarray]) -> str:
    return str(bytes_tokenizer().decode(item["input_ids"]))


def test_training_gets_what_the_preview_shows(write_rows: Write) -> None:
    path = write_rows([{"messages": said(f"q{n}", "a", "more", f"b{n}")} for n in range(20)])
    session = DataSession(run_config(path))
    document = preview_document(session, 0, 20, is_whole=True)
    data = prepared(path)
    assert data.fingerprint == document["fingerprint"]
    assert len(data.train) == data.num_rows == 20
    for index, row in enumerate(document["rows"]):
        assert data.train[index]["input_ids"].tolist() == row["input_ids"]
        assert data.train[index]["labels"].tolist() == row["labels"]
    batch = data.collator([data.train[index] for index in range(4)])
    for index in range(4):
        ids = document["rows"][index]["input_ids"]
        assert batch["input_ids"][index, : len(ids)].tolist() == ids
        assert batch["labels"][index, : len(ids)].tolist() == document["rows"][index]["labels"]
    assert data.num_tokens == document["verdict"]["num_tokens"]
    assert data.num_trained_tokens == document["verdict"]["num_trained_tokens"]
    shown = batch_document(session, [0, 1, 2, 3])
    assert {name: batch[name].tolist() for name in batch} == {name: shown[name] for name in batch}


def test_a_share_is_held_out_the_same_way_each_time(write_rows: Write) -> None:
    path = write_rows(rows_of(50))
    data, again = prepared(path, eval_split=0.2), prepared(path, eval_split=0.2)
    assert data.eval is not None
    assert again.eval is not None
    assert (len(data.train), len(data.eval)) == (40, 10)
    held_out = {text_of(data.eval[index]) for index in range(10)}
    assert held_out == {text_of(again.eval[index]) for index in range(10)}
    assert not held_out & {text_of(data.train[index]) for index in range(40)}
    other = prepared(path, training={"seed": 7}, eval_split=0.2)
    assert other.eval is not None
    assert held_out != {text_of(other.eval[index]) for index in range(10)}
    last = prepared(path, eval_split=0.2, shuffle=False)
    assert last.eval is not None
    assert "question 49" in text_of(last.eval[9])
    assert [reference.row for reference in last.eval_references] == list(range(40, 50))


def test_evaluation_from_a_split_or_a_file(tmp_path: Path, write_rows: Write) -> None:
    write_rows(rows_of(5), "train.jsonl")
    write_rows(rows_of(3, "held out "), "test.jsonl")
    by_name = prepared(tmp_path, eval_split="test")
    assert by_name.eval is not None
    assert (len(by_name.train), len(by_name.eval)) == (5, 3)
    (reference, *_) = by_name.eval_references
    assert reference.prompt == "question held out 0"
    assert reference.reference == "answer held out 0"
    assert str(bytes_tokenizer().decode(reference.prompt_ids)).endswith("<|im_start|>assistant\n")
    by_file = prepared(tmp_path / "train.jsonl", eval_split=str(tmp_path / "test.jsonl"))
    assert by_file.eval is not None
    assert text_of(by_file.eval[0]) == text_of(by_name.eval[0])
    with pytest.raises(ConfigurationError, match=r"'tset' is neither a split \(train, test\) nor a file"):
        prepared(tmp_path, eval_split="tset")
    with pytest.raises(ConfigurationError, match="between 0 and 1"):
        prepared(tmp_path, eval_split=1.5)


def test_sources_are_weighted(tmp_path: Path, write_rows: Write) -> None:
    one, two = (
        write_rows(rows_of(4, "one "), "one.jsonl"),
        write_rows([{"text": "x"}] * 0 + rows_of(6, "two "), "two.jsonl"),
    )
    config = run_config(
        "unused", data={"path": None, "sources": [{"path": str(one), "weight": 2.5}, {"path": str(two), "weight": 0.5}]}
    )
    data = prepare_data(config, bytes_tokenizer())
    texts = [text_of(data.train[index]) for index in range(len(data.train))]
    counts = [sum(f"question one {n}<" in text for text in texts) for n in range(4)]
    assert sum(counts) == 10
    assert max(counts) == 3
    assert sum("question two" in text for text in texts) == 3
    assert [source["num_rows"] for source in data.summary["sources"]] == [4, 6]


def test_sources_of_different_formats(tmp_path: Path, write_rows: Write) -> None:
    one = write_rows(rows_of(2), "one.jsonl")
    two = write_rows([{"messages": said("q", "a")}] * 2, "two.jsonl")
    config = run_config("unused", data={"path": None, "sources": [{"path": str(one)}, {"path": str(two)}]})
    data = prepare_data(config, bytes_tokenizer())
    assert len(data.train) == 4
    assert [source["format"] for source in data.summary["sources"]] == ["prompt_completion", "messages"]


def test_packed_rows_hold_every_example_once(write_rows: Write) -> None:
    path = write_rows(rows_of(40))
    plain, data = prepared(path, max_length=200), prepared(path, max_length=200, packing=True)
    assert data.is_packed
    assert isinstance(data.train, PackedExamples)
    assert len(data.train) < 20
    assert data.num_rows == 40
    assert data.fingerprint == plain.fingerprint
    ids = sorted(token for index in range(len(data.train)) for token in data.train[index]["input_ids"].tolist())
    assert ids == sorted(token for index in range(40) for token in plain.train[index]["input_ids"].tolist())
    assert sorted(row for index in range(len(data.train)) for row in data.train.rows(index)) == list(range(40))
    assert max(data.train.lengths) <= 200


def test_only_the_first_rows(write_rows: Write) -> None:
    assert prepared(write_rows(rows_of(50)), max_samples=7).num_rows == 7


def test_the_second_time_nothing_is_tokenised(write_rows: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_rows(rows_of(10))
    first = prepared(path, eval_split=0.3)

    def fail(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("tokenised again")

    monkeypatch.setattr("tui_trainer.engine.data.pipeline.DataPipeline.examples", fail)
    again = prepared(path, eval_split=0.3)
    assert again.summary == first.summary
    assert len(again.train) == 7


def test_what_changes_the_tokens_changes_the_fingerprint(write_rows: Write, tmp_path: Path) -> None:
    path = write_rows(rows_of(3))
    base = prepared(path).fingerprint
    others: list[dict[str, Any]] = [{"max_length": 100}, {"train_on": "all"}, {"system": "s"}, {"template": "plain"}]
    for change in others:
        assert prepared(path, **change).fingerprint != base, change
    same: list[dict[str, Any]] = [{"packing": True}, {"eval_split": 0.5}, {"padding": "max_length"}]
    for change in same:
        assert prepared(path, **change).fingerprint == base, change
    path.write_text(path.read_text().replace("answer 0", "answer zero"))
    assert prepared(path).fingerprint != base


def test_several_ranks_prepare_once(write_rows: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_rows(rows_of(300))
    from tui_trainer.engine.data import building

    builds: list[str] = []
    built = building._built

    def counted(*args: Any) -> Any:
        builds.append("built")
        return built(*args)

    monkeypatch.setattr(building, "_built", counted)
    results: list[PreparedData] = []
    threads = [threading.Thread(target=lambda: results.append(prepared(path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert builds == ["built"]
    assert len({data.fingerprint for data in results}) == 1
    assert all(len(data.train) == 300 for data in results)


def test_a_cancelled_preparation_leaves_nothing(write_rows: Write) -> None:
    path = write_rows(rows_of(3000))

    def report(task: str, done: int | None, total: int | None) -> None:
        if task == "tokenising" and done:
            raise CancelledError("cancelled")

    with pytest.raises(CancelledError):
        prepare_data(run_config(path), bytes_tokenizer(), report)
    folder = stores_dir()
    assert [entry.name for entry in folder.iterdir() if not entry.name.endswith(".lock")] == []
    assert prepared(path).num_rows == 3000


def test_a_broken_store_is_made_anew(write_rows: Write) -> None:
    path = write_rows(rows_of(5))
    data = prepared(path)
    (stores_dir() / data.fingerprint / "offsets.npy").write_bytes(b"broken")
    assert find_store(stores_dir(), data.fingerprint) is None
    assert prepared(path).num_rows == 5


def test_data_travels_to_other_processes_by_its_place(write_rows: Write) -> None:
    data = prepared(write_rows(rows_of(500)))
    frozen = pickle.dumps(data.train)
    assert len(frozen) < 20_000
    assert text_of(pickle.loads(frozen)[3]) == text_of(data.train[3])


def test_nothing_to_train_on_is_refused(write_rows: Write) -> None:
    path = write_rows([{"input": "q", "output": ""}] * 3)
    with pytest.raises(DataError) as found:
        prepared(path)
    assert "no token of any row would be trained" in found.value.what
    assert f"{path}:1" in found.value.what
    with pytest.raises(DataError, match="leaves no row to train on"):
        prepared(write_rows(rows_of(1), "one.jsonl"), eval_split=0.9)
    with pytest.raises(ConfigurationError, match=r"data\.pad_token"):
        prepared(write_rows(rows_of(1), "pad.jsonl"), pad_token="<nope>")


def test_the_summary_is_json(write_rows: Write) -> None:
    data = prepared(write_rows(rows_of(30)), eval_split=0.1)
    summary = json.loads(json.dumps(data.summary))
    assert summary["fingerprint"] == data.fingerprint
    assert summary["num_rows"] == 27
    assert summary["num_eval_rows"] == 3
    assert summary["verdict"]["num_rows"] == 30
    assert summary["template"]["name"] == "builtin:bytes"


def test_arrays_of_an_example_are_those_of_the_store(write_rows: Write) -> None:
    path = write_rows(rows_of(3))
    session = DataSession(run_config(path))
    data = prepared(path)
    for index, example in enumerate(session.examples(session.records(0, 3))):
        for name, values in example_arrays(example).items():
            assert values.dtype == data.train[index][name].dtype == np.int64
            assert np.array_equal(values, data.train[index][name])


def test_several_processes_make_what_one_makes(write_rows: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[Any] = [{"messages": said(f"q{n}", "a" * (n % 50), "r", "b")} for n in range(1500)]
    rows[700] = {"messages": [{"role": "wizard", "content": "x"}]}
    path = write_rows(rows)
    with path.open("a") as file:
        file.write("broken\n")
    alone = prepared(path, max_length=80, num_proc=1)
    monkeypatch.setenv("TUI_TRAINER_HOME", f"{path.parent}/other")
    together = prepared(path, max_length=80, num_proc=2)
    assert together.summary == alone.summary
    assert len(together.train) == len(alone.train) > 1000
    for index in range(len(alone.train)):
        for name, values in alone.train[index].items():
            assert np.array_equal(values, together.train[index][name])


def test_a_cancelled_crew_leaves_no_process(write_rows: Write) -> None:
    from tui_trainer.engine.data import crew

    path = write_rows(rows_of(5000))
    started: list[Any] = []
    member = crew._Member

    def start(line: bytes) -> Any:
        started.append(member(line))
        return started[-1]

    def report(task: str, done: int | None, total: int | None) -> None:
        if done:
            raise CancelledError("cancelled")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crew, "_Member", start)
        with pytest.raises(CancelledError):
            prepare_data(run_config(path, data={"num_proc": 2}), bytes_tokenizer(), report)
    assert [one._process.poll() is not None for one in started] == [True, True]


def test_crews_are_for_large_sets_on_many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    from tui_trainer.engine.data import crew

    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(32)), raising=False)
    assert crew.crew_size(None, 1000) == 1
    assert crew.crew_size(None, 100_000) == 5
    assert crew.crew_size(None, 10_000_000) == 16
    assert crew.crew_size(3, 10) == 3
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    assert crew.crew_size(None, 10_000_000) == 1
