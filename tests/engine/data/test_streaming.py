"""Streams: each row as often as its weight says, the same from any place, judged by their first rows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from tests.engine.data.helpers import run_config, said
from tui_trainer.engine.data.prepare import PreparedData, prepare_data
from tui_trainer.engine.data.rows import BadRow, Row
from tui_trainer.engine.data.session import DataSession
from tui_trainer.engine.data.sources.hub import HubStream
from tui_trainer.engine.data.streaming.stream import StreamedExamples
from tui_trainer.engine.data.streaming.window_log import WindowLog, stream_logs_dir
from tui_trainer.engine.models.bytes_tokenizer import bytes_tokenizer
from tui_trainer.engine.trainer.feed import Stream
from tui_trainer.errors import DataError

Write = Callable[..., Path]


def rows_of(count: int, tag: str = "q") -> list[Row]:
    return [{"messages": said(f"{tag}{number}", "a")} for number in range(count)]


def streamed(path: Path | None, training: dict[str, Any] | None = None, **data: Any) -> PreparedData:
    named = {} if path else {"path": None}
    config = run_config(
        path or "", data={"streaming": True, **named, **data}, training={"max_steps": 5, **(training or {})}
    )
    return prepare_data(config, bytes_tokenizer())


def texts(data: PreparedData, count: int, start: int = 0) -> list[str]:
    items = (data.train[index] for index in range(start, start + count))
    return [str(bytes_tokenizer().decode(item["input_ids"])) for item in items]


def asked(text: str) -> str:
    return text.split("user\n")[1].split("<")[0]


def test_each_pass_has_every_row_once_in_another_order(write_rows: Write) -> None:
    data = streamed(write_rows(rows_of(100)), shuffle_buffer=30)
    found = [asked(text) for text in texts(data, 300)]
    passes = [found[start : start + 100] for start in (0, 100, 200)]
    assert all(len(set(one)) == 100 for one in passes)
    assert passes[0] != passes[1] != passes[2]


def test_without_a_buffer_rows_come_in_order(write_rows: Write) -> None:
    data = streamed(write_rows(rows_of(300)), shuffle_buffer=1)
    assert [asked(text) for text in texts(data, 310)] == [f"q{number % 300}" for number in range(310)]


def test_the_buffer_bounds_how_far_rows_move(write_rows: Write) -> None:
    data = streamed(write_rows(rows_of(2000)), shuffle_buffer=100)
    places = [int(asked(text)[1:]) for text in texts(data, 1000)]
    assert sorted(places) != places
    assert all(abs(place - at) < 100 for at, place in enumerate(places))


def test_the_stream_is_that_of_the_seed(write_rows: Write) -> None:
    path = write_rows(rows_of(500))
    assert texts(streamed(path), 400) == texts(streamed(path), 400)
    assert texts(streamed(path), 400) != texts(streamed(path, training={"seed": 7}), 400)


def test_any_place_can_be_begun_at(write_rows: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[Any] = rows_of(700)
    for number in range(0, 700, 20):
        rows[number] = {"messages": said("never answered", "")}
    path = write_rows(rows)
    everything = texts(streamed(path, shuffle_buffer=64), 1200)
    resumed = streamed(path, shuffle_buffer=64)
    made: list[int] = []
    make = StreamedExamples._made

    def noted(self: Any, window: int, *rest: Any) -> Any:
        made.append(window)
        return make(self, window, *rest)

    monkeypatch.setattr(StreamedExamples, "_made", noted)
    assert texts(resumed, 50, start=1000) == everything[1000:1050]
    assert min(made) > 2, "tokenised what it did not need"
    for log in stream_logs_dir().iterdir():
        log.unlink()
    assert texts(streamed(path, shuffle_buffer=64), 50, start=1000) == everything[1000:1050]


def test_rows_of_no_use_are_left_out_and_counted(write_rows: Write) -> None:
    rows: list[Any] = rows_of(200)
    rows[5] = {"messages": said("q", "")}
    data = streamed(write_rows(rows))
    assert isinstance(data.train, StreamedExamples)
    assert "q5" not in {asked(text) for text in texts(data, 250)}
    assert data.train.num_left_out >= 1


def test_sources_are_mixed_by_weight(write_rows: Write) -> None:
    sources = [
        {"path": str(write_rows(rows_of(50, "one"), "one.jsonl")), "weight": 3.0},
        {"path": str(write_rows(rows_of(4000, "two"), "two.jsonl")), "weight": 1.0},
    ]
    data = streamed(None, sources=sources)
    found = [asked(text) for text in texts(data, 2000)]
    share = sum(text.startswith("one") for text in found) / len(found)
    assert 0.71 < share < 0.79
    ones = Counter(text for text in found if text.startswith("one"))
    assert len(ones) == 50
    assert max(ones.values()) - min(ones.values()) <= 1
    assert max(Counter(text for text in found if text.startswith("two")).values()) == 1
    again = streamed(None, sources=sources)
    assert [asked(text) for text in texts(again, 300, start=1500)] == found[1500:1800]


def test_packed_streams_hold_every_example(write_rows: Write) -> None:
    path = write_rows(rows_of(1024))
    data = streamed(path, packing=True, max_length=512)
    assert data.is_packed
    whole = [data.train[index] for index in range(200)]
    assert max(len(item["input_ids"]) for item in whole) <= 512
    assert np.mean([len(item["input_ids"]) for item in whole]) > 480
    seen: Counter[str] = Counter()
    index = 0
    while sum(seen.values()) < 1024:
        text = str(bytes_tokenizer().decode(data.train[index]["input_ids"]))
        seen.update(part.split("<")[0] for part in text.split("user\n")[1:])
        index += 1
    assert set(seen.values()) == {1}
    assert len(seen) == 1024


def test_texts_that_are_split_keep_their_pieces(write_rows: Write) -> None:
    path = write_rows([{"text": "x" * 100}, {"text": "y" * 30}])
    config = run_config(
        path,
        data={"streaming": True, "max_length": 16, "truncation": "split"},
        training={"max_steps": 1},
        stage="pretrain",
    )
    data = prepare_data(config, bytes_tokenizer())
    total = Counter("".join(texts(data, 9 * 128)).replace("<|im_end|>", ""))
    assert total == {"x": 100 * 128, "y": 30 * 128}


def test_drawing_goes_on_from_a_position(write_rows: Write) -> None:
    path = write_rows(rows_of(300))
    first, second = streamed(path).train, streamed(path).train
    assert isinstance(first, Stream)
    assert isinstance(second, Stream)
    drawn = [str(bytes_tokenizer().decode(item["input_ids"])) for item in islice(first, 420)]
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    drawn += [str(bytes_tokenizer().decode(item["input_ids"])) for item in islice(first, 280)]
    assert drawn == texts(streamed(path), 700)
    rest = [str(bytes_tokenizer().decode(item["input_ids"])) for item in islice(second, 280)]
    assert rest == drawn[420:]


def test_the_first_rows_are_judged(write_rows: Write) -> None:
    path = write_rows([*rows_of(1500), {"messages": [{"role": "wizard", "content": "x"}]}])
    session = DataSession(run_config(path, data={"streaming": True, "eval_split": None}))
    verdict = session.verdict()
    assert verdict["num_rows"] == 1024
    assert verdict["scope"].startswith("the first 1,024 rows")
    assert not verdict["blocks_launch"]
    assert verdict["num_train_rows"] is None
    assert verdict["problems"] == []
    assert sum(count for _, count in verdict["lengths"]) == 1024
    data = streamed(path)
    assert data.num_rows is None
    assert data.summary["verdict"]["scope"] == verdict["scope"]
    assert data.fingerprint == verdict["fingerprint"]


def test_what_cannot_be_trained_on_is_refused_at_the_begin(write_rows: Write) -> None:
    path = write_rows([{"messages": said("q", "")}] * 30)
    with pytest.raises(DataError, match="no token of any row would be trained"):
        streamed(path)


def test_what_goes_bad_later_ends_the_run(write_rows: Write) -> None:
    path = write_rows([*rows_of(1200), *[{"messages": said("q", "")}] * 1200])
    data = streamed(path, shuffle_buffer=10)
    with pytest.raises(DataError) as found:
        texts(data, 2300)
    assert "are of no use" in str(found.value)
    assert f"{path}:1" in found.value.where


def test_too_long_rows_end_the_run_if_so_asked(write_rows: Write) -> None:
    path = write_rows([*rows_of(1200), {"messages": said("q", "a" * 500)}])
    data = streamed(path, shuffle_buffer=1, truncation="error", max_length=100)
    with pytest.raises(DataError, match='"error"') as found:
        texts(data, 1300)
    assert found.value.where == f"{path}:1201"


def test_evaluation_rows_are_prepared_beforehand(tmp_path: Path, write_rows: Write) -> None:
    write_rows(rows_of(50), "train.jsonl")
    write_rows(rows_of(7, "held out "), "test.jsonl")
    data = streamed(tmp_path, eval_split="test")
    assert data.eval is not None
    assert len(data.eval) == 7
    assert [reference.prompt for reference in data.eval_references[:2]] == ["held out 0", "held out 1"]


def test_nothing_lies_beyond_the_first_rows_is_read(write_rows: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_rows(rows_of(200_000))
    from tui_trainer.engine.data.sources.json_lines import JsonLines

    furthest: list[int] = []
    rows = JsonLines.rows

    def noted(self: Any, start: int, stop: int) -> list[Row | BadRow]:
        furthest.append(stop)
        return rows(self, start, stop)

    def refused(self: Any, *_: Any) -> int:
        raise AssertionError("counted the whole set")

    monkeypatch.setattr(JsonLines, "rows", noted)
    monkeypatch.setattr(JsonLines, "count", refused)
    texts(streamed(path, shuffle_buffer=2000), 300)
    assert max(furthest) == 2000


def test_the_log_of_windows_survives_half_a_line(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "stream.log"
    WindowLog(path).add(0, 250, 6)
    with path.open("ab") as file:
        file.write(b"1 99")
    log = WindowLog(path)
    assert log.counts(0) == (250, 6)
    assert log.counts(1) is None


def test_streams_of_the_hub(write_rows: Write) -> None:
    path = write_rows(rows_of(2500))
    loaded = datasets.load_dataset("json", data_files=str(path), split="train", streaming=True)
    source = HubStream(loaded, "owner/name/train", "made from")
    assert source.num_rows is None
    assert source.features == {"messages": "list<struct>"}

    def numbers(start: int, stop: int) -> list[str]:
        return [row["messages"][0]["content"] for row in source.rows(start, stop) if isinstance(row, dict)]

    assert numbers(0, 3) == ["q0", "q1", "q2"]
    assert numbers(2000, 2002) == ["q2000", "q2001"]
    assert numbers(1, 3) == ["q1", "q2"]
    assert numbers(1500, 1501) == ["q1500"]
    assert source.num_rows is None
    assert numbers(2498, 2600) == ["q2498", "q2499"]
    assert source.num_rows == source.count() == 2500
