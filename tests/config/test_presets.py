"""Every shipped preset loads, passes the checks and keeps the promises of its header; presets are found and copied."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tui_trainer import paths
from tui_trainer.config.catalogue import ALIASES, catalogue
from tui_trainer.config.checks import Facts, check_config
from tui_trainer.config.launch import num_processes
from tui_trainer.config.load import load_config
from tui_trainer.config.memory import estimate_memory
from tui_trainer.config.presets import Preset, copy_preset, find_preset, list_presets, own_presets_dir
from tui_trainer.config.resolve import Layer
from tui_trainer.config.schema import RunConfig
from tui_trainer.config.shape import shape_from_config
from tui_trainer.config.toml import read_document
from tui_trainer.errors import ConfigurationError, RefusedError, UsageError

ON_TWO_CORES = (
    "dates-from-scratch",
    "identity-lora",
    "pretrain-continued",
    "pretrain-from-scratch",
    "sft-full",
    "sft-lora",
)
ON_GPUS = ("sft-deepspeed", "sft-fsdp", "sft-multi-node", "sft-qlora")
QWEN3_8B = {
    "model_type": "qwen3",
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
}


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUI_TRAINER_HOME", str(tmp_path / "home"))


def _config(name: str) -> RunConfig:
    return load_config(name).config


def test_the_promised_presets_are_there() -> None:
    assert [preset.name for preset in list_presets()] == sorted((*ON_TWO_CORES, *ON_GPUS))
    assert all(preset.is_shipped for preset in list_presets())
    assert {path.suffix for path in paths.presets_dir().iterdir()} == {".toml"}


@pytest.mark.parametrize("name", [*ON_TWO_CORES, *ON_GPUS])
def test_a_preset_is_a_lesson(name: str) -> None:
    preset = find_preset(name)
    assert preset.title
    assert len(preset.title) <= 80
    assert len(preset.description) > 150
    assert preset.command.startswith(f"tui-trainer train {name}")
    assert re.search(r"\d+ (s|min|h)\b", preset.expected_time)
    assert re.search(r"\d GB\b", preset.expected_memory)
    assert preset.figures.startswith(("measured on", "not measured"))
    is_estimate = preset.figures.startswith("not measured")
    assert preset.expected_time.endswith("(estimated)") is is_estimate
    assert preset.expected_memory.endswith("(estimated)") is is_estimate
    assert all(len(line) <= 120 or "{" in line for line in preset.text.splitlines())


@pytest.mark.parametrize("name", [*ON_TWO_CORES, *ON_GPUS])
def test_the_command_of_a_preset_is_understood(name: str) -> None:
    for assignment in re.findall(r"--set (\S+)", find_preset(name).command):
        key = assignment.partition("=")[0]
        assert key in catalogue() or key in ALIASES


@pytest.mark.parametrize("name", ON_TWO_CORES)
def test_presets_for_two_cores_pass_the_checks_there(name: str) -> None:
    assert check_config(_config(name), Facts(num_gpus=0, num_cpus=2)) == []


@pytest.mark.parametrize("name", ON_GPUS)
def test_presets_for_gpus_pass_the_checks_there(name: str) -> None:
    config = _config(name)
    gpus = max(1, (config.launch.num_processes or 1) // config.launch.num_machines)
    assert check_config(config, Facts(num_gpus=gpus, has_bf16=True)) == []


@pytest.mark.parametrize("name", ON_GPUS)
def test_memory_in_the_header_is_what_is_estimated(name: str) -> None:
    config = _config(name)
    estimate = estimate_memory(config, shape_from_config(QWEN3_8B), num_processes(config, 1)).total
    said = float(re.match(r"(\d+) GB", find_preset(name).expected_memory)[1])  # type: ignore[index]
    assert said * 0.85 <= estimate / 2**30 <= said * 1.1


def test_values_of_a_preset_know_where_they_come_from() -> None:
    resolved = load_config("dates-from-scratch", ["training.seed=7"])
    assert resolved.layer_of("training.learning_rate") is Layer.PRESET
    assert resolved.layer_of("training.seed") is Layer.TYPED
    assert resolved.layer_of("training.weight_decay") is Layer.DEFAULT


def test_prompts_of_the_identity_preset_are_the_held_out_questions() -> None:
    from tui_trainer.engine.demo.samples import identity_questions

    about_self, about_others = identity_questions()
    assert _config("identity-lora").sampling.prompts == [*about_self, *about_others]


def test_no_preset_trains_on_what_it_is_asked() -> None:
    from tui_trainer.engine.demo.samples import sample_path

    for name in ON_TWO_CORES:
        config = _config(name)
        rows = (sample_path(config.data.path or "") / "train.jsonl").read_text("utf-8")
        if config.stage == "sft":
            assert [prompt for prompt in config.sampling.prompts if f'"{prompt}"' in rows] == []


def test_a_preset_is_found_by_name_or_by_its_nearest() -> None:
    assert find_preset("sft-lora").path.name == "sft-lora.toml"
    with pytest.raises(UsageError, match=r"Did you mean sft-lora\?"):
        find_preset("stf-lora")
    with pytest.raises(UsageError, match="There are: dates-from-scratch, "):
        find_preset("xyzzy")


def test_own_presets_join_and_replace_shipped_ones() -> None:
    own_presets_dir().mkdir(parents=True)
    (own_presets_dir() / "mine.toml").write_text("name = 'mine'\n")
    (own_presets_dir() / "sft-lora.toml").write_text("# My own\n#\n# command: x\nname = 'own'\n")
    names = [preset.name for preset in list_presets()]
    assert "mine" in names
    assert names.count("sft-lora") == 1
    assert find_preset("sft-lora").title == "My own"
    assert not find_preset("sft-lora").is_shipped
    assert _config("sft-lora").name == "own"
    assert find_preset("mine").title == ""


HEADER = """\
# A title
#
# First paragraph,
# over two lines.
#
# Second: with a colon.
#
# command: tui-trainer train x
# time: 3 s
# memory: 1 GB
# figures: measured on
#   two cores

