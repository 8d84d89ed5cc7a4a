"""GGUF files become ordinary models, once, whoever asks and however often."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from tests.engine.models.tiny_gguf import write_gguf
from tests.engine.tiny import chat_model, tiny_model
from tui_trainer.config.model import ModelConfig
from tui_trainer.config.schema import RunConfig
from tui_trainer.engine.models import gguf
from tui_trainer.engine.models.load import load_model_for_training
from tui_trainer.engine.models.locate import locate_model
from tui_trainer.engine.models.shape import describe_model
from tui_trainer.engine.models.tokenizer import load_tokenizer
from tui_trainer.errors import CancelledError, DataError, MachineError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "tiny.gguf", tiny_model(vocab_size=260))


def test_the_converted_model_computes_the_same(file: Path) -> None:
    loaded = chat_model(str(file))
    ids = torch.tensor([[72, 101, 108, 108, 111]])
    with torch.no_grad():
        torch.testing.assert_close(
            loaded.model(ids).logits, tiny_model(vocab_size=260)(ids).logits, rtol=1e-4, atol=1e-4
        )
    assert loaded.tokenizer.decode(loaded.tokenizer.encode("Héllo 世界")) == "Héllo 世界"
    assert loaded.stop_token_ids == (258,)


def test_it_can_be_trained_and_saved(file: Path, tmp_path: Path) -> None:
    config = RunConfig.model_validate({"model": {"name_or_path": str(file)}, "lora": {"r": 2}})
    model = load_model_for_training(config, load_tokenizer(config.model))
    loss = model(torch.tensor([[1, 2, 3]]), labels=torch.tensor([[1, 2, 3]])).loss
    loss.backward()
    model.save_pretrained(str(tmp_path / "saved"))  # type: ignore[operator]
    assert (tmp_path / "saved" / "adapter_model.safetensors").is_file()


def test_it_is_converted_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = locate_model(str(file)).path
    monkeypatch.setattr(gguf, "convert", None)
    assert locate_model(str(file)).path == first
    os.utime(file, (1, 1))
    with pytest.raises(TypeError):
        locate_model(str(file))


def test_an_interrupted_conversion_leaves_nothing(file: Path, tmp_path: Path) -> None:
    def report(task: str, done: int | None, total: int | None) -> None:
        if "saving" in task:
            raise CancelledError("cancelled")

    with pytest.raises(CancelledError):
        locate_model(str(file), report=report)
    models = tmp_path / "home" / "cache" / "models"
    assert [path.name for path in models.iterdir() if path.is_dir()] == []
    assert locate_model(str(file)).path.parent == models


def test_what_a_killed_conversion_left_is_cleared_away(file: Path, tmp_path: Path) -> None:
    path = locate_model(str(file)).path
    unfinished = path.parent / f".{path.name}.unfinished"
    path.rename(unfinished)
    (unfinished / "rubbish").touch()
    assert locate_model(str(file)).path == path
    assert not unfinished.exists()
    assert not (path / "rubbish").exists()


@pytest.mark.e2e
def test_two_processes_convert_once(file: Path, tmp_path: Path) -> None:
    program = f"""
        from pathlib import Path
        from tui_trainer.engine.models import gguf
        convert = gguf.convert
        def counted(path, target, report):
            with Path({str(tmp_path / "count")!r}).open("a") as file:
                file.write("x")
            convert(path, target, report)
        gguf.convert = counted
        print(gguf.converted(Path({str(file)!r})))
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) for _ in range(2)]
    paths = {process.communicate(timeout=120)[0] for process in both}
    assert len(paths) == 1
    assert (tmp_path / "count").read_text() == "x"


@pytest.mark.parametrize("content", [b"", b"GGUF", b"<html>not found</html>", b"GGUF\x03\0\0\0" + bytes(100)])
def test_what_is_no_gguf_file_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.gguf").write_bytes(content)
    with pytest.raises(DataError, match="GGUF"):
        locate_model("broken.gguf")


def test_a_disk_without_room_is_told_before(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(MachineError, match="are free"):
        locate_model(str(file))


def test_its_sizes_are_known_without_converting(file: Path, tmp_path: Path) -> None:
    shape = describe_model(ModelConfig(name_or_path=str(file)))
    assert shape.num_parameters == tiny_model(vocab_size=260).num_parameters()
    assert not (tmp_path / "home").exists()
