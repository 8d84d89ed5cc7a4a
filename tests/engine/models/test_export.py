"""An exported folder is the model that was trained, loads without us, and is whole or not there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.engine.tiny import chat_model, save_tiny, tiny_model
from tui_trainer.config.schema import RunConfig
from tui_trainer.config.toml import dump_toml
from tui_trainer.engine.models.bytes_tokenizer import bytes_tokenizer
from tui_trainer.engine.models.export import Exported, export_model
from tui_trainer.engine.models.randomness import seeded
from tui_trainer.engine.trainer.manifest import write_manifest
from tui_trainer.errors import CancelledError, MachineError, RefusedError, UsageError
from tui_trainer.runs import store
from tui_trainer.runs.events import EvalMetrics, StepMetrics
from tui_trainer.runs.journal import JournalWriter
from tui_trainer.runs.layout import RunLayout

IDS = torch.tensor([[1, 2, 3, 4, 250, 17]])
TEMPLATE = "{% for message in messages %}<{{ message.content }}>{% endfor %}"
Checkpoint = Callable[..., RunLayout]


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model.eval()(IDS).logits
    return result


def adapted(base: Path, num_tokens: int | None = None, **fields: Any) -> PeftModel:
    """A model with an adapter that changes what it says."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model.resize_token_embeddings(num_tokens)
    with seeded(1):
        settings: dict[str, Any] = {"r": 4, "target_modules": "all-linear", "init_lora_weights": False} | fields
        changed = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings))
        for name, weight in changed.named_parameters():
            if "modules_to_save" in name:
                weight.data += 0.1 * torch.randn_like(weight)
    changed.peft_config["default"].base_model_name_or_path = str(base)
    return changed


@pytest.fixture
def checkpoint() -> Checkpoint:
    """Saves a model as the only checkpoint of a new run, with what a trainer leaves beside it."""

    def save(trained: Any, new_tokens: Sequence[str] = (), **sections: Any) -> RunLayout:
        config = RunConfig.model_validate({"name": "trial", "data": {"path": "/home/me/secret/rows.jsonl"}} | sections)
        layout = store.create("trial", dump_toml(config.model_dump(mode="json")), {"versions": {"torch": "2.13"}})
        with JournalWriter(layout.events) as journal:
            for event in (StepMetrics(step=7, loss=1.5), EvalMetrics(step=7, extra={"eval_loss": 1.25})):
                journal.write(event)
            journal.write(StepMetrics(step=9, loss=0.5))
        folder = layout.checkpoint(7)
        trained.save_pretrained(folder)
        tokenizer = bytes_tokenizer()
        tokenizer.add_tokens(list(new_tokens))
        tokenizer.chat_template = TEMPLATE
        tokenizer.save_pretrained(folder)
        (folder / "generation_config.json").write_text('{"eos_token_id": [258, 257], "temperature": 0.5}')
        for name in ("optimizer.pt", "rng_state.pth", "trainer_state.json"):
            (folder / name).write_text("{}")
        write_manifest(folder, 7)
        return layout

    return save


def check_companions(folder: Path) -> None:
    """Tokenizer, template and generation settings are those of the checkpoint; nothing of the trainer is there."""
    assert AutoTokenizer.from_pretrained(folder).chat_template == TEMPLATE
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == [258, 257]
    assert not {"optimizer.pt", "rng_state.pth", "trainer_state.json", "manifest.json"} & {
        path.name for path in folder.iterdir()
    }


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if "unfinished" in path.name]


@pytest.mark.parametrize(
    "fields",
    [{}, {"use_dora": True}, {"use_rslora": True, "lora_alpha": 3}, {"modules_to_save": ["lm_head"]}, {"bias": "all"}],
    ids=str,
)
@pytest.mark.parametrize("is_tied", [False, True])
def test_a_merged_model_says_what_base_and_adapter_say(
    tmp_path: Path, checkpoint: Checkpoint, fields: dict[str, Any], is_tied: bool
) -> None:
    base = save_tiny(tmp_path / "base", tie_word_embeddings=is_tied)
    model = adapted(base, **fields)
    layout = checkpoint(model, lora={"r": 4})
    done = export_model("trial@7", tmp_path / "out", is_merged=True)
    assert (done.kind, done.dtype, done.base, done.source.step) == ("merged", "float32", str(base), 7)
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert type(again).__name__ == "LlamaForCausalLM"
    assert (logits(model) - logits(tiny_model(tie_word_embeddings=is_tied))).abs().max() > 0.1
    torch.testing.assert_close(logits(again.double()), logits(model.double()), atol=1e-5, rtol=0)
    assert again.generation_config.eos_token_id == [258, 257]
    check_companions(tmp_path / "out")
    assert done.source.run is not None
    assert done.source.run.id == layout.id


def test_tokens_that_were_added_are_merged_too(tiny_folder: Path, tmp_path: Path, checkpoint: Checkpoint) -> None:
    model = adapted(tiny_folder, 261, modules_to_save=["embed_tokens", "lm_head"])
    checkpoint(model, ["<one>", "<two>"])
    export_model("trial", tmp_path / "out", is_merged=True)
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert (again.config.vocab_size, len(AutoTokenizer.from_pretrained(tmp_path / "out"))) == (261, 261)
    torch.testing.assert_close(logits(again.double()), logits(model.double()), atol=1e-5, rtol=0)


def test_an_adapter_with_added_tokens_can_be_talked_to(tiny_folder: Path, checkpoint: Checkpoint) -> None:
    model = adapted(tiny_folder, 261, modules_to_save=["embed_tokens", "lm_head"])
    checkpoint(model, ["<one>", "<two>"])
    loaded = chat_model("trial")
    torch.testing.assert_close(logits(loaded.model), logits(model), atol=1e-5, rtol=0)