# no header any more
name = "x"
"""


def test_a_header_is_read(tmp_path: Path) -> None:
    own_presets_dir().mkdir(parents=True)
    path = own_presets_dir() / "x.toml"
    path.write_text(HEADER)
    assert find_preset("x") == Preset(
        name="x",
        title="A title",
        description="First paragraph, over two lines.\n\nSecond: with a colon.",
        command="tui-trainer train x",
        expected_time="3 s",
        expected_memory="1 GB",
        figures="measured on two cores",
        path=path,
        is_shipped=False,
    )


def test_a_broken_preset_does_not_hide_the_others() -> None:
    own_presets_dir().mkdir(parents=True)
    (own_presets_dir() / "bytes.toml").write_bytes(b"\xff\xfe")
    (own_presets_dir() / "folder.toml").mkdir()
    titles = {preset.name: preset.title for preset in list_presets()}
    assert len(titles) == len(ON_TWO_CORES) + len(ON_GPUS) + 2
    assert titles["folder"].startswith("cannot be read")
    with pytest.raises(ConfigurationError, match="UTF-8"):
        load_config("bytes")


def test_a_preset_is_copied_and_nothing_is_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "mine.toml"
    copy_preset("sft-lora", target)
    assert target.read_text("utf-8") == find_preset("sft-lora").text
    assert load_config(str(target)).layer_of("lora.r") is Layer.FILE
    with pytest.raises(RefusedError, match="exists already"):
        copy_preset("sft-full", target)
    copy_preset("sft-full", tmp_path)
    assert read_document(tmp_path / "sft-full.toml").tree["name"] == "sft-full"
    with pytest.raises(UsageError, match="cannot be written"):
        copy_preset("sft-full", tmp_path / "none" / "x.toml")


def test_what_looks_like_a_path_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sft-lora").write_text("name = 'a-file'\n")
    assert load_config("sft-lora").config.name == "a-file"
    with pytest.raises(UsageError, match="no such file"):
        load_config("sft-full.toml")
    with pytest.raises(UsageError, match=r"no file and no preset 'sft-ful'\. Did you mean sft-full\?"):
        load_config("sft-ful")


def test_a_preset_alone_cannot_have_foreign_code_run(tmp_path: Path) -> None:
    own_presets_dir().mkdir(parents=True)
    text = "[model]\nname_or_path = 'x/y'\ntrust_remote_code = true\n"
    (own_presets_dir() / "sly.toml").write_text(text)
    with pytest.raises(ConfigurationError, match="a preset alone cannot grant it"):
        load_config("sly")
    assert load_config("sly", ["model.trust_remote_code=true"]).config.model.trust_remote_code
    assert not load_config("sly", ["model.trust_remote_code=false"]).config.model.trust_remote_code
    (tmp_path / "mine.toml").write_text(text)
    assert load_config(str(tmp_path / "mine.toml")).config.model.trust_remote_code
