"""The loss that is trained on is the one that plain transformers computes, however rows are put into batches."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainingArguments

from tui_trainer.engine.data.collate import PaddedCollator, Padding
from tui_trainer.engine.models.load import load_model_for_training
from tui_trainer.engine.trainer.flat import FlatCollator
from tui_trainer.errors import ConfigurationError, DataError
from tui_trainer.runs.events import EvalMetrics, StepMetrics


def logged(run: Any) -> list[float]:
    run.train()
    return [event.loss for event in run.written(StepMetrics)]


def plain_losses(model: torch.nn.Module, rows: Any, collate: Any, folder: Path, **arguments: Any) -> list[float]:
    """What the library's own trainer logs for padded batches."""
    settings: dict[str, Any] = {
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-3,
        "max_steps": 6,
        "logging_steps": 1,
        "train_sampling_strategy": "sequential",
        "use_cpu": True,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    trainer = Trainer(
        model=model,
        args=TrainingArguments(output_dir=str(folder), **(settings | arguments)),
        train_dataset=rows,
        data_collator=collate,
    )
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def test_first_loss_is_that_of_a_ten_line_script(tiny: Any) -> None:
    rows = tiny.rows(24)
    run = tiny.run(rows=rows)
    model = copy.deepcopy(run.model)
    model.set_attn_implementation("sdpa")
    with torch.no_grad():
        expected = model(**tiny.padded(rows[:4])).loss.item()
    assert isinstance(run.trainer.data_collator, FlatCollator)
    assert logged(run)[0] == pytest.approx(expected, abs=1e-5)


def test_every_loss_is_that_of_the_plain_trainer(tiny: Any, tmp_path: Path) -> None:
    rows = tiny.rows(24)
    run = tiny.run(rows=rows)
    model = copy.deepcopy(run.model)
    model.set_attn_implementation("sdpa")
    expected = plain_losses(model, rows, tiny.padded, tmp_path / "plain")
    found = logged(run)
    assert len(found) == 6
    assert found == pytest.approx(expected, abs=1e-5)
    assert max(abs(found[0] - loss) for loss in found[1:]) > 1e-3


def test_an_adapter_learns_as_with_the_plain_trainer(tiny: Any, tmp_path: Path) -> None:
    rows = tiny.rows(24)
    base = tiny.run(rows=rows, directory="base").model
    base.set_attn_implementation("sdpa")
    torch.manual_seed(1)
    adapted = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    twin = copy.deepcopy(adapted)
    run = tiny.run(rows=rows, model=adapted)
    assert isinstance(run.trainer.data_collator, FlatCollator)
    assert logged(run) == pytest.approx(plain_losses(twin, rows, tiny.padded, tmp_path / "plain"), abs=1e-5)


def test_recomputed_activations_give_an_adapter_the_same_losses(tiny: Any) -> None:
    torch.manual_seed(1)
    base = tiny.run(directory="base").model
    adapted = get_peft_model(base, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    twin = copy.deepcopy(adapted)
    plain = logged(tiny.run(model=adapted, directory="a"))
    saving = logged(tiny.run("training.activation_checkpointing=true", model=twin, directory="b"))
    assert saving == pytest.approx(plain, abs=1e-6)
    assert saving[-1] != pytest.approx(saving[0], abs=1e-4)


def test_accumulated_batches_equal_one_large_batch(tiny: Any) -> None:
    rows = tiny.rows(48)
    large = logged(tiny.run("per_device_train_batch_size=8", rows=rows, directory="a"))
    small = logged(tiny.run("per_device_train_batch_size=2", "gradient_accumulation_steps=4", rows=rows, directory="b"))
    assert small == pytest.approx(large, abs=1e-5)


def test_label_smoothing_is_the_librarys(tiny: Any, tmp_path: Path) -> None:
    rows = tiny.rows(24)
    run = tiny.run("label_smoothing_factor=0.1", rows=rows)
    model = copy.deepcopy(run.model)
    model.set_attn_implementation("sdpa")
    expected = plain_losses(model, rows, tiny.padded, tmp_path / "plain", label_smoothing_factor=0.1)
    assert logged(run)[0] == pytest.approx(expected[0], abs=1e-5)


def pack(rows: list[dict[str, list[int]]]) -> dict[str, list[int]]:
    return {
        "input_ids": [token for row in rows for token in row["input_ids"]],
        "labels": [label for row in rows for label in row["labels"]],
        "position_ids": [position for row in rows for position in range(len(row["input_ids"]))],
    }


def test_packed_rows_learn_as_separate_ones(tiny: Any) -> None:
    rows = tiny.rows(24)
    packs = [pack(rows[start : start + 2]) for start in range(0, len(rows), 2)]
    separate = logged(tiny.run(rows=rows, directory="a"))
    packed = logged(tiny.run("per_device_train_batch_size=2", rows=packs, directory="b"))
    assert packed == pytest.approx(separate, abs=1e-5)


def test_no_sequence_of_a_flat_batch_sees_another(tiny: Any) -> None:
    rows = tiny.rows(3, longest=12)
    other = [{**rows[0], "input_ids": [7] * len(rows[0]["input_ids"])}, *rows[1:]]
    model = tiny.run().model
    batches = [FlatCollator()(chosen) for chosen in (rows, other)]
    with torch.no_grad():
        one, two = (
            model(**{name: value for name, value in batch.items() if name not in ("labels", "target_positions")}).logits
            for batch in batches
        )
    length = len(rows[0]["input_ids"])
    assert torch.equal(one[0, length:], two[0, length:])
    assert not torch.allclose(one[0, :length], two[0, :length])


def test_gradients_of_a_flat_batch_are_those_of_a_padded_one(tiny: Any) -> None:
    rows = tiny.rows(8)
    run = tiny.run()
    model = run.model
    run.trainer.compute_loss(model, FlatCollator()(rows)).backward()
    flat = [weight.grad.clone() for weight in model.parameters()]
    model.zero_grad()
    model.set_attn_implementation("sdpa")
    model(**tiny.padded(rows)).loss.backward()
    for found, weight in zip(flat, model.parameters(), strict=True):
        assert torch.allclose(found, weight.grad, atol=1e-6 + 1e-5 * float(weight.grad.abs().max()))


def test_eval_loss_is_the_mean_over_tokens_at_any_batch_size(tiny: Any) -> None:
    rows = tiny.rows(11, seed=5)
    values = []
    for size in (1, 4, 16):
        run = tiny.run(
            f"per_device_eval_batch_size={size}",
            "eval_on_start=true",
            "data.eval_split=x",
            "max_steps=1",
            eval_rows=rows,
            directory=f"r{size}",
        )
        before = copy.deepcopy(run.model)
        run.train()
        values.append(run.written(EvalMetrics)[0].metrics["eval_loss"])
    before.set_attn_implementation("sdpa")
    with torch.no_grad():
        expected = before(**tiny.padded(rows)).loss.item()
    assert values == pytest.approx([expected] * 3, abs=1e-5)


def test_evaluating_changes_no_training(tiny: Any) -> None:
    model = {"attention_dropout": 0.2}
    table = (
        "model.from_scratch={"
        + ", ".join(
            f"{name} = {value}"
            for name, value in {
                "model_type": '"llama"',
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                **model,
            }.items()
        )
        + "}"
    )
    quiet = logged(tiny.run(table, directory="a"))
    asked = tiny.run(
        table,
        "data.eval_split=x",
        "eval_strategy=steps",
        "eval_steps=1",
        "eval_on_start=true",
        'sampling.prompts=["hello"]',
        "sampling.max_tokens=4",
        eval_rows=tiny.rows(6, seed=9),
        directory="b",
    )
    assert logged(asked) == quiet
    assert len(asked.written(EvalMetrics)) == 7


def test_a_model_with_a_short_window_gets_padded_batches(tiny: Any) -> None:
    table = (
        'model.from_scratch={model_type = "mistral", hidden_size = 32, intermediate_size = 64, num_hidden_layers = 1, '
        "num_attention_heads = 4, num_key_value_heads = 2, sliding_window = 16}"
    )
    run = tiny.run(table)
    assert run.trainer.data_collator is tiny.padded
    wide = tiny.run(table.replace("sliding_window = 16", "sliding_window = 64"), directory="wide")
    assert isinstance(wide.trainer.data_collator, FlatCollator)


def test_a_model_that_carries_a_state_along_the_row_gets_padded_batches_and_no_packing(tiny: Any) -> None:
    table = (
        'model.from_scratch={model_type = "mamba2", hidden_size = 32, num_hidden_layers = 1, num_heads = 4, '
        "head_dim = 16, state_size = 8, n_groups = 1, expand = 2, chunk_size = 8}"
    )
    assert tiny.run(table).trainer.data_collator is tiny.padded
    with pytest.raises(ConfigurationError, match="see each other"):
        tiny.run(table, "data.packing=true", directory="packed")


def test_load_model_is_repeatable(tiny: Any) -> None:
    run = tiny.run()
    again = load_model_for_training(run.config, run.tokenizer)
    pairs = zip(run.model.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def weighted(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every second row with a weight for each token, some of them 0.25 and some 3."""
    return [
        {**row, "loss_weights": np.where(np.arange(len(row["input_ids"])) % 3, 0.25, 3.0).astype(np.float32)}
        if number % 2
        else row
        for number, row in enumerate(rows)
    ]


def weighted_mean(model: torch.nn.Module, rows: list[dict[str, Any]]) -> float:
    """The loss by its definition, one token after the other."""
    total = norm = 0.0
    for row in rows:
        logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0].log_softmax(-1)
        for place, label in enumerate(row["labels"][1:]):
            if label != -100:
                weight = float(row["loss_weights"][place + 1]) if "loss_weights" in row else 1.0
                total -= weight * float(logits[place, label])
                norm += weight
    return total / norm


@pytest.mark.parametrize("sizes", [(4, 1), (1, 4)])
@pytest.mark.parametrize("is_flat", [True, False])
def test_weights_make_the_loss_a_weighted_mean(tiny: Any, sizes: tuple[int, int], is_flat: bool) -> None:
    rows = weighted(tiny.rows(8))
    run = tiny.run(f"per_device_train_batch_size={sizes[0]}", f"gradient_accumulation_steps={sizes[1]}", rows=rows)
    if not is_flat:
        run.trainer.data_collator = PaddedCollator(Padding(256))
    model = copy.deepcopy(run.model)
    model.set_attn_implementation("sdpa")
    with torch.no_grad():
        expected, plain = weighted_mean(model, rows[:4]), model(**tiny.padded(rows[:4])).loss.item()
    assert abs(expected - plain) > 1e-3
    assert logged(run)[0] == pytest.approx(expected, abs=1e-5)


def test_weights_of_one_change_nothing(tiny: Any) -> None:
    rows = tiny.rows(24)
    ones = [{**row, "loss_weights": np.ones(len(row["input_ids"]), dtype=np.float32)} for row in rows]
    assert logged(tiny.run(rows=ones, directory="a")) == pytest.approx(
        logged(tiny.run(rows=rows, directory="b")), abs=1e-6
    )


def test_eval_loss_is_weighted_too(tiny: Any) -> None:
    rows = weighted(tiny.rows(6, seed=5))
    run = tiny.run("eval_on_start=true", "data.eval_split=x", "max_steps=1", eval_rows=rows)
    run.trainer.eval_collator = PaddedCollator(Padding(256))
    before = copy.deepcopy(run.model)
    run.train()
    before.set_attn_implementation("sdpa")
    with torch.no_grad():
        expected = weighted_mean(before, rows)
    assert run.written(EvalMetrics)[0].metrics["eval_loss"] == pytest.approx(expected, abs=1e-5)


def test_a_loss_with_other_terms_cannot_be_weighted(tiny: Any) -> None:
    table = (
        'model.from_scratch={model_type = "mixtral", hidden_size = 32, intermediate_size = 32, num_hidden_layers = 1, '
        "num_attention_heads = 4, num_key_value_heads = 2, num_local_experts = 2, output_router_logits = true}"
    )
    run = tiny.run(table, rows=weighted(tiny.rows(8)))
    run.trainer.data_collator = PaddedCollator(Padding(256))
    with pytest.raises(DataError, match="a term for the experts"):
        run.train()
