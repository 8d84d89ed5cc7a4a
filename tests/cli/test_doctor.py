"""`tui-trainer doctor`: facts, findings, exit code."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.cli.conftest import Call
from tui_trainer import doctor
from tui_trainer.errors import ExitCode
from tui_trainer.procs.login import Logout


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A hub that refuses everything, as one does behind a login."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(403)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.delenv("HF_HUB_OFFLINE")
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_document(call: Call) -> None:
    document = call("doctor", "--json").json()
    assert document["version"] == 1
    assert document["healthy"] is True
    assert document["packages"]["torch"]
    assert document["python"]["version"].startswith("3.")
    assert {disk["what"] for disk in document["disks"]} == {"runs", "cache", "state", "hub cache"}
    assert document["machine"]["cpus"] >= 1
    assert document["hub"] == {"endpoint": "https://huggingface.co", "reachable": False, "offline_mode": True}
    assert {"kills_user_processes", "lingers", "scopes", "warning", "ssh"} == set(document["session"])
    assert {"is_terminal", "term", "columns", "lines", "encoding"} <= set(document["terminal"])
    assert "HF_HUB_OFFLINE is set" in {finding["what"] for finding in document["findings"]}


def test_for_people(call: Call) -> None:
    printed = call("doctor")
    assert printed.code == 0
    assert "torch" in printed.out
    assert "offline mode" in printed.out
    assert "warning: HF_HUB_OFFLINE is set" in printed.out


def test_any_answer_of_the_hub_counts(hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub)
    assert doctor.ask_hub() == {"endpoint": hub, "reachable": True, "offline_mode": False}


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "http://no-such-host.invalid", "nonsense"])
def test_a_hub_that_does_not_answer_is_no_trouble(hub: str, monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    assert doctor.ask_hub()["reachable"] is False


def test_secrets_in_the_address_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "https://me:password123@mirror.example")
    assert "password123" not in str(doctor.ask_hub())


def test_a_missing_package_forbids_training(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "importlib.metadata.requires", lambda _: ["torch>=2.10", "no-such-package>=1", "rich<1", 'x; extra == "y"']
    )
    printed = call("doctor")
    assert printed.code == ExitCode.LACKING
    assert "no-such-package is not installed" in printed.out
    assert "<1 is needed" in printed.out
    assert "error: x" not in printed.out


def test_a_folder_that_cannot_be_written_forbids_training(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TUI_TRAINER_RUNS", "/proc/runs")
    monkeypatch.setattr("os.access", lambda path, _: not str(path).startswith("/proc"))
    printed = call("doctor", "--json")
    assert printed.code == ExitCode.LACKING
    (error,) = [finding for finding in printed.json()["findings"] if finding["severity"] == "error"]
    assert "runs is not writable" in error["what"]
    assert "TUI_TRAINER_RUNS" in error["remedy"]


def test_a_gpu_without_the_right_torch_forbids_training(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    from tui_trainer.procs.hardware import Gpu

    monkeypatch.setattr(doctor, "detect_gpus", lambda: [Gpu(0, "A100", 1 << 30, 0, 0.0)])
    monkeypatch.setattr(doctor, "library_versions", lambda: {"torch": "2.13.0+cpu"})
    printed = call("doctor")
    assert printed.code == ExitCode.LACKING
    assert "without GPU support" in printed.out
    assert "A100" in printed.out


@pytest.mark.parametrize(("kills", "is_warned"), [(True, True), (False, False), (None, False)])
def test_logout(call: Call, monkeypatch: pytest.MonkeyPatch, kills: bool | None, is_warned: bool) -> None:
    monkeypatch.setattr(doctor, "logout", lambda: Logout(kills))
    assert ("kills a user's processes" in call("doctor").out) is is_warned


def test_a_gpu_that_runs_do_not_use_is_told(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "detect_gpus", list)
    monkeypatch.setattr(doctor, "_AMD", tmp_path)
    assert "there is an AMD GPU, and runs are started on NVIDIA's only" in call("doctor").out
    monkeypatch.setattr(doctor, "_AMD", tmp_path / "none")
    assert "no GPU was found" in call("doctor").out
