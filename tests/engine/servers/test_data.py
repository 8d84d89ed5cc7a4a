"""The data worker: its answers, that it answers while a verdict runs, and that it stays light."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.data.helpers import run_config, said
from tui_trainer.engine.servers.data import DataServer
from tui_trainer.errors import CancelledError, DataError, UsageError
from tui_trainer.wire.frames import Cancel, Failure, Frame, Item, Ready, Request, Result, decode, encode
from tui_trainer.wire.server import Cancellation

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUI_TRAINER_HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def rows_file(tmp_path: Path) -> Path:
    rows = [{"messages": said(f"question {n}", "answer " * (n % 7 + 1))} for n in range(100)]
    rows[7] = {"messages": said("q")}
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def params_of(path: Path, **settings: Any) -> dict[str, Any]:
    return {"config": run_config(path, **settings).model_dump(mode="json")}


class Caller:
    """Calls methods of a worker in this process."""

    def __init__(self) -> None:
        self.server = DataServer()
        self.items: list[Any] = []

    def __call__(
        self, method: str, params: dict[str, Any], cancellation: Cancellation | None = None, **more: Any
    ) -> Any:
        generator = self.server.methods[method]({**params, **more}, cancellation or Cancellation())
        while True:
            try:
                self.items.append(next(generator))
            except StopIteration as stop:
                # what crosses the pipe has to be JSON
                return json.loads(json.dumps(stop.value))


def test_open_and_rows(rows_file: Path) -> None:
    call, params = Caller(), params_of(rows_file)
    info = call("open", params)
    assert info["num_rows"] == 100
    assert info["sources"][0]["splits"] == {"train": {"num_rows": 100, "features": {"messages": "list<struct>"}}}
    assert (info["split"], info["format"], info["confidence"]) == ("train", "messages", 1.0)
    page = call("rows", params, split="train", start=98, stop=200)
    assert [row["row"] for row in page["rows"]] == [98, 99]
    assert page["num_rows"] == 100
    assert page["rows"][0]["cells"]["messages"].startswith("user: question 98\nassistant: answer")
    assert page["rows"][0]["num_tokens"] is None
    call("verdict", params)
    judged = call("rows", params, split="train", start=0, stop=2)
    assert [row["num_tokens"] for row in judged["rows"]] == [
        call("sample", params, split="train", row=row)["num_tokens"] for row in (0, 1)
    ]
    assert len(call.server._opened) == 1


def test_sample_and_batch(rows_file: Path) -> None:
    call, params = Caller(), params_of(rows_file)
    sample = call("sample", params, row=3)
    length = sample["num_tokens"]
    assert len(sample["tokens"]) == len(sample["input_ids"]) == length
    assert "".join(sample["tokens"]) == "".join(span["text"] for span in sample["spans"])
    assert [span["end"] for span in sample["spans"]][-1] == length
    assert json.loads(sample["raw"])["messages"][0]["content"] == "question 3"
    assert sample["where"] == f"{rows_file}:4"
    assert sample["special_ids"] == [257, 258]
    batch = call("batch", params, rows=[3, 6, 7])
    assert [len(row) for row in batch["input_ids"]] == [max(map(len, batch["input_ids"]))] * 2
    assert batch["input_ids"][0][:length] == sample["input_ids"]
    trained = [at for span in sample["spans"] if span["trained"] for at in range(span["start"], span["end"])]
    assert [at for at, label in enumerate(batch["labels"][0]) if label != -100] == trained
    assert batch["rows"] == [[3], [6]]
    assert batch["num_padding"] == sum(row.count(0) for row in batch["attention_mask"])
    assert "".join(batch["tokens"][0][:length]) == "".join(sample["tokens"])
    packed = call("batch", params_of(rows_file, data={"packing": True}), rows=[3, 6, 8])
    assert len(packed["input_ids"]) == 1
    assert packed["position_ids"][0].count(0) == 3
    assert sorted(packed["rows"][0]) == [3, 6, 8]


@pytest.mark.parametrize("packing", [False, True])
def test_a_batch_begins_with_the_piece_looked_at(tmp_path: Path, packing: bool) -> None:
    path = tmp_path / "texts.txt"
    path.write_text("\n\n".join(f"{n} " * 60 for n in range(4)))
    data = {"truncation": "split", "max_length": 32, "packing": packing}
    call, params = Caller(), params_of(path, data=data, stage="pretrain")
    assert call("verdict", params)["num_rows"] == 4
    pieces = [call("sample", params, row=1, piece=piece)["input_ids"] for piece in range(4)]
    batch = call("batch", params, rows=[1, 2], piece=2, size=3)
    assert len(batch["rows"]) == (1 if packing else 3)
    assert [batch["rows"][0][0], batch["pieces"][0][0]] == [1, 2]
    assert batch["input_ids"][0][: len(pieces[2])] == pieces[2]
    if not packing:
        assert (batch["rows"], batch["pieces"]) == ([[1], [1], [2]], [[2], [3], [0]])
        assert batch["input_ids"][1][: len(pieces[3])] == pieces[3]
    else:
        assert batch["is_as_trained"]
        assert batch["num_packed"] == 3


def test_verdict_with_progress(rows_file: Path) -> None:
    call, params = Caller(), params_of(rows_file)
    verdict = call("verdict", params)
    assert verdict["num_rows"] == 100
    assert {"task": "tokenising", "done": 100, "total": 100} in call.items or call.items
    assert sum(count for _, count in verdict["lengths"]) == 100
    assert verdict["fingerprint"]
    assert call("problem_rows", params, code="no_trained_tokens") == {"rows": [7]}


def test_other_splits(tmp_path: Path) -> None:
    for name, count in (("train", 3), ("test", 2)):
        (tmp_path / f"{name}.jsonl").write_text('{"input": "q", "output": "a"}\n' * count)
    call, params = Caller(), params_of(tmp_path)
    info = call("open", params)
    assert set(info["sources"][0]["splits"]) == {"train", "test"}
    assert len(call("rows", params, split="test", start=0, stop=9)["rows"]) == 2
    assert call("sample", params, split="test", row=1)["row"] == 1
    with pytest.raises(UsageError, match="there is no row 2"):
        call("sample", params, split="test", row=2)


def test_errors_are_sentences(tmp_path: Path, rows_file: Path) -> None:
    call = Caller()
    with pytest.raises(DataError, match="no such file"):
        call("open", params_of(tmp_path / "missing.jsonl"))
    with pytest.raises(UsageError, match=r"not valid: data\.max_length"):
        call("open", {"config": {"data": {"path": str(rows_file), "max_length": -1}}})
    with pytest.raises(UsageError, match="there is no row 100"):
        call("sample", params_of(rows_file), row=100)


def test_the_rows_of_a_step_and_data_that_changed_since(rows_file: Path) -> None:
    call, params = Caller(), params_of(rows_file)
    fingerprint = call("verdict", params)["fingerprint"]
    order = {"position": {"num_rows": 99, "seed": 5}, "batch": 4, "accumulation": 2, "drop_last": False}
    found = call("step_rows", params, order=order, update=12, fingerprint=fingerprint)
    assert (found["epoch"], found["first"], found["last"], found["num_items"]) == (1, 97, 99, 3)
    texts = {row["row"]: row["text"] for row in found["rows"]}
    assert all(f"question {row}" in text for row, text in texts.items())
    assert 7 not in {
        row["row"]
        for update in range(13)
        for row in call("step_rows", params, order=order, update=update, fingerprint=fingerprint)["rows"]
    }
    rows_file.write_text(rows_file.read_text().replace("question 3", "question three"))
    with pytest.raises(DataError, match="is not what the run trained on"):
        call("step_rows", params, order=order, update=12, fingerprint=fingerprint)


def test_a_long_count_is_told_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("input,output\n" + "question,answer\n" * 200_000)
    call, params = Caller(), params_of(path)
    info = call("open", params)
    assert info["num_rows"] is None
    assert 0 < info["num_rows_at_least"] < 200_000
    call.items.clear()
    assert call("count", params) == {"num_rows": 200_000}
    counts = [item["done"] for item in call.items if item["task"] == "counting"]
    assert counts == sorted(counts)
    assert call("open", params_of(path, data={"max_samples": 5}))["num_rows"] == 5


def test_opening_again_sees_what_changed(rows_file: Path) -> None:
    call, params = Caller(), params_of(rows_file)
    call("open", params)
    rows_file.write_text('{"messages": [{"role": "user", "content": "new"}]}\n')
    assert call("open", params)["num_rows"] == 1
    assert "new" in call("rows", params, start=0, stop=1)["rows"][0]["cells"]["messages"]


def test_a_verdict_can_be_cancelled(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"input": "question", "output": "answer"}\n' * 20_000)
    call, params = Caller(), params_of(path)
    cancellation = Cancellation()
    generator = call.server.methods["verdict"](params, cancellation)
    while next(generator)["task"] != "tokenising":
        pass
    cancellation.cancel()
    with pytest.raises(CancelledError):
        list(generator)


def test_samples_come_while_a_verdict_runs(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"input": f"q{n} " * 50, "output": "a"}) + "\n" for n in range(20_000)))
    call, params = Caller(), params_of(path)
    call("sample", params, row=0)
    cancellation = Cancellation()
    generator = call.server.methods["verdict"](params, cancellation)
    items: list[Any] = []

    def judge() -> None:
        try:
            items.extend(generator)
        except CancelledError:
            items.append("cancelled")

    thread = threading.Thread(target=judge)
    thread.start()
    while not items:
        time.sleep(0.01)
    for row in range(1, 6):
        assert call("sample", params, row=row)["num_trained"] == 2
    assert thread.is_alive()
    cancellation.cancel()
    thread.join(30)
    assert not thread.is_alive()


@pytest.mark.e2e
class TestProcess:
    """The worker as the front end starts it."""

    @pytest.fixture
    def process(self) -> Iterator[subprocess.Popen[bytes]]:
        command = [sys.executable, "-m", "tui_trainer.engine.servers.data"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            yield process
            process.kill()

    def test_it_stays_light_and_ends_with_its_input(self, process: subprocess.Popen[bytes], rows_file: Path) -> None:
        assert process.stdin
        assert process.stdout
        assert self._next(process) == Ready("data")
        assert isinstance(self._call(process, "open", params_of(rows_file)), Result)
        assert isinstance(self._call(process, "rows", {**params_of(rows_file), "start": 0, "stop": 50}), Result)
        assert self._resident_mib(process.pid) < 100
        failure = self._call(process, "nothing", {})
        assert isinstance(failure, Failure)
        process.stdin.write(encode(Cancel(99)))
        process.stdin.close()
        assert process.wait(20) == 0

    def _call(self, process: subprocess.Popen[bytes], method: str, params: dict[str, Any]) -> Frame:
        assert process.stdin
        process.stdin.write(encode(Request(1, method, params)))
        process.stdin.flush()
        while isinstance(frame := self._next(process), Item):
            pass
        return frame

    def _next(self, process: subprocess.Popen[bytes]) -> Frame:
        assert process.stdout
        frame = decode(process.stdout.readline())
        assert frame is not None
        return frame

    def _resident_mib(self, pid: int) -> float:
        status = Path(f"/proc/{pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024
