"""The hub: fetched once, cached after that, asked once whether it is there, its refusals told in sentences."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.engine.models.fake_hub import COMMIT, FakeHub, fake_hub
from tests.engine.tiny import chat_model
from tui_trainer.engine.models import hub
from tui_trainer.engine.models.locate import locate_model
from tui_trainer.errors import CancelledError, ExitCode, MachineError, RefusedError, UsageError, WorkbenchError

REPO = "acme/tiny"


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch, tiny_folder: Path) -> Iterator[FakeHub]:
    with fake_hub() as server:
        server.files[REPO] = {path.name: path.read_bytes() for path in tiny_folder.iterdir()}
        server.files[REPO] |= {"README.md": b"#", "pytorch_model.bin": b"x", "onnx/config.json": b"{}", "code.py": b""}
        _point_at(server.url, monkeypatch)
        yield server


def _point_at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub.is_online.cache_clear()


def test_a_model_is_fetched_once_and_then_comes_from_the_cache(online: FakeHub, tiny_folder: Path) -> None:
    reports: list[tuple[str, int | None, int | None]] = []
    source = locate_model(REPO, report=lambda *report: reports.append(report))
    assert {path.name for path in source.path.iterdir()} == {path.name for path in tiny_folder.iterdir()}
    assert (source.repo_id, source.commit) == (REPO, COMMIT)
    size = (tiny_folder / "model.safetensors").stat().st_size
    assert max(done or 0 for _, done, _ in reports) >= size
    online.requests.clear()
    hub.is_online.cache_clear()
    assert locate_model(REPO).path == source.path
    assert online.requests == []


def test_a_fetched_model_answers(online: FakeHub) -> None:
    assert chat_model(REPO).num_parameters > 1000


def test_a_tokenizer_is_had_without_the_weights(online: FakeHub) -> None:
    locate_model(REPO, needs="tokenizer")
    assert not any("safetensors" in request for request in online.requests if "resolve" in request)
    source = locate_model(REPO)
    assert (source.path / "model.safetensors").is_file()


def test_code_is_fetched_with_consent_only(online: FakeHub) -> None:
    assert not (locate_model(REPO).path / "code.py").exists()
    assert not any(request.endswith("code.py") for request in online.requests)


def test_a_revision_that_is_not_there(online: FakeHub) -> None:
    with pytest.raises(UsageError, match="no revision 'v9'"):
        locate_model(REPO, revision="v9")


def test_a_model_that_is_not_there(online: FakeHub) -> None:
    with pytest.raises(UsageError, match="hub has no model 'acme/other'"):
        locate_model("acme/other")


def test_a_gated_model_says_how_to_get_access(online: FakeHub) -> None:
    online.gated.add(REPO)
    with pytest.raises(MachineError) as caught:
        locate_model(REPO)
    assert "gated" in caught.value.what
    assert "hf auth login" in caught.value.remedy


@pytest.mark.parametrize(
    ("extra", "kind", "words"),
    [
        ("pytorch_model.bin", RefusedError, "pickled"),
        ("model-q4.gguf", UsageError, "GGUF"),
        ("notes.md", UsageError, "no weights"),
    ],
)
def test_a_repository_without_safetensors(online: FakeHub, extra: str, kind: type[WorkbenchError], words: str) -> None:
    for name in ("model.safetensors", "pytorch_model.bin"):
        del online.files[REPO][name]
    online.files[REPO][extra] = b"x"
    with pytest.raises(kind, match=words):
        locate_model(REPO)
    assert not any(extra in request for request in online.requests)


def test_a_hub_that_fails_is_a_sentence(online: FakeHub) -> None:
    online.failing = "/api/"
    with pytest.raises(MachineError) as caught:
        locate_model(REPO)
    assert caught.value.exit_code == ExitCode.LACKING


def test_fetching_can_be_cancelled(online: FakeHub) -> None:
    def report(task: str, done: int | None, total: int | None) -> None:
        raise CancelledError("cancelled")

    with pytest.raises(CancelledError):
        locate_model(REPO, report=report)


def test_a_cached_model_needs_no_network(online: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    path = locate_model(REPO).path
    _point_at("http://127.0.0.1:9", monkeypatch)
    assert locate_model(REPO).path == path


def test_an_offline_machine_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        _point_at(f"http://127.0.0.1:{listening.getsockname()[1]}", monkeypatch)
        with pytest.raises(MachineError, match="does not answer"):
            locate_model(REPO)
    assert hub.is_online.cache_info().misses == 1
    with pytest.raises(MachineError, match="does not answer"):
        locate_model("acme/other")
    assert hub.is_online.cache_info().misses == 1


def test_a_hub_that_never_answers_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "PROBE_SECONDS", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        _point_at(f"http://127.0.0.1:{silent.getsockname()[1]}", monkeypatch)
        started = time.monotonic()
        assert not hub.is_online()
    assert time.monotonic() - started < 2


def test_offline_by_wish_asks_nobody(online: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.is_online.cache_clear()
    with pytest.raises(MachineError, match="HF_HUB_OFFLINE"):
        locate_model(REPO)
    assert online.requests == []