def test_an_adapter_alone_is_copied_as_it_is(tiny_folder: Path, tmp_path: Path, checkpoint: Checkpoint) -> None:
    model = adapted(tiny_folder)
    layout = checkpoint(model, lora={"r": 4})
    done = export_model("trial", tmp_path / "out")
    assert (done.kind, done.dtype) == ("adapter", "float32")
    name = "adapter_model.safetensors"
    assert (tmp_path / "out" / name).read_bytes() == (layout.checkpoint(7) / name).read_bytes()
    torch.testing.assert_close(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "out")), logits(model))
    check_companions(tmp_path / "out")
    assert done.num_bytes == {path.name: path.stat().st_size for path in (tmp_path / "out").iterdir()}


def test_a_whole_model_is_copied_as_it_is(tmp_path: Path, checkpoint: Checkpoint) -> None:
    layout = checkpoint(tiny_model())
    said: list[str] = []
    done = export_model(layout.id, tmp_path / "deep" / "out", is_merged=True, report=lambda task, *_: said.append(task))
    assert (done.kind, done.base) == ("model", None)
    name = "model.safetensors"
    assert (tmp_path / "deep/out" / name).read_bytes() == (layout.checkpoint(7) / name).read_bytes()
    torch.testing.assert_close(
        logits(AutoModelForCausalLM.from_pretrained(tmp_path / "deep/out")), logits(tiny_model())
    )
    check_companions(tmp_path / "deep/out")
    assert "copying, in MiB:" in said


def test_a_sharded_model_is_copied_with_its_index(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path / "shards", max_shard_size="50KB")
    bytes_tokenizer().save_pretrained(tmp_path / "shards")
    done = export_model(str(tmp_path / "shards"), tmp_path / "out")
    assert len([name for name in done.num_bytes if name.endswith(".safetensors")]) > 1
    torch.testing.assert_close(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "out")), logits(tiny_model()))


@pytest.mark.parametrize("kind", ["model", "merged", "adapter"])
def test_another_type(tiny_folder: Path, tmp_path: Path, checkpoint: Checkpoint, kind: str) -> None:
    model = tiny_model() if kind == "model" else adapted(tiny_folder)
    checkpoint(model)
    done = export_model("trial", tmp_path / "out", is_merged=kind == "merged", dtype="bfloat16")
    assert (done.kind, done.dtype) == (kind, "bfloat16")
    name = "adapter_model.safetensors" if kind == "adapter" else "model.safetensors"
    assert {weight.dtype for weight in load_file(tmp_path / "out" / name).values()} == {torch.bfloat16}
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert 0 < (logits(again) - logits(model)).abs().max() < 0.5
    if kind == "merged":
        # only the sum was rounded: as near as weights of that type can be
        whole = adapted(tiny_folder).merge_and_unload().to(torch.bfloat16).float()
        far = (logits(again) - logits(model)).abs().mean() / (logits(whole) - logits(model)).abs().mean()
        assert far < 1.05


def test_only_the_three_types(tiny_folder: Path, tmp_path: Path) -> None:
    for dtype in ("int8", "float64", "none"):
        with pytest.raises(UsageError, match="there is no type"):
            export_model(str(tiny_folder), tmp_path / "out", dtype=dtype)


def test_nothing_is_written_over(tiny_folder: Path, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    assert isinstance(export_model(str(tiny_folder), taken), Exported)
    with pytest.raises(RefusedError, match="not empty"):
        export_model(str(tiny_folder), taken)
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(taken)
    for name in ("file", "link"):
        with pytest.raises(RefusedError, match="no folder"):
            export_model(str(tiny_folder), tmp_path / name)


def test_no_room_is_told_before_anything_is_written(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6 - 100, 100))
    with pytest.raises(MachineError, match=r"need .* are free"):
        export_model(str(tiny_folder), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("moment", ["copying", "loading", "merging", "writing"])
def test_a_cancelled_export_leaves_nothing(
    tiny_folder: Path, tmp_path: Path, checkpoint: Checkpoint, moment: str
) -> None:
    checkpoint(adapted(tiny_folder))

    def report(task: str, done: int | None, total: int | None) -> None:
        if task.startswith(moment):
            raise CancelledError("cancelled")

    with pytest.raises(CancelledError):
        export_model("trial", tmp_path / "out", is_merged=True, report=report)
    assert not (tmp_path / "out").exists()
    assert leftovers(tmp_path) == []


def test_the_card_tells_where_it_came_from_and_nothing_of_the_machine(
    tiny_folder: Path, tmp_path: Path, checkpoint: Checkpoint
) -> None:
    model = {"name_or_path": str(tiny_folder), "quantization": "nf4"}
    layout = checkpoint(adapted(tiny_folder), lora={"r": 4}, model=model, training={"learning_rate": 3e-4})
    export_model("trial", tmp_path / "merged", is_merged=True)
    export_model("trial", tmp_path / "adapter")
    merged, adapter = ((tmp_path / name / "README.md").read_text() for name in ("merged", "adapter"))
    for card in (merged, adapter):
        for fact in (layout.id, "| step | 7 |", "| loss | 1.5 |", "| eval_loss | 1.25 |", "rows.jsonl", "0.0003"):
            assert fact in card
        assert "/home/me" not in card
        assert str(tmp_path) not in card
    assert "library_name: transformers" in merged
    assert "trained on the base in nf4" in merged
    assert "library_name: peft" in adapter
    assert "base_model_name_or_path" in adapter
