"""Loading for training and for chat: what is asked for is what is there, and what cannot be had is told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers.utils import logging as transformers_logging

from tests.engine.tiny import chat_model, save_tiny, tiny_model
from tui_trainer.config.schema import RunConfig
from tui_trainer.engine.models import placement
from tui_trainer.engine.models.load import load_model_for_training
from tui_trainer.engine.models.spread import whole_shape, whole_size
from tui_trainer.engine.models.tokenizer import load_tokenizer
from tui_trainer.errors import ConfigurationError, DataError, MachineError, RefusedError, UsageError

IDS = torch.tensor([[1, 2, 3, 4]])
SMALL = {"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
SCRATCH = {"from_scratch": SMALL | {"num_attention_heads": 4}, "tokenizer_name_or_path": "builtin:bytes"}


def make(**sections: Any) -> RunConfig:
    return RunConfig.model_validate(sections)


def trained(config: RunConfig) -> Any:
    return load_model_for_training(config, load_tokenizer(config.model))


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model(IDS).logits
    return result


# --- training


def test_full_training_trains_every_weight_in_float32(tiny_folder: Path) -> None:
    model = trained(make(model={"name_or_path": str(tiny_folder)}))
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    torch.testing.assert_close(logits(model.eval()), logits(tiny_model()))


@pytest.mark.parametrize(("dtype", "expected"), [("bfloat16", torch.bfloat16), ("float16", torch.float16)])
def test_the_type_asked_for_is_used(tiny_folder: Path, dtype: str, expected: torch.dtype) -> None:
    model = trained(make(model={"name_or_path": str(tiny_folder), "dtype": dtype}))
    assert {parameter.dtype for parameter in model.parameters()} == {expected}


@pytest.mark.parametrize(("choice", "expected"), [("auto", "sdpa"), ("eager", "eager"), ("sdpa", "sdpa")])
def test_the_attention_is_ours_to_choose(tiny_folder: Path, tmp_path: Path, choice: str, expected: str) -> None:
    folder = tmp_path / "kernel"
    shutil.copytree(tiny_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"attn_implementation": "evil/kernel"}))
    said: list[str] = []
    run = make(model={"name_or_path": str(folder), "attn_implementation": choice})
    model: Any = load_model_for_training(run, load_tokenizer(run.model), lambda task, *_: said.append(task))
    assert model.config._attn_implementation == expected
    assert any("attn_implementation" in task and "ignored" in task for task in said)


def test_attention_that_is_not_installed_is_told(tiny_folder: Path) -> None:
    with pytest.raises(MachineError, match="FlashAttention2"):
        trained(make(model={"name_or_path": str(tiny_folder), "attn_implementation": "flash_attention_2"}))


def test_lora_trains_the_adapter_alone_and_starts_without_a_change(tiny_folder: Path) -> None:
    model = trained(make(model={"name_or_path": str(tiny_folder)}, lora={"r": 4, "alpha": 8}))
    assert isinstance(model, PeftModel)
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert names
    assert all("lora_" in name for name in names)
    layers = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert {name.split(".")[-4] for name in names} == layers
    torch.testing.assert_close(logits(model.eval()), logits(tiny_model()))


def test_every_lora_field_arrives_in_peft(tiny_folder: Path) -> None:
    fields: dict[str, Any] = {
        "r": 3,
        "alpha": 7.0,
        "dropout": 0.1,
        "target_modules": ["q_proj", "v_proj"],
        "modules_to_save": ["lm_head"],
        "use_dora": True,
        "use_rslora": True,
        "bias": "lora_only",
        "init_lora_weights": "gaussian",
    }
    config = trained(make(model={"name_or_path": str(tiny_folder)}, lora=fields)).peft_config["default"]
    renamed = {"alpha": "lora_alpha", "dropout": "lora_dropout"}
    for name, value in fields.items():
        got = getattr(config, renamed.get(name, name))
        assert (set(got) if isinstance(got, set) else got) == (set(value) if isinstance(got, set) else value), name
    assert config.base_model_name_or_path == str(tiny_folder)


def test_a_seed_decides_new_weights_and_leaves_the_randomness_alone(tiny_folder: Path) -> None:
    def weights(seed: int, **sections: Any) -> list[torch.Tensor]:
        model = trained(make(training={"seed": seed}, **sections))
        return [parameter.detach().clone() for parameter in model.parameters()]

    for sections in ({"model": SCRATCH}, {"model": {"name_or_path": str(tiny_folder)}, "lora": {"r": 4}}):
        torch.manual_seed(123)
        first = weights(1, **sections)
        after = torch.rand(1)
        torch.manual_seed(99)
        again, other = weights(1, **sections), weights(2, **sections)
        assert all(map(torch.equal, first, again))
        assert not all(map(torch.equal, first, other))
        torch.manual_seed(123)
        assert torch.equal(after, torch.rand(1))


def test_gradients_reach_an_adapter_through_activation_checkpointing(tiny_folder: Path) -> None:
    config = make(model={"name_or_path": str(tiny_folder)}, lora={"r": 2}, training={"activation_checkpointing": True})
    model = trained(config).train()
    model.gradient_checkpointing_enable({"use_reentrant": True})
    model(IDS, labels=IDS).loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)


def test_a_new_model_has_the_tokenizers_vocabulary_and_ends() -> None:
    model = trained(make(model=SCRATCH))
    assert (model.config.vocab_size, model.config.eos_token_id, model.config.pad_token_id) == (259, 258, 256)
    assert model.generation_config.eos_token_id == 258


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "lama"}, "did you mean llama"),
        ({"model_type": None}, "model_type"),
        ({"hiden_size": 32}, "did you mean hidden_size"),
        ({"vocab_size": 100}, "the tokenizer has 259 tokens"),
        ({"hidden_size": "big"}, "does not make a model"),
        ({"hidden_size": 33}, "does not make a model"),
        ({"hidden_size": -32}, "does not make a model"),
        ({"model_type": "bert"}, "is_decoder"),
    ],
)
def test_a_new_model_that_cannot_be_is_told_by_its_key(changes: dict[str, Any], words: str) -> None:
    table = {name: value for name, value in ({"model_type": "llama"} | SMALL | changes).items() if value is not None}
    with pytest.raises(ConfigurationError) as caught:
        trained(make(model={"from_scratch": table, "tokenizer_name_or_path": "builtin:bytes"}))
    assert words in str(caught.value)
    assert all(problem.key.startswith("model.from_scratch") for problem in caught.value.problems)


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        ({"model": {}}, "model.tokenizer_name_or_path"),
        ({"model": {"tokenizer_name_or_path": "builtin:bytes"}}, "model.name_or_path"),
        ({"model": SCRATCH, "lora": {}}, "lora"),
        ({"model": {"name_or_path": "TINY"}, "lora": {"target_modules": ["nothing"]}}, "lora.target_modules"),
        ({"model": {"name_or_path": "TINY", "quantization": "nf4"}}, "model.quantization"),
    ],
)
def test_what_cannot_be_trained_is_told_by_its_key(tiny_folder: Path, sections: dict[str, Any], key: str) -> None:
    sections = json.loads(json.dumps(sections).replace("TINY", str(tiny_folder)))
    with pytest.raises(ConfigurationError) as caught:
        trained(make(**sections))
    assert [problem.key for problem in caught.value.problems] == [key]


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what a machine without a GPU is told")
def test_quantization_without_a_gpu_is_refused_before_anything_is_loaded() -> None:
    config = make(model={"name_or_path": "owner/large", "quantization": "int8"}, lora={})
    with pytest.raises(MachineError, match="needs an NVIDIA GPU"):
        load_model_for_training(config, load_tokenizer(make(model=SCRATCH).model))


def test_new_tokens_get_a_row_or_are_refused_for_an_adapter(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "short", vocab_size=250, eos_token_id=2, pad_token_id=0)
    model = {"name_or_path": str(folder), "tokenizer_name_or_path": "builtin:bytes"}
    assert trained(make(model=model)).get_input_embeddings().weight.shape[0] == 259
    with pytest.raises(ConfigurationError) as caught:
        trained(make(model=model, lora={}))
    assert caught.value.problems[0].key == "lora.modules_to_save"
    lora = {"modules_to_save": ["embed_tokens", "lm_head"]}
    assert trained(make(model=model, lora=lora)).get_input_embeddings().weight.shape[0] == 259


def test_an_adapter_is_trained_on_or_merged(tiny_folder: Path, tmp_path: Path) -> None:
    model = trained(make(model={"name_or_path": str(tiny_folder)}, lora={"r": 4, "alpha": 8}))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.2)
    model.save_pretrained(str(tmp_path / "adapter"))
    wanted = logits(model.eval())
    on = trained(make(model={"name_or_path": "adapter"}, lora={"r": 4, "alpha": 8}))
    torch.testing.assert_close(logits(on.eval()), wanted)
    assert any(parameter.requires_grad for parameter in on.parameters())
    merged = trained(make(model={"name_or_path": "adapter"}))
    assert not isinstance(merged, PeftModel)
    assert all(parameter.requires_grad for parameter in merged.parameters())
    torch.testing.assert_close(logits(merged.eval()), wanted, rtol=1e-4, atol=1e-4)
    with pytest.raises(ConfigurationError, match=r"lora\.r: is 8"):
        trained(make(model={"name_or_path": "adapter"}, lora={"r": 8, "alpha": 8}))


# --- broken files


def test_a_cut_file_is_told_with_its_size(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cut"
    shutil.copytree(tiny_folder, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(DataError, match="bytes"):
        chat_model("cut")


@pytest.mark.parametrize("content", [b"", b"12345678", b"\xff" * 64, b"version https://git-lfs.github.com/spec/v1\n"])
def test_a_file_that_is_none_is_told(tiny_folder: Path, tmp_path: Path, content: bytes) -> None:
    folder = tmp_path / "none"
    shutil.copytree(tiny_folder, folder)
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(DataError, match="weights are broken"):
        chat_model("none")


def test_missing_weights_are_not_made_up(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "missing"
    shutil.copytree(tiny_folder, folder)
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    for load_it in (lambda: chat_model("missing"), lambda: trained(make(model={"name_or_path": "missing"}))):
        with pytest.raises(DataError, match=r"1 weights .* missing .*up_proj"):
            load_it()


def test_weights_of_another_shape_are_told(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "shape"
    shutil.copytree(tiny_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 128}))
    with pytest.raises(DataError):
        chat_model("shape")


@pytest.mark.parametrize("changes", [{"model_type": "from-the-future"}, {"model_type": 3}, {"hidden_size": "x"}])
def test_a_configuration_nobody_knows_is_told(tiny_folder: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = tmp_path / "config"
    shutil.copytree(tiny_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(DataError, match=r"config\.json"):
        chat_model("config")


def test_code_of_a_repository_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "code"
    shutil.copytree(tiny_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'harm')!r}, 'w')")
    with pytest.raises(RefusedError, match=r"evil\.M"):
        chat_model("code")
    assert not (tmp_path / "harm").exists()


# --- chat


def test_an_adapter_goes_on_the_model_named_with_it(tiny_folder: Path, tmp_path: Path) -> None:
    model = trained(make(model={"name_or_path": str(tiny_folder)}, lora={"r": 4}))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.2)
    model.save_pretrained(str(tmp_path / "adapter"))
    for loaded in (chat_model("adapter"), chat_model(str(tiny_folder), adapter="adapter")):
        torch.testing.assert_close(logits(loaded.model), logits(model.eval()))
        assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
        assert not loaded.model.training
    with pytest.raises(UsageError, match="not an adapter"):
        chat_model(str(tiny_folder), adapter=str(tiny_folder))


def test_an_adapter_of_another_model_is_told(tiny_folder: Path, tmp_path: Path) -> None:
    other = save_tiny(tmp_path / "other", hidden_size=64)
    trained(make(model={"name_or_path": str(other)}, lora={"r": 4})).save_pretrained(str(tmp_path / "adapter"))
    with pytest.raises(DataError, match="adapter does not fit"):
        chat_model(str(tiny_folder), adapter="adapter")


def test_an_adapter_file_with_a_hole_is_told(tiny_folder: Path, tmp_path: Path) -> None:
    trained(make(model={"name_or_path": str(tiny_folder)}, lora={"r": 4})).save_pretrained(str(tmp_path / "adapter"))
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    tensors = load_file(file)
    tensors.popitem()
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(DataError, match="1 are missing"):
        chat_model("adapter")


def test_what_was_loaded_is_described(tiny_folder: Path) -> None:
    loaded = chat_model(str(tiny_folder))
    assert loaded.num_parameters == tiny_model().num_parameters()
    assert (loaded.context_length, loaded.stop_token_ids, loaded.has_template) == (512, (258,), True)
    assert loaded.device.type in ("cpu", "cuda")
    assert loaded.reason


@pytest.mark.parametrize(
    ("device", "dtype", "kind"),
    [
        ("tpu", "auto", UsageError),
        ("cuda:99", "auto", MachineError),
        ("cpu", "int4", UsageError),
        ("cpu", "x", UsageError),
    ],
)
def test_a_device_or_type_that_is_not_there(tiny_folder: Path, device: str, dtype: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        chat_model(str(tiny_folder), device=device, dtype=dtype)


def test_memory_decides_the_type_and_says_no_with_numbers(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "_CACHE_AND_CONTEXT_BYTES", 0)
    count = tiny_model().num_parameters()
    monkeypatch.setattr(placement, "available_memory", lambda: count * 3)
    loaded = chat_model(str(tiny_folder), device="cpu")
    assert loaded.dtype == torch.bfloat16
    assert "float32 would not fit" in loaded.reason
    monkeypatch.setattr(placement, "available_memory", lambda: count)
    with pytest.raises(MachineError, match=r"needs 68\.7 KiB of memory in bfloat16"):
        chat_model(str(tiny_folder), device="cpu")


def test_a_gpu_is_taken_only_if_it_has_room(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    config = tiny_model().config
    free = [1 << 30, 40 << 30]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (free[index], 80 << 30))
    place = placement.place_for_chat(1_000_000_000, config)
    assert (str(place.device), place.dtype) == ("cuda:1", torch.float32)
    free[1] = 3 << 30
    place = placement.place_for_chat(1_000_000_000, config)
    assert place.device.type == "cpu"
    assert "GPU 1 has 3.0 GiB free and 5.9 GiB would be needed" in place.reason


def test_the_loader_is_silent(tiny_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    chat_model(str(tiny_folder))
    assert "%|" not in capfd.readouterr().err
    assert not transformers_logging.is_progress_bar_enabled()


def test_a_gpu_that_lets_nobody_in_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def mem_get_info(index: int) -> tuple[int, int]:
        if index == busy or busy < 0:
            raise torch.AcceleratorError("CUDA-capable device(s) is/are busy or unavailable", 46)
        return 40 << 30, 80 << 30

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", mem_get_info)
    busy = 0
    assert str(placement.place_for_chat(1_000, tiny_model().config).device) == "cuda:1"
    busy = -1
    place = placement.place_for_chat(1_000, tiny_model().config)
    assert (place.device.type, place.reason) == ("cpu", "no GPU lets another program in")


def test_a_run_on_the_cpu_of_a_gpu_box_is_one_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: not including_emulation)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0) if device.index == 3 else (7, 5))
    monkeypatch.setattr(placement, "is_flash_attn_2_available", lambda: True)
    model_class = type(tiny_model())
    for use_cpu, dtype, attention in ((True, torch.float32, "sdpa"), (False, torch.bfloat16, "flash_attention_2")):
        config = make(lora={}, training={"use_cpu": use_cpu, "bf16": True})
        assert placement.training_dtype(config) == dtype
        assert placement.attention_for_training(config, model_class, dtype) == attention
    for device, best in (("cpu", "sdpa"), ("cuda:3", "flash_attention_2"), ("cuda:0", "sdpa")):
        assert placement.best_attention(model_class, torch.device(device), is_half=True) == best


def test_bfloat16_that_is_only_imitated_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert placement.training_dtype(make(lora={})) == torch.float32


def test_memory_that_torch_keeps_for_itself_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, figure in (
        ("mem_get_info", (3 << 30, 8 << 30)),
        ("memory_reserved", 4 << 30),
        ("memory_allocated", 1 << 30),
    ):
        monkeypatch.setattr(torch.cuda, name, lambda device, figure=figure: figure)
    assert placement.free_memory(torch.device("cuda:0")) == 6 << 30


def test_whole_layers_beside_an_adapter_are_trained_in_float32_under_mixed_precision(tiny_folder: Path) -> None:
    sections: dict[str, Any] = {
        "model": {"name_or_path": str(tiny_folder), "dtype": "bfloat16"},
        "lora": {"r": 2, "modules_to_save": ["lm_head"]},
    }
    for training, expected in (
        ({"bf16": True, "use_cpu": True}, {torch.float32}),
        ({"use_cpu": True}, {torch.float32, torch.bfloat16}),
    ):
        model = trained(make(**sections, training=training))
        assert {weight.dtype for weight in model.parameters() if weight.requires_grad} == expected
        assert model.get_base_model().model.embed_tokens.weight.dtype == torch.bfloat16


def test_a_weight_in_pieces_tells_its_whole_size() -> None:
    weight = torch.empty(0)
    assert (whole_shape(weight), whole_size(weight)) == ((0,), 0)
    weight.ds_shape, weight.ds_numel = torch.Size([5, 4]), 20  # type: ignore[attr-defined]
    assert (whole_shape(weight), whole_size(weight)) == ((5, 4), 20)
