"""Other weights in a living session, and a session that follows a run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine.chat.conftest import MESSAGES, Caller
from tests.engine.chat.test_sharing import GREEDY, alone, ids_of, save_adapter
from tests.engine.tiny import save_tiny
from tui_trainer.engine.chat import following
from tui_trainer.errors import CancelledError, DataError
from tui_trainer.runs import store
from tui_trainer.runs.layout import RunLayout
from tui_trainer.runs.status import RunStatus, State, write_status
from tui_trainer.wire.server import Cancellation


def swap(worker: Caller, model: Path | str, **params: Any) -> dict[str, Any]:
    described: dict[str, Any] = worker.call("swap", model=str(model), **params)[1]
    return described


@pytest.mark.parametrize("decode", ["auto", "library"])
def test_an_adapter_is_written_over_another_in_place(decode: str, tiny_folder: Path, tmp_path: Path) -> None:
    first, second = (save_adapter(tmp_path / f"step-{seed:06d}", tiny_folder, seed) for seed in (1, 2))
    worker = Caller()
    before = worker.load(first, decode=decode)
    model = worker.server._slots.local("a").loaded.model
    worker.ask(**GREEDY)
    described = swap(worker, second)
    assert described["how"] == "adapter in place"
    assert worker.server._slots.local("a").loaded.model is model
    assert (described["name"], described["step"]) == (str(second), 2)
    assert described["stamp"]["sha"] != before["stamp"]["sha"]
    document = worker.ask(**GREEDY)
    assert document["stamp"] == described["stamp"]
    assert document["usage"]["cached_tokens"] == 0
    assert ids_of(document) == alone(second, **GREEDY)


def test_whole_weights_are_written_over_others_in_place(tiny_folder: Path, other_folder: Path) -> None:
    worker = Caller()
    worker.load(tiny_folder)
    assert swap(worker, other_folder)["how"] == "weights in place"
    assert ids_of(worker.ask(**GREEDY)) == alone(other_folder, **GREEDY)


def test_what_does_not_fit_is_loaded_anew(tiny_folder: Path, tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path / "one", tiny_folder, 1)
    wider = save_adapter(tmp_path / "wider", tiny_folder, 2, r=5)
    deeper = save_tiny(tmp_path / "deeper", num_hidden_layers=3)
    worker = Caller()
    worker.load(adapter)
    for model in (wider, tiny_folder, deeper, adapter):
        assert swap(worker, model)["how"] == "loaded anew"
        assert ids_of(worker.ask(**GREEDY)) == alone(model, **GREEDY)


def test_int8_weights_are_loaded_anew_as_int8(tiny_folder: Path, other_folder: Path) -> None:
    worker = Caller()
    worker.load(tiny_folder, dtype="int8")
    described = swap(worker, other_folder)
    assert (described["how"], described["dtype"]) == ("loaded anew", "int8")


def test_weights_that_two_sessions_share_are_not_overwritten(
    tiny_folder: Path, other_folder: Path, tmp_path: Path
) -> None:
    adapters = [save_adapter(tmp_path / f"step-{seed:06d}", tiny_folder, seed) for seed in (1, 2)]
    worker = Caller()
    worker.load(tiny_folder)
    worker.call("load", model=str(adapters[0]), slot="b")
    assert swap(worker, adapters[1], slot="b")["how"] == "adapter in place"
    _, view = worker.call("compare", messages=MESSAGES, params=GREEDY)
    assert (view["in_one_batch"], ids_of(view["a"])) == (True, alone(tiny_folder, **GREEDY))
    assert ids_of(view["b"]) == alone(adapters[1], **GREEDY)
    assert swap(worker, other_folder)["how"] == "loaded anew"
    _, view = worker.call("compare", messages=MESSAGES, params=GREEDY)
    assert ids_of(view["b"]) == alone(adapters[1], **GREEDY)


def test_a_broken_adapter_changes_nothing(tiny_folder: Path, tmp_path: Path) -> None:
    first, second = (save_adapter(tmp_path / f"step-{seed:06d}", tiny_folder, seed) for seed in (1, 2))
    weights = second / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    worker = Caller()
    worker.load(first)
    with pytest.raises(DataError, match="cannot be read"):
        swap(worker, second)
    assert ids_of(worker.ask(**GREEDY)) == alone(first, **GREEDY)


# --- following a run


@pytest.fixture
def run(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> RunLayout:
    monkeypatch.setattr(following, "POLL_SECONDS", 0.01)
    layout = store.create("followed", "[data]\n", {})
    write_status(layout, RunStatus(layout.id, State.QUEUED))
    return layout


def publish(layout: RunLayout, base: Path, step: int) -> Path:
    staged = save_adapter(layout.staging / str(step), base, step)
    layout.checkpoints.mkdir(exist_ok=True)
    return staged.rename(layout.checkpoint(step))


def events(generator: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    return (item for item in generator if "event" in item)


def test_a_followed_run_brings_each_checkpoint_until_it_ends(run: RunLayout, tiny_folder: Path) -> None:
    worker = Caller()
    following_ = events(worker.server.follow({"run": run.id, "device": "cpu"}, Cancellation()))
    assert next(following_)["event"] == "waiting"
    first = publish(run, tiny_folder, 10)
    event = next(following_)
    assert (event["event"], event["step"], event["how"], event["device"]) == ("swapped", 10, "loaded anew", "cpu")
    assert event["path"] == str(first)
    assert 0 <= event["age_seconds"] < 60
    assert ids_of(worker.ask(**GREEDY)) == alone(first, **GREEDY)
    second = publish(run, tiny_folder, 20)
    event = next(following_)
    assert (event["step"], event["how"]) == (20, "adapter in place")
    assert ids_of(worker.ask(**GREEDY)) == alone(second, **GREEDY)
    assert next(following_)["event"] == "waiting"
    publish(run, tiny_folder, 30)
    write_status(run, RunStatus(run.id, State.FINISHED))
    assert next(following_)["step"] == 30
    assert list(following_) == []
    document = worker.ask(max_tokens=1)
    assert document["stamp"]["step"] == 30


def test_its_end_is_told(run: RunLayout) -> None:
    write_status(run, RunStatus(run.id, State.FAILED))
    items, end = Caller().call("follow", run=run.id)
    assert items == []
    assert end == {"event": "ended", "step": None, "reason": "the run is failed and has no checkpoint"}


def test_a_checkpoint_that_is_broken_or_gone_is_passed_over(run: RunLayout, tiny_folder: Path) -> None:
    worker = Caller()
    following_ = events(worker.server.follow({"run": run.id, "device": "cpu"}, Cancellation()))
    kept = publish(run, tiny_folder, 10)
    assert next(following_)["event"] == "swapped"
    broken = publish(run, tiny_folder, 20)
    (broken / "adapter_model.safetensors").unlink()
    event = next(following_)
    assert (event["event"], event["step"]) == ("skipped", 20)
    assert "adapter_model.safetensors" in event["note"]
    assert ids_of(worker.ask(**GREEDY)) == alone(kept, **GREEDY)
    shutil.rmtree(kept)
    assert worker.ask(**GREEDY)["candidates"]


def test_who_stops_following_keeps_the_model(run: RunLayout, tiny_folder: Path) -> None:
    publish(run, tiny_folder, 10)
    worker, cancellation = Caller(), Cancellation()
    following_ = events(worker.server.follow({"run": run.id, "device": "cpu"}, cancellation))
    assert next(following_)["event"] == "swapped"
    cancellation.cancel()
    with pytest.raises(CancelledError):
        list(following_)
    assert worker.ask(max_tokens=1)["stamp"]["step"] == 10
