"""Every way to name a model, and every way to name none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file

from tests.engine.tiny import tiny_model
from tui_trainer.engine.models.bytes_tokenizer import bytes_tokenizer
from tui_trainer.engine.models.locate import locate_model
from tui_trainer.engine.trainer.manifest import write_manifest
from tui_trainer.errors import DataError, ExitCode, RefusedError, UsageError, WorkbenchError
from tui_trainer.runs import store
from tui_trainer.runs.files import write_json
from tui_trainer.runs.layout import RunLayout


def save_adapter(folder: Path, base: str) -> Path:
    adapted = get_peft_model(tiny_model(), LoraConfig(r=2, target_modules="all-linear"))
    adapted.peft_config["default"].base_model_name_or_path = base
    adapted.save_pretrained(str(folder))
    return folder


def make_run(name: str, base: str | None = None) -> RunLayout:
    model = f'[model]\nname_or_path = "{base}"\n' if base else ""
    return store.create(name, model, {})


def test_a_folder_is_its_own_model_and_tokenizer(tiny_folder: Path) -> None:
    source = locate_model(str(tiny_folder))
    assert (source.path, source.tokenizer_path, source.adapter, source.run) == (tiny_folder, tiny_folder, None, None)


def test_an_adapter_stands_on_the_base_it_names(tiny_folder: Path, tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path / "adapter", str(tiny_folder))
    source = locate_model("adapter")
    assert (source.path, source.adapter, source.tokenizer_path) == (tiny_folder, adapter, tiny_folder)


def test_the_tokenizer_of_a_checkpoint_goes_before_its_bases(tiny_folder: Path, tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path / "adapter", str(tiny_folder))
    bytes_tokenizer().save_pretrained(adapter)
    assert locate_model("adapter").tokenizer_path == adapter


def test_runs_by_id_prefix_name_step_and_best(tiny_folder: Path) -> None:
    layout = make_run("dates")
    for step in (10, 20, 30):
        shutil.copytree(tiny_folder, layout.checkpoint(step))
    write_json(layout.checkpoints / "best.json", {"step": 20})
    steps = {
        reference: locate_model(reference).step
        for reference in (layout.id, layout.id[:-2], "dates", f"{layout.id}@10", "dates@best", "dates@latest")
    }
    assert list(steps.values()) == [30, 30, 30, 10, 20, 30]
    source = locate_model(str(layout.root))
    assert source.run == layout
    assert source.path == layout.checkpoint(30)


def test_a_damaged_checkpoint_is_passed_over_with_a_word(tiny_folder: Path) -> None:
    layout = make_run("dates")
    for step in (10, 20):
        shutil.copytree(tiny_folder, layout.checkpoint(step))
        write_manifest(layout.checkpoint(step), step)
    (layout.checkpoint(20) / "model.safetensors").write_bytes(b"cut")
    told: list[str] = []
    assert locate_model("dates", report=lambda task, *_: told.append(task)).step == 10
    assert "checkpoint 20 is passed over: model.safetensors has 3 bytes" in told[0]
    with pytest.raises(UsageError, match=r"checkpoint 20 is damaged.*The run has 10, 20"):
        locate_model("dates@20")


def test_the_folder_of_a_checkpoint_knows_its_run(tiny_folder: Path) -> None:
    layout = make_run("dates")
    shutil.copytree(tiny_folder, layout.checkpoint(10))
    layout.latest.symlink_to("step-000010")
    for path in (layout.checkpoint(10), layout.latest):
        source = locate_model(str(path))
        assert (source.run, source.step, source.path) == (layout, 10, layout.checkpoint(10))
    assert locate_model(str(tiny_folder)).run is None


def test_the_adapter_of_a_run_falls_back_to_the_model_the_run_trained(tiny_folder: Path, tmp_path: Path) -> None:
    layout = make_run("moved", str(tiny_folder))
    save_adapter(layout.checkpoint(5), str(tmp_path / "gone"))
    for reference in ("moved", str(layout.checkpoint(5))):
        source = locate_model(reference)
        assert (source.path, source.adapter, source.step) == (tiny_folder, layout.checkpoint(5), 5)


def test_an_adapter_without_its_base_says_which_is_missing(tmp_path: Path) -> None:
    save_adapter(tmp_path / "adapter", str(tmp_path / "gone"))
    with pytest.raises(UsageError, match=r"base of the adapter is missing.*gone"):
        locate_model("adapter")


def test_adapters_in_a_circle_end(tmp_path: Path) -> None:
    save_adapter(tmp_path / "a", str(tmp_path / "b"))
    save_adapter(tmp_path / "b", str(tmp_path / "a"))
    with pytest.raises(DataError, match="adapter on an adapter"):
        locate_model("a")


def test_a_tokenizer_needs_no_weights(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "light"
    shutil.copytree(tiny_folder, folder)
    (folder / "model.safetensors").unlink()
    assert locate_model("light", needs="tokenizer").tokenizer_path == folder
    with pytest.raises(DataError, match="no weights"):
        locate_model("light")


@pytest.mark.parametrize(
    ("reference", "exit_code", "words"),
    [
        ("", ExitCode.USAGE, ["no model is named"]),
        ("./nothing", ExitCode.USAGE, ["no folder", "nothing"]),
        ("weights.gguf", ExitCode.USAGE, ["no folder", "weights.gguf"]),
        ("some one/x y", ExitCode.USAGE, ["no folder"]),
        ("owner/name", ExitCode.LACKING, ["no folder", "hub's cache", "HF_HUB_OFFLINE"]),
        ("name", ExitCode.LACKING, ["no folder", "no run in", "hub's cache"]),
        ("nothing@7", ExitCode.USAGE, ["there is no run 'nothing'"]),
        ("demo:other", ExitCode.USAGE, ["demo:smollm2"]),
        ("http://localhost:8000/v1#m", ExitCode.USAGE, ["server"]),
        ("note.txt", ExitCode.USAGE, ["is no model"]),
    ],
)
def test_what_is_not_there_is_told_with_where_it_was_looked_for(
    tmp_path: Path, reference: str, exit_code: ExitCode, words: list[str]
) -> None:
    (tmp_path / "note.txt").write_text("hello")
    with pytest.raises(WorkbenchError) as caught:
        locate_model(reference)
    assert caught.value.exit_code == exit_code
    assert caught.value.remedy
    for word in words:
        assert word in str(caught.value)


def test_the_nearest_folder_is_suggested(tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "models" / "llama-tiny").mkdir(parents=True)
    with pytest.raises(WorkbenchError) as caught:
        locate_model("models/lama-tiny")
    assert "Did you mean models/llama-tiny?" in caught.value.remedy


def test_a_run_without_a_checkpoint_says_so() -> None:
    make_run("fresh")
    with pytest.raises(UsageError, match="no checkpoint yet"):
        locate_model("fresh")


def test_a_folder_without_a_model_names_those_inside(tiny_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_folder, tmp_path / "outer" / "inner")
    with pytest.raises(DataError) as caught:
        locate_model("outer")
    assert "inner" in caught.value.remedy


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "model.pt"])
def test_pickled_weights_are_refused_unread(tiny_folder: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(tiny_folder, folder)
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(b"cos\nsystem\n(S'touch harm'\ntR.")
    with pytest.raises(RefusedError) as caught:
        locate_model("pickled")
    assert name in str(caught.value)
    assert "save_pretrained" in caught.value.remedy
    assert not (tmp_path / "harm").exists()


def test_a_shard_that_is_missing_is_named(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sharded"
    shutil.copytree(tiny_folder, folder)
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    weight_map = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(DataError, match=r"1 of 2 weight files are missing, model-00002"):
        locate_model("sharded")


@pytest.mark.parametrize("text", ["{", "[]", ""])
def test_a_broken_adapter_config_is_named(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(text)
    save_file({}, folder / "adapter_model.safetensors")
    with pytest.raises(DataError, match=r"adapter_config\.json"):
        locate_model("adapter")
