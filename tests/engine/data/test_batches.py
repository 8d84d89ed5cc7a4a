"""Batches: equal to `DataCollatorForSeq2Seq` when padded, exact when packed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import DataCollatorForSeq2Seq, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.engine.data.helpers import Lab, run_config, said
from tests.engine.tiny import tiny_model
from tui_trainer.config.data import DataConfig
from tui_trainer.engine.data.batch_view import batch_document
from tui_trainer.engine.data.collate import PackedCollator, PaddedCollator, Padding
from tui_trainer.engine.data.example import example_arrays
from tui_trainer.engine.data.packing import pack, packed_row
from tui_trainer.engine.data.prepare import prepare_data
from tui_trainer.engine.data.preview import preview_document
from tui_trainer.engine.data.session import DataSession
from tui_trainer.engine.models.bytes_tokenizer import bytes_tokenizer
from tui_trainer.engine.trainer.flat import FlatCollator

EXAMPLES = [
    {"input_ids": np.arange(5, 5 + size), "labels": np.array([-100] * (size // 2) + list(range(size - size // 2)))}
    for size in (3, 11, 7, 1)
]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("multiple", [None, 8])
@pytest.mark.parametrize("padding", ["longest", "max_length"])
def test_padding_is_that_of_transformers(
    side: str, multiple: int | None, padding: str, merging_tokenizer: PreTrainedTokenizerFast
) -> None:
    settings: dict[str, Any] = {
        "padding_side": side,
        "pad_to_multiple_of": multiple,
        "padding": padding,
        "max_length": 20,
    }
    ours = PaddedCollator(Padding.of(DataConfig(**settings), merging_tokenizer.pad_token_id))(EXAMPLES)
    merging_tokenizer.padding_side = side
    theirs = DataCollatorForSeq2Seq(
        merging_tokenizer,
        padding=True if padding == "longest" else "max_length",
        max_length=20 if padding == "max_length" else None,
        pad_to_multiple_of=multiple,
    )([{name: values.tolist() for name, values in example.items()} for example in EXAMPLES])
    assert set(ours) == {"input_ids", "attention_mask", "labels"}
    for name, tensor in ours.items():
        assert tensor.dtype == torch.long
        assert torch.equal(tensor, theirs[name]), name


def test_a_pad_token_that_ends_turns_stays_trained(lab: Lab) -> None:
    template = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}</s>{% endfor %}"
    examples = lab.examples([{"messages": said("q", "a")}, {"messages": said("longer question", "longer")}], template)
    eos = lab.tokenizer.eos_token_id
    assert lab.tokenizer.pad_token_id == eos
    batch = PaddedCollator(Padding(lab.tokenizer.padded_with(None)))([example_arrays(example) for example in examples])
    for row, example in enumerate(examples):
        end = example.trained[-1][1] - 1
        assert batch["labels"][row, end] == eos
        assert batch["attention_mask"][row].sum() == example.num_tokens
        assert (batch["labels"][row, example.num_tokens :] == -100).all()


def test_bins_hold_everything_once_and_never_overflow() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 500).tolist()
    bins = pack(lengths, 128, seed=1)
    assert sorted(index for members in bins for index in members) == list(range(500))
    assert all(sum(lengths[index] for index in members) <= 128 for members in bins)
    assert sum(lengths) / (len(bins) * 128) > 0.97
    assert bins == pack(lengths, 128, seed=1)
    assert bins != pack(lengths, 128, seed=2)


def test_longer_than_a_bin_stands_alone() -> None:
    assert sorted(pack([300, 5, 5], 128, seed=0)) == [[0], [1, 2]]


def _losses(model: LlamaForCausalLM, **batch: torch.Tensor) -> torch.Tensor:
    """The loss of each token that has a label, in order."""
    labels = batch.pop("labels")
    logits = model(**batch, use_cache=False).logits[:, :-1]
    targets = labels[:, 1:]
    losses = torch.nn.functional.cross_entropy(
        logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), reduction="none"
    )
    return losses[targets.reshape(-1) != -100]


def test_packed_examples_do_not_see_each_other() -> None:
    generator = np.random.default_rng(0)
    examples = []
    for size in (9, 23, 5, 14):
        ids = generator.integers(0, 256, size)
        examples.append({"input_ids": ids, "labels": np.where(np.arange(size) < size // 3, -100, ids)})
    for example in examples:
        example["labels"][0] = -100
    model = tiny_model(attn_implementation="sdpa")
    model.train()
    bins = [[1, 0], [3, 2]]
    rows = [packed_row([examples[member] for member in members]) for members in bins]
    batch = PackedCollator()(rows)
    assert set(batch) == {"input_ids", "labels", "position_ids"}
    assert batch["position_ids"][0].tolist().count(0) == 4

    packed = _losses(model, **batch)
    packed.sum().backward()  # type: ignore[no-untyped-call]
    packed_gradients = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    model.zero_grad()
    alone = torch.cat(
        [
            _losses(model, **{name: torch.from_numpy(values)[None] for name, values in examples[member].items()})
            for members in bins
            for member in members
        ]
    )
    alone.sum().backward()  # type: ignore[no-untyped-call]
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert packed.shape == alone.shape
    assert (packed - alone).abs().max() < 1e-4
    for ours, theirs in zip(packed_gradients, gradients, strict=True):
        assert theirs is not None
        assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max() + 1e-6


def test_the_first_label_of_each_packed_example_is_ignored() -> None:
    row = packed_row([{"input_ids": np.array([1, 2]), "labels": np.array([1, 2])}] * 2)
    assert row["labels"].tolist() == [-100, 2, -100, 2]
    assert row["position_ids"].tolist() == [0, 1, 0, 1]


WEIGHTED = [
    {"role": "user", "content": "q"},
    {"role": "assistant", "content": "first", "weight": 0.5},
    {"role": "user", "content": "r"},
    {"role": "assistant", "content": "second"},
    {"role": "user", "content": "s"},
    {"role": "assistant", "content": "third", "weight": 0},
]


def test_weights_of_messages_reach_the_batch(write_rows: Any) -> None:
    rows = [{"messages": WEIGHTED}, {"messages": said("q", "a")}]
    path = write_rows(rows)
    config = run_config(path)
    session = DataSession(config)
    shown = preview_document(session, 0, 2, is_whole=True)["rows"]
    weights = {span["text"]: span.get("weight") for span in shown[0]["spans"] if span["trained"]}
    assert weights == {"first<|im_end|>": 0.5, "second<|im_end|>": None}
    assert "loss_weights" not in shown[1]
    data = prepare_data(config, bytes_tokenizer())
    assert data.is_weighted
    items = [data.train[index] for index in range(2)]
    assert items[0]["loss_weights"].tolist() == shown[0]["loss_weights"]
    assert "loss_weights" not in items[1]
    trained = {weight for weight, label in zip(items[0]["loss_weights"], items[0]["labels"], strict=True) if label >= 0}
    assert trained == {0.5, 1.0}
    batch = data.collator(items)
    assert batch["loss_weights"].dtype == torch.float32
    assert batch["loss_weights"][0].tolist() == shown[0]["loss_weights"]
    assert batch["loss_weights"][1].tolist() == [1.0] * batch["labels"].shape[1]
    assert batch_document(session, [0, 1])["loss_weights"] == batch["loss_weights"].tolist()


@pytest.mark.parametrize("settings", [{}, {"truncation": "left"}, {"truncation": "right"}, {"packing": True}])
def test_weights_stay_with_their_tokens(settings: dict[str, Any], write_rows: Any) -> None:
    path = write_rows([{"messages": said("q", "a")}, {"messages": WEIGHTED}])
    data = prepare_data(run_config(path, data={"max_length": 90, **settings}), bytes_tokenizer())
    flat = FlatCollator()([data.train[index] for index in range(len(data.train))])
    targets = flat["labels"][0][flat["target_positions"] + 1]
    light = [int(token) for token, weight in zip(targets, flat["target_weights"], strict=True) if weight == 0.5]
    assert bytes_tokenizer().decode(light) == "first<|im_end|>"
    assert set(flat["target_weights"].tolist()) == {0.5, 1.0}


def test_a_batch_shows_which_row_stands_where(write_rows: Any) -> None:
    path = write_rows([{"messages": said("q", "a" * size)} for size in (3, 9, 6)])
    padded = batch_document(DataSession(run_config(path, data={"padding_side": "left"})), [0, 1])
    assert padded["rows"] == [[0], [1]]
    assert padded["attention_mask"][0][0] == 0
    assert padded["num_padding"] == sum(row.count(0) for row in padded["attention_mask"]) > 0
    assert "position_ids" not in padded
    packed = batch_document(DataSession(run_config(path, data={"packing": True})), [0, 1, 2])
    assert "attention_mask" not in packed
    assert sorted(packed["rows"][0]) == [0, 1, 2]
    starts = [at for at, position in enumerate(packed["position_ids"][0]) if position == 0]
    ends = [*starts[1:], packed["length"]]
    assert [packed["tokens"][0][end - 1] for end in ends] == ["\n"] * 3
    sizes = {row: end - start for row, start, end in zip(packed["rows"][0], starts, ends, strict=True)}
    assert sizes[1] - sizes[0] == 6


@pytest.mark.parametrize(("weight", "says"), [(-1, "is -1, not from 0 to 1e+06"), (float("nan"), "is nan")])
def test_weights_without_sense_are_refused(lab: Lab, weight: float, says: str) -> None:
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "loss_weight": weight}]
    (example,) = lab.examples([{"messages": messages}])
    assert not example.is_usable
    assert says in example.problems[0].message
